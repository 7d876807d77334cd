// One network connection: mqtt.js from CONNECT to the end, with acknowledgements and pings in our hands.
//
// What mqtt.js 5.16 does, and what is done about it here:
// - It acknowledges a QoS 1 message as soon as its handler returns, and reads nothing while a handler waits. Here a
//   message may be with the app for long while other packets flow: mqtt.js's own PUBACK is swallowed, ours is sent.
// - It pings by a fixed interval of its own. Here the heartbeat decides: its manager is not set up.
// - What is in flight it forgets or repeats by its own rules. It lives for one connection; the client remembers.
// Two methods that mqtt.js calls private are replaced for this, so package.json names its exact version.

import mqtt, { type IConnackPacket, type IPublishPacket, type MqttClient, type Packet } from "mqtt";
import type { Socket, SocketFactory } from "./socket.js";
import type { Cause } from "./reconnect.js";

/** Why a connection, or an attempt, ended. */
export type LossReason =
  | { kind: "network"; detail: string }
  | { kind: "closed-by-broker" }
  | { kind: "timed-out" }
  | { kind: "silent" }
  | { kind: "refused"; reasonCode: number }
  | { kind: "ended"; reasonCode: number }
  | { kind: "network-changed" }
  | { kind: "protocol"; detail: string };

const TAKEN_OVER = 0x8e;

export function causeOf(reason: LossReason): Cause {
  if (reason.kind === "ended" && reason.reasonCode === TAKEN_OVER) return "taken-over";
  if (reason.kind === "closed-by-broker") return "closed";
  return ["refused", "ended", "protocol"].includes(reason.kind) ? "broker" : "network";
}

export interface ConnectionOptions {
  url: string;
  socket: SocketFactory;
  clientId: string;
  userName: string | undefined;
  password: string | undefined;
  keepAliveS: number;
  connectTimeoutMs: number;
  sessionExpiryS: number;
  receiveMaximum: number;
  cleanStart: boolean;
  /** User properties of CONNECT. */
  userProperties: Record<string, string>;
}

export interface Events {
  connected(connack: IConnackPacket): void;
  /** A PUBLISH came. */
  published(packet: IPublishPacket): void;
  /** Any packet came, or one other than a ping was written. */
  received(): void;
  wrote(): void;
  /** Comes once, at the end. */
  lost(reason: LossReason): void;
}

/** What is replaced, and called, inside of mqtt.js. */
interface Internals {
  _sendPacket(packet: Packet, done?: () => void, ...more: unknown[]): void;
  _setupKeepaliveManager(): void;
}

export class Connection {
  readonly #client: MqttClient;
  readonly #send: Internals["_sendPacket"];
  readonly #events: Events;
  /** The identifier that mqtt.js takes for the next packet. */
  #nextPacketId = 0;
  #reason: LossReason | undefined;
  #hasConnected = false;
  #isOver = false;

