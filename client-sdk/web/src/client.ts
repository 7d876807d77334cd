// A device: receives, registers, reports, publishes. The same names and events as the Rust library.

import type { IConnackPacket, IPublishPacket } from "mqtt";
import { type LossReason, Connection, causeOf, isWebSocketUrl } from "./connection.js";
import { ClientError, closed, refused } from "./errors.js";
import {
  type Config, type Network, CEILING_S, CONFIG_PROPERTY, CONFIG_TOPIC, REPORT_TOPIC, UNKNOWN_NETWORK, helloProperties, isHopeless, isLabel, parseConfig,
} from "./heartbeat.js";
import { parseId } from "./ids.js";
import { type InboxLimits, INBOX_LIMITS, Inbox } from "./inbox.js";
import { Learner } from "./learner.js";
import { type Content, type Message, EVENT_TOPIC, MESSAGE_TOPIC, REGISTER_TOPIC, last, readContent } from "./message.js";
import { type OutboxLimits, type OutboxState, type Posted, type PushHints, OUTBOX_LIMITS, Outbox, ttlLeftS } from "./outbox.js";
import { Pulse } from "./pulse.js";
import { Queue } from "./queue.js";
import { type Delivery, Received } from "./received.js";
import { type Backoff, BACKOFF, Reconnect } from "./reconnect.js";
import { type Sent, Sending } from "./sending.js";
import { type SocketFactory, webSocket } from "./socket.js";
import { type Storage, MemoryStorage } from "./storage.js";
import { decode, encode } from "./text.js";
import { INBOX_ASK_TOPIC, INBOX_TOPIC, UserInbox } from "./user_inbox.js";

/** How to connect. Everything but the first two has a default. */
export interface Options {
  /** Where the broker speaks MQTT over WebSocket, for example `wss://push.example.com/mqtt`. */
  url: string;
  /** The device's name: stable, one per installation. */
  clientId: string;
  /** Both or none. */
  userName?: string;
  password?: string;
  /** The page's WebSocket otherwise. */
  socket?: SocketFactory;
  /** Where inbox, outbox and what the heartbeat learned are kept; memory otherwise. */
  storage?: Storage;
  /** The network the device is on, as far as the app knows. */
  network?: Network;
  /** How long a beat may stay unanswered; 10 s. */
  pingTimeoutMs?: number;
  /** How long one attempt may take; 10 s. */
  connectTimeoutMs?: number;
  /** How long the broker keeps the session of a device that is away; 7 days. */
  sessionExpiryS?: number;
  /** Discards an earlier session when this client connects first. */
  cleanStart?: boolean;
  /** How many messages the app may have unhandled before the broker waits; 64. */
  receiveMaximum?: number;
  /** How many publishes may be unacknowledged at once; 64. */
  inFlightMax?: number;
  /** How many publishes wait in memory before `publish` makes its caller wait; 256. */
  outgoingMax?: number;
  /** How many QoS 0 messages wait for the app; further ones are dropped and counted; 256. */
  incomingMax?: number;
  backoff?: Backoff;
  inboxLimits?: InboxLimits;
  outboxLimits?: OutboxLimits;
}

/** Where the connection stands. */
export type NetworkState =
  | { kind: "connecting" }
  | { kind: "online"; sessionPresent: boolean }
  | { kind: "waiting"; retryInMs: number; reason: LossReason }
  | { kind: "closed" };

/** What is known about the heartbeat: the network told of last, the wait now, the longest silence survived there. */
export interface HeartbeatState {
  network: string;
  intervalS: number;
  survivedS: number;
}

/** What a device tells about itself; vendor and token come together. */
export interface Registration {
  vendor?: string;
  token?: string;
  platform?: string;
  appVersion?: string;
  language?: string;
  timezone?: string;
}

export type VendorPush = "show" | "duplicate";

/** Posted messages on their way at once; the rest of the room belongs to publishes. */
const POSTED_IN_FLIGHT_MAX = 16;
/** States that wait to be asked for; older ones are left out. */
const STATES_MAX = 16;
/** Filters of one client. */
const SUBSCRIPTIONS_MAX = 1_024;
/** How long a DISCONNECT may take when the client closes. */
const GOODBYE_MAX_MS = 2_000;
/** Reason codes of a broker that may take the same message later. */
const PASSING = [0x80, 0x83, 0x97];

