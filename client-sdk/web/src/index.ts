// The SDK for web pages, mini-programs, uni-app and Node, on mqtt over WebSocket.

export { Client, MESSAGE_TOPIC } from "./client.js";
export type { HeartbeatState, NetworkState, Options, Registration, VendorPush } from "./client.js";
export type { LossReason } from "./connection.js";
export { ClientError } from "./errors.js";
export type { ErrorKind } from "./errors.js";
export type { Network, Radio } from "./heartbeat.js";
export type { InboxLimits } from "./inbox.js";
export type { Content, Message } from "./message.js";
export type { OutboxLimits, OutboxState, PushHints } from "./outbox.js";
export type { Backoff } from "./reconnect.js";
export type { InboxMessage, InboxPage, InboxQuery, InboxState, UserInbox } from "./user_inbox.js";
export { webSocket } from "./socket.js";
export type { Socket, SocketFactory } from "./socket.js";
export { IndexedDbStorage, KeyValueStorage, MemoryStorage, pageStorage } from "./storage.js";
export type { KeyValue, Storage } from "./storage.js";