  constructor(options: ConnectionOptions, events: Events) {
    this.#events = events;
    const packetIds = {
      allocate: () => this.#nextPacketId,
      getLastAllocated: () => this.#nextPacketId,
      register: () => true,
      deallocate: () => {},
      clear: () => {},
    };
    this.#client = mqtt.connect({ ...brokerOf(options), ...settings(options), messageIdProvider: packetIds });
    const internals = this.#client as unknown as Internals;
    const send = internals._sendPacket.bind(this.#client);
    this.#send = send;
    internals._sendPacket = (packet, done, ...more) =>
      packet.cmd === "puback" ? done?.() : send(packet, done, ...more);
    internals._setupKeepaliveManager = () => {};
    this.#listen();
  }

  /** Publishes; the promise ends with the reason code of PUBACK, or when QoS 0 is written. Never after the loss. */
  publish(packet: Pick<IPublishPacket, "topic" | "payload" | "qos" | "retain" | "dup" | "properties">, packetId: number): Promise<number> {
    this.#nextPacketId = packetId;
    const { topic, payload, properties, ...flags } = packet;
    return new Promise((resolve) => {
      const done = (error?: Error | null) => this.#answer(resolve, error);
      const bytes = typeof payload === "string" ? payload : asBuffer(payload);
      this.#client.publish(topic, bytes as string, { ...flags, ...(properties && { properties }) }, done);
    });
  }

  /** Subscribes; the promise ends with the granted QoS or the reason code. Never after the loss. */
  subscribe(filter: string, qos: 0 | 1, packetId: number): Promise<number> {
    this.#nextPacketId = packetId;
    return new Promise((resolve) => {
      this.#client.subscribe(filter, { qos }, (error, granted) => {
        this.#answer(resolve, error, granted?.[0]?.qos);
      });
    });
  }

  unsubscribe(filter: string, packetId: number): Promise<number> {
    this.#nextPacketId = packetId;
    return new Promise((resolve) => {
      this.#client.unsubscribe(filter, (error?: Error | null) => this.#answer(resolve, error));
    });
  }

  acknowledge(packetId: number): void {
    if (!this.#isOver) this.#send({ cmd: "puback", messageId: packetId, reasonCode: 0 });
  }

  ping(): void {
    this.#client.sendPing();
  }

  /** Gives the connection up without a word. */
  end(reason: LossReason): void {
    this.#reason ??= reason;
    this.#client.end(true);
    this.#over();
  }

  /** DISCONNECT, so that the broker keeps the session but sends no will. */
  async sayGoodbye(timeoutMs: number): Promise<void> {
    this.#reason ??= { kind: "closed-by-broker" };
    let timer: ReturnType<typeof setTimeout> | undefined;
    const timeout = new Promise<void>((resolve) => (timer = setTimeout(resolve, timeoutMs)));
    const written = new Promise<void>((resolve) => {
      this.#client.once("close", () => resolve());
      this.#send({ cmd: "disconnect" }, () => this.#client.stream.end());
    });
    await Promise.race([written, timeout]);
    clearTimeout(timer);
    this.end({ kind: "closed-by-broker" });
  }

  #listen(): void {
    const client = this.#client;
    client.on("connect", (connack) => {
      this.#hasConnected = true;
      if (!this.#isOver) this.#events.connected(connack);
    });
    client.on("message", (_topic, _payload, packet) => this.#isOver || this.#events.published(packet));
    client.on("packetreceive", () => this.#events.received());
    client.on("packetsend", (packet) => packet.cmd === "pingreq" || this.#events.wrote());
    client.on("disconnect", (packet) => (this.#reason ??= { kind: "ended", reasonCode: packet.reasonCode ?? 0 }));
    client.on("error", (error) => {
      this.#reason ??= reasonOf(error, client.connected);
      this.end(this.#reason);
    });
    client.on("close", () => this.#over());
  }

  #over(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const unopened: LossReason = { kind: "network", detail: "no connection to the broker" };
    this.#events.lost(this.#reason ?? (this.#hasConnected ? { kind: "closed-by-broker" } : unopened));
  }

  /** An error without a reason code is the end of the connection, which is told elsewhere. */
  #answer(resolve: (reasonCode: number) => void, error: unknown, granted = 0): void {
    const code = codeOf(error);
    if (error && code === undefined) return;
    resolve(code ?? granted);
  }
}

function codeOf(error: unknown): number | undefined {
  const code = (error as { code?: unknown } | null | undefined)?.code;
  return typeof code === "number" ? code : undefined;
}

function reasonOf(error: Error, isConnected: boolean): LossReason {
  const code = codeOf(error);
  if (code !== undefined && !isConnected) return { kind: "refused", reasonCode: code };
  if (error.message === "connack timeout") return { kind: "timed-out" };
  const isOfTheSystem = "code" in error || "event" in error;
  return isOfTheSystem ? { kind: "network", detail: error.message } : { kind: "protocol", detail: error.message };
}

/** The address in parts: mini-programs have no URL class. */
function brokerOf({ url }: ConnectionOptions) {
  const parts = /^(wss?):\/\/(\[[^\]]+\]|[^:/?#]+)(?::(\d+))?([/?].*)?$/.exec(url);
  const protocol = parts?.[1] === "wss" ? ("wss" as const) : ("ws" as const);
  const port = Number(parts?.[3] ?? (protocol === "wss" ? 443 : 80));
  return { protocol, hostname: parts?.[2] ?? "", port, path: parts?.[4] ?? "/" };
}

export function isWebSocketUrl(url: string): boolean {
  return /^wss?:\/\/[^/?#]/.test(url);
}

function settings(options: ConnectionOptions) {
  return {
    protocolVersion: 5 as const,
    clientId: options.clientId,
    ...(options.userName !== undefined && { username: options.userName }),
    ...(options.password !== undefined && { password: options.password }),
    clean: options.cleanStart,
    keepalive: options.keepAliveS,
    connectTimeout: options.connectTimeoutMs,
    reconnectPeriod: 0,
    resubscribe: false,
    queueQoSZero: false,
    forceNativeWebSocket: true, // one way for pages, Node and mini-programs: the socket that is given
    createWebsocket: (url: string, protocols: string[]) => options.socket(url, protocols[0] ?? "mqtt") as Socket,
    properties: {
      sessionExpiryInterval: options.sessionExpiryS,
      receiveMaximum: options.receiveMaximum,
      userProperties: options.userProperties,
    },
  };
}

/** mqtt-packet writes any Uint8Array; its types want Node's. */
function asBuffer(bytes: Uint8Array): Uint8Array {
  return typeof Buffer === "undefined" ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