export class Client {
  readonly #options: Required<Omit<Options, "userName" | "password">> & Pick<Options, "userName" | "password">;
  readonly #prefix: string;
  readonly #inbox: Inbox;
  readonly #outbox: Outbox;
  readonly #learner: Learner;
  readonly #pulse: Pulse;
  readonly #reconnect: Reconnect;
  readonly #received = new Received();
  readonly #sending: Sending;
  readonly #userInbox = new UserInbox((payload) => this.publish(INBOX_ASK_TOPIC, payload));
  readonly #messages = new Queue<Message>();
  readonly #states = new Queue<NetworkState>(STATES_MAX);
  /** Granted subscriptions, asked again when the broker lost the session. */
  readonly #subscriptions = new Map<string, 0 | 1>();
  #registration: string | undefined;
  #network: NetworkState = { kind: "connecting" };
  #connection: Connection | undefined;
  #hasConnected = false;
  #dropped = 0;
  #postedInFlight = 0;
  #isPaused = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #onlineWaiters = new Set<{ resolve: () => void; reject: (error: ClientError) => void }>();

  /** Reads what is stored, begins to connect, and returns. Network trouble is no error: look at `network`. */
  static async connect(options: Options): Promise<Client> {
    check(options);
    const storage = options.storage ?? new MemoryStorage();
    const prefix = `reveille/1/${options.clientId}/`;
    const inbox = new Inbox(options.inboxLimits ?? INBOX_LIMITS);
    const handled = (await storage.load(`${prefix}inbox/`)).map(([key, at]) => [key, Number(at)] as const);
    for (const [key, at] of handled.sort((left, right) => left[1] - right[1])) {
      inbox.handled(key.slice(`${prefix}inbox/`.length), at);
    }
    const outbox = await Outbox.open(storage, `${prefix}outbox/`, options.outboxLimits ?? OUTBOX_LIMITS);
    const [learned] = await storage.load(`${prefix}heartbeat`);
    const client = new Client(options, storage, prefix, inbox, outbox, learned?.[1]);
    client.#attempt();
    return client;
  }

  private constructor(options: Options, storage: Storage, prefix: string, inbox: Inbox, outbox: Outbox, learned?: string) {
    this.#options = {
      socket: webSocket, network: UNKNOWN_NETWORK, pingTimeoutMs: 10_000, connectTimeoutMs: 10_000,
      sessionExpiryS: 7 * 24 * 3_600, cleanStart: false, receiveMaximum: 64, inFlightMax: 64, outgoingMax: 256, incomingMax: 256,
      backoff: BACKOFF, inboxLimits: INBOX_LIMITS, outboxLimits: OUTBOX_LIMITS, ...options, storage,
    };
    this.#prefix = prefix;
    this.#inbox = inbox;
    this.#outbox = outbox;
    this.#learner = new Learner(this.#options.network, learned);
    this.#pulse = new Pulse(this.#learner, this.#options.pingTimeoutMs);
    this.#reconnect = new Reconnect(this.#options.backoff);
    this.#sending = new Sending(this.#options.inFlightMax, this.#options.outgoingMax);
  }

  // --- what the app asks

  /** Waits for the next message; nothing once the client is closed and no message is left. */
  nextMessage(): Promise<Message | undefined> {
    return this.#messages.next();
  }

  /** The messages one after the other, until the client is closed. */
  async *messages(): AsyncGenerator<Message, void, void> {
    for (let message = await this.nextMessage(); message; message = await this.nextMessage()) yield message;
  }

  /** Where the connection stands now. */
  get network(): NetworkState {
    return this.#network;
  }

  /** The state now at the first call, then each next one; "closed" is the last, then nothing. */
  nextNetwork(): Promise<NetworkState | undefined> {
    return this.#states.next();
  }

  /** Waits until messages flow. */
  async online(): Promise<void> {
    if (this.#network.kind === "online") return;
    this.#check();
    await new Promise<void>((resolve, reject) => this.#onlineWaiters.add({ resolve, reject }));
  }

  /**
   * The platform reports a network: the old connection is given up and a new one is tried at once, with the heartbeat that
   * was learned there.
   */
  networkChanged(network: Network = UNKNOWN_NETWORK): void {
    if (this.#network.kind === "closed") return;
    if (!isLabel(network.label)) throw new ClientError("options", "a label has up to 32 letters, digits, - and _");
    this.#pulse.networkChanged(network);
    this.#reconnect.networkChanged();
    if (this.#connection) this.#connection.end({ kind: "network-changed" });
    else this.#attempt();
  }

  /** The user looks at the app: the connection is checked at once, beats come every minute. */
  foreground(): void {
    this.#pulse.setForeground(true, Date.now());
    this.#schedule();
  }

  /** The user no longer looks, which is also how a client begins: beats come as seldom as the network allows. */
  background(): void {
    this.#pulse.setForeground(false, Date.now());
    this.#schedule();
  }

  /** There is reason to think that the connection is dead although it looks alive: it must answer within two seconds. */
  checkConnection(): void {
    this.#pulse.check(Date.now());
    this.#schedule();
  }

  /** What is known about the heartbeat now. */
  heartbeat(): HeartbeatState {
    return this.#pulse.state();
  }

  /** Subscribes with QoS 0 or 1; the answer is the granted QoS. Waits for the network if need be. */
  async subscribe(filter: string, qos: 0 | 1 = 1): Promise<0 | 1> {
    this.#check();
    checkTopic(filter, isFilter(filter), "filter");
    if (this.#subscriptions.size >= SUBSCRIPTIONS_MAX) throw refused(0x97);
    const code = await this.#sending.ask({ kind: "subscribe", filter, qos });
    if (code >= 0x80) throw refused(code);
    this.#subscriptions.set(filter, qos);
    return code === 0 ? 0 : 1;
  }

  /** Ends a subscription. */
  async unsubscribe(filter: string): Promise<void> {
    this.#check();
    checkTopic(filter, isFilter(filter), "filter");
    const code = await this.#sending.ask({ kind: "unsubscribe", filter });
    if (code >= 0x80) throw refused(code);
    this.#subscriptions.delete(filter);
  }

  /** Tells device token and attributes; returns when the broker has them. Sent again when the broker lost the session. */
  async register({ vendor, token, platform, appVersion, language, timezone }: Registration): Promise<void> {
    const address = vendor !== undefined && token !== undefined ? { vendor, token } : {};
    const json = JSON.stringify({ ...address, platform, app_version: appVersion, language, timezone });
    await this.publish(REGISTER_TOPIC, json);
    this.#registration = json;
  }

  /** Reports what became of a message. */
  shown(id: string): Promise<void> {
    return this.#report(id, "shown");
  }

  clicked(id: string): Promise<void> {
    return this.#report(id, "clicked");
  }

  dismissed(id: string): Promise<void> {
    return this.#report(id, "dismissed");
  }

  /** Publishes, and returns when the broker has it (QoS 1) or it is written (QoS 0), however many reconnects that takes. */
  async publish(topic: string, payload: string | Uint8Array, qos: 0 | 1 = 1, hints: PushHints = {}): Promise<void> {
    this.#check();
    checkTopic(topic, isTopicName(topic), "name");
    await this.#sending.room();
    const code = await this.#sending.publish({ topic, payload, qos, properties: propertiesOf(hints) });
    if (code >= 0x80) throw refused(code);
  }

  /**
   * Puts a message into the outbox and returns its id when it is stored: it goes out with QoS 1 whenever the network
   * allows, in the order of posting, also after the page or app was closed, when `storage` outlives it.
   */
  async post(topic: string, payload: string | Uint8Array, hints: PushHints = {}): Promise<string> {
    this.#check();
    checkTopic(topic, isTopicName(topic), "name");
    const bytes = typeof payload === "string" ? encode(payload) : payload;
    const id = await this.#outbox.post(topic, bytes, hints, Date.now());
    this.#sendPosted();
    return id;
  }

  /** What the outbox holds now. */
  outbox(): OutboxState {
    return this.#outbox.state();
  }

  /**
   * A vendor's push brought the message with this id (`mid` in its data): may it be shown? After "show" the app owes
   * `handled`, also when it decides against showing. The connection is checked, since it should have brought the message itself.
   */
  async vendorPushReceived(id: string): Promise<VendorPush> {
    this.#check();
    this.checkConnection();
    return this.#inbox.accept(checkId(id), Date.now()) === "show" ? "show" : "duplicate";
  }

  /** Says by id that the app is done with a message, however it came. */
  async handled(id: string): Promise<void> {
    this.#check();
    await this.#handledId(checkId(id));
  }

  /** The inbox of the device's user: what the business keeps for reading. */
  get inbox(): UserInbox {
    return this.#userInbox;
  }

  /** How many messages found no room because the app took them too slowly. */
  dropped(): number {
    return this.#dropped;
  }

  /** Says goodbye and ends: the session stays, no will is sent. What waits ends with an error. */
  async close(): Promise<void> {
    if (this.#network.kind === "closed") return;
    const connection = this.#network.kind === "online" ? this.#connection : undefined;
    this.#tell({ kind: "closed" });
    clearTimeout(this.#timer);
    if (connection) await connection.sayGoodbye(GOODBYE_MAX_MS);
    else this.#connection?.end({ kind: "closed-by-broker" });
    this.#sending.close();
    this.#messages.close();
    this.#states.close();
    this.#userInbox.close();
    this.#onlineWaiters.forEach(({ reject }) => reject(closed()));
    this.#onlineWaiters.clear();
  }

  // --- the connection

  #attempt(): void {
    clearTimeout(this.#timer);
    this.#tell({ kind: "connecting" });
    const { url, socket, clientId, userName, password, connectTimeoutMs, sessionExpiryS, receiveMaximum } = this.#options;
    this.#learner.arrive(this.#pulse.network);
    const bracket = this.#learner.bracket();
    const { network } = this.#pulse;
    this.#connection = new Connection(
      {
        url, socket, clientId, userName, password, connectTimeoutMs, sessionExpiryS, receiveMaximum,
        keepAliveS: CEILING_S,
        cleanStart: this.#options.cleanStart && !this.#hasConnected,
        userProperties: helloProperties(network, bracket.lo || undefined, this.#learner.latenessP95S, isHopeless(bracket)),
      },
      {
        connected: (connack) => this.#onConnected(connack),
        published: (packet) => this.#onPublish(packet),
        received: () => this.#pulse.received(Date.now()),
        wrote: () => this.#pulse.wrote(Date.now()),
        lost: (reason) => this.#onLost(reason),
      },
    );
  }

  #onConnected(connack: IConnackPacket): void {
    const now = Date.now();
    const { sessionPresent, properties } = connack;
    const told = last(properties?.userProperties?.[CONFIG_PROPERTY] as string | string[] | undefined);
    const advice = told === undefined ? undefined : parseConfig(told);
    this.#pulse.connected(properties?.serverKeepAlive || CEILING_S, advice, now);
    this.#reconnect.connected(now);
    if (advice) this.#reconnect.advised(1_000 * advice.windowS);
    this.#received.connected(sessionPresent);
    if (this.#hasConnected && !sessionPresent) this.#restoreSession();
    this.#hasConnected = true;
    this.#tell({ kind: "online", sessionPresent });
    this.#onlineWaiters.forEach(({ resolve }) => resolve());
    this.#onlineWaiters.clear();
    this.#sending.connected(this.#connection as Connection, sessionPresent, properties);
    this.#sendPosted();
    this.#userInbox.connected();
    this.#schedule();
  }

  #onLost(reason: LossReason): void {
    this.#connection = undefined;
    this.#pulse.lost();
    this.#sending.lost();
    this.#received.lost();
    if (this.#network.kind === "closed") return;
    if (reason.kind !== "network-changed") this.#reconnect.lost(causeOf(reason), Date.now());
    const retryInMs = this.#reconnect.waitMs(Math.random());
    this.#tell({ kind: "waiting", retryInMs, reason });
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#attempt(), retryInMs);
    void this.#options.storage.put(`${this.#prefix}heartbeat`, this.#learner.saved()).catch(() => {}); // learned again
  }

  /** The broker lost the session: subscriptions and registration come before everything that waits. */
  #restoreSession(): void {
    if (this.#registration !== undefined) this.#sending.first({ topic: REGISTER_TOPIC, payload: this.#registration, qos: 1 });
    this.#subscriptions.forEach((qos, filter) => void this.#sending.ask({ kind: "subscribe", filter, qos }).catch(() => {}));
  }

  #tell(state: NetworkState): void {
    this.#network = state;
    this.#states.push(state);
  }

  // --- heartbeat

  /** The timer may ring early, because something went meanwhile: then it is set anew. */
  #schedule(): void {
    const deadlineMs = this.#pulse.deadlineMs();
    if (this.#network.kind !== "online" || deadlineMs === undefined) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#onTimer(), Math.max(deadlineMs - Date.now(), 0));
  }

  #onTimer(): void {
    const due = this.#pulse.due(Date.now());
    if (due === "dead") return this.#connection?.end({ kind: "silent" });
    if (due === "beat") this.#beat();
    this.#schedule();
  }

  #beat(): void {
    const beat = this.#pulse.beat();
    if (beat.kind === "ping") {
      this.#connection?.ping();
    } else {
      // A broker that refuses the report has answered all the same.
      this.#sending.first({ topic: REPORT_TOPIC, payload: beat.text, qos: 1 }, () => this.#pulse.reportAcknowledged());
    }
    this.#pulse.asked(Date.now());
  }

  // --- messages

  #onPublish(packet: IPublishPacket): void {
    if (packet.topic === CONFIG_TOPIC) {
      const config = parseConfig(decode(readContent(packet).payload));
      if (config) this.#onAdvice(config);
      return;
    }
    const content = readContent(packet);
    if (packet.topic === INBOX_TOPIC && packet.qos === 1 && packet.messageId !== undefined) {
      this.#connection?.acknowledge(packet.messageId);
      this.#userInbox.take(content.payload);
      return;
    }
    if (packet.qos === 0 || packet.messageId === undefined) {
      const isNew = content.id === undefined || this.#inbox.accept(content.id, Date.now()) === "show";
      if (this.#messages.length >= this.#options.incomingMax) this.#dropped += 1;
      else if (isNew) this.#deliver(content, undefined);
      return;
    }
    const arrival = this.#received.arrived(packet.messageId, packet.dup, content.id);
    if (arrival.kind === "acknowledge") this.#connection?.acknowledge(packet.messageId);
    if (arrival.kind !== "fresh") return;
    const acceptance = content.id === undefined ? "show" : this.#inbox.accept(content.id, Date.now());
    if (acceptance === "show") this.#deliver(content, arrival.delivery);
    if (acceptance === "duplicate") this.#acknowledge([this.#received.handled(arrival.delivery)]);
  }

  #onAdvice(config: Config): void {
    this.#pulse.advised(config);
    this.#reconnect.advised(1_000 * config.windowS);
    this.#schedule();
  }

  #deliver(content: Content, delivery: Delivery | undefined): void {
    if (content.isInInbox) this.#userInbox.changed();
    let isOver = false;
    const once = (work: () => Promise<void>) => {
      if (isOver) return Promise.resolve();
      isOver = true;
      return work();
    };
    this.#messages.push({
      ...content,
      text: () => decode(content.payload),
      handled: () => once(() => this.#handled(content.id, delivery)),
      giveBack: () => void once(async () => this.#givenBack(content.id, delivery)),
    });
  }

  async #handled(id: string | undefined, delivery: Delivery | undefined): Promise<void> {
    this.#check();
    if (id !== undefined) await this.#handledId(id);
    else if (delivery) this.#acknowledge([this.#received.handled(delivery)]);
  }

  /** The id is stored first: only then is the message acknowledged. */
  async #handledId(id: string): Promise<void> {
    const now = Date.now();
    try {
      await this.#options.storage.put(`${this.#prefix}inbox/${id}`, String(now));
    } catch (cause) {
      throw new ClientError("not-recorded", "the message id could not be stored", { cause });
    }
    const forgotten = this.#inbox.handled(id, now).map((old) => `${this.#prefix}inbox/${old}`);
    if (forgotten.length > 0) await this.#options.storage.remove(forgotten).catch(() => {});
    this.#acknowledge(this.#received.handledId(id));
  }

  #givenBack(id: string | undefined, delivery: Delivery | undefined): void {
    if (id !== undefined) this.#inbox.released(id);
    if (delivery) this.#received.givenBack(delivery);
  }

  #acknowledge(packetIds: Array<number | undefined>): void {
    for (const packetId of packetIds) if (packetId !== undefined) this.#connection?.acknowledge(packetId);
  }

  async #report(id: string, event: string): Promise<void> {
    await this.publish(EVENT_TOPIC, JSON.stringify({ id: checkId(id), event, at_ms: Date.now() }));
  }

  // --- the outbox

  /** Nothing is handed over while offline: it leaves with what is left of its time when it can leave. */
  #sendPosted(): void {
    while (this.#network.kind === "online" && !this.#isPaused && this.#postedInFlight < POSTED_IN_FLIGHT_MAX) {
      const posted = this.#outbox.next(Date.now());
      if (!posted) return;
      this.#postedInFlight += 1;
      void this.#sendOne(posted).finally(() => {
        this.#postedInFlight -= 1;
        this.#sendPosted();
      });
    }
  }

  async #sendOne(posted: Posted): Promise<void> {
    const ttlS = ttlLeftS(posted, Date.now());
    const hints = ttlS === undefined ? posted.hints : { ...posted.hints, ttlS: Math.max(ttlS, 1) };
    const properties = propertiesOf(hints, { "push-id": posted.id });
    try {
      const code = await this.#sending.publish({ topic: posted.topic, payload: posted.payload, qos: 1, properties });
      if (code < 0x80) return await this.#outbox.done(posted.id);
      if (!PASSING.includes(code)) return await this.#outbox.refused(posted.id);
      this.#pausePosting();
    } catch (error) {
      if (error instanceof ClientError && error.kind === "too-large") return await this.#outbox.refused(posted.id);
    }
    this.#outbox.waitAgain(posted.id);
  }

  /** A refusal for want of room makes all wait. */
  #pausePosting(): void {
    this.#isPaused = true;
    setTimeout(() => {
      this.#isPaused = false;
      this.#sendPosted();
    }, this.#options.backoff.capMs);
  }

  #check(): void {
    if (this.#network.kind === "closed") throw closed();
  }
}

/** `MESSAGE_TOPIC` for apps that tell directed messages from others. */
export { MESSAGE_TOPIC };

function check(options: Options): void {
  const bad = (detail: string) => new ClientError("options", detail);
  if (!isWebSocketUrl(options.url)) throw bad("url: ws://host:port/path or wss://host:port/path");
  if (options.clientId === "" || options.clientId.includes("\0")) throw bad("clientId: 1 to 65,535 bytes without U+0000");
  if ((options.userName === undefined) !== (options.password === undefined)) throw bad("user name and password come together");
  if (options.network && !isLabel(options.network.label)) throw bad("network: a label has up to 32 letters, digits, - and _");
  for (const name of ["receiveMaximum", "inFlightMax"] as const) {
    const value = options[name] ?? 1;
    if (!Number.isInteger(value) || value < 1 || value > 65_535) throw bad(`${name}: 1 to 65,535`);
  }
}

function checkId(text: string): string {
  const id = parseId(text);
  if (id === undefined) throw new ClientError("message-id", "a message id is a UUID of 36 characters");
  return id;
}

function checkTopic(topic: string, isGood: boolean, what: "name" | "filter"): void {
  if (!isGood) throw new ClientError("topic", `no topic ${what}: ${JSON.stringify(topic)}`);
}

const isTopicName = (topic: string) => topic !== "" && encode(topic).length <= 65_535 && !/[+#\0]/.test(topic);

function isFilter(filter: string): boolean {
  const levels = filter.split("/");
  const isGood = (level: string, at: number) =>
    level === "+" || (level === "#" && at === levels.length - 1) || !/[+#]/.test(level);
  return filter !== "" && encode(filter).length <= 65_535 && !filter.includes("\0") && levels.every(isGood);
}

function propertiesOf(hints: PushHints, more: Record<string, string> = {}): NonNullable<Sent["properties"]> {
  const named: Array<[string, string | undefined]> = [
    ["push-title", hints.title], ["push-body", hints.body], ["push-strategy", hints.strategy], ["push-collapse", hints.collapse],
  ];
  const userProperties: Record<string, string> = { ...more };
  for (const [name, value] of named) if (value !== undefined) userProperties[name] = value;
  return {
    ...(Object.keys(userProperties).length > 0 && { userProperties }),
    ...(hints.ttlS !== undefined && { messageExpiryInterval: hints.ttlS }),
  };
}
