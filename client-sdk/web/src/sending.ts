// What is unacknowledged, across reconnects: publishes in their order and under their identifiers, questions asked anew.

import type { IConnackPacket, IPublishPacket } from "mqtt";
import type { Connection } from "./connection.js";
import { ClientError, closed } from "./errors.js";

/** A publish of the app. */
export interface Sent {
  topic: string;
  payload: string | Uint8Array;
  qos: 0 | 1;
  properties?: NonNullable<IPublishPacket["properties"]>;
}

export type Question = { kind: "subscribe"; filter: string; qos: 0 | 1 } | { kind: "unsubscribe"; filter: string };

interface Entry {
  work: Sent | Question;
  resolve(reasonCode: number): void;
  reject(error: ClientError): void;
  /** Given once, and kept over reconnects for what the standard has repeated. */
  packetId: number;
  /** Handed over on the connection that lives now. */
  isCurrent: boolean;
  /** Handed over on an earlier connection: a repetition has DUP. */
  wasSent: boolean;
}

const PACKET_ID_MAX = 65_535;
/** Fixed header, topic length, identifier and lengths of properties. */
const OVERHEAD = 64;

export class Sending {
  /** In the order in which they leave. */
  #entries: Entry[] = [];
  readonly #windowMax: number;
  readonly #entriesMax: number;
  #roomWaiters: Array<() => void> = [];
  #window = 1;
  #packetSizeMax = Infinity;
  #connection: Connection | undefined;
  #lastId = 0;
  #isClosed = false;

  constructor(windowMax: number, entriesMax: number) {
    this.#windowMax = windowMax;
    this.#entriesMax = entriesMax;
  }

  /** Waits until another publish has room; the library's own do not ask. */
  async room(): Promise<void> {
    while (this.#entries.length >= this.#entriesMax && !this.#isClosed) {
      await new Promise<void>((resolve) => this.#roomWaiters.push(resolve));
    }
  }

  /** Ends with the reason code of PUBACK; 0 for QoS 0 when it is written. */
  publish(sent: Sent): Promise<number> {
    return this.#add(sent, "behind");
  }

  /** Before everything that waits. `done` is told the broker's answer, if one comes. */
  first(sent: Sent, done: () => void = () => {}): void {
    this.#add(sent, "before").then(done, () => {});
  }

  /** Ends with the granted QoS or the broker's reason code. */
  ask(question: Question): Promise<number> {
    return this.#add(question, "behind");
  }

  connected(connection: Connection, sessionPresent: boolean, properties: IConnackPacket["properties"]): void {
    this.#connection = connection;
    this.#window = Math.min(this.#windowMax, properties?.receiveMaximum ?? PACKET_ID_MAX);
    this.#packetSizeMax = properties?.maximumPacketSize ?? Infinity;
    // Without its session the broker knows nothing of what was sent: it is sent anew.
    if (!sessionPresent) this.#entries.forEach((entry) => Object.assign(entry, { wasSent: false, packetId: 0 }));
    this.#submit();
  }

  lost(): void {
    this.#connection = undefined;
    for (const entry of this.#entries) {
      entry.wasSent ||= entry.isCurrent && isRepeated(entry);
      if (!entry.wasSent) entry.packetId = 0;
      entry.isCurrent = false;
    }
  }

  close(): void {
    this.#isClosed = true;
    this.#entries.splice(0).forEach(({ reject }) => reject(closed()));
    this.#roomWaiters.splice(0).forEach((resolve) => resolve());
  }

  #add(work: Sent | Question, where: "behind" | "before"): Promise<number> {
    return new Promise((resolve, reject) => {
      if (this.#isClosed) return reject(closed());
      const entry: Entry = { work, resolve, reject, packetId: 0, isCurrent: false, wasSent: false };
      const at = where === "behind" ? -1 : this.#entries.findIndex(({ isCurrent, wasSent }) => !isCurrent && !wasSent);
      if (at < 0) this.#entries.push(entry);
      else this.#entries.splice(at, 0, entry);
      this.#submit();
    });
  }

  /** Hands over what the window allows, repetitions first. */
  #submit(): void {
    const connection = this.#connection;
    if (!connection) return;
    const waiting = this.#entries.filter(({ isCurrent }) => !isCurrent);
    const repeated = waiting.filter(({ wasSent }) => wasSent);
    for (const entry of [...repeated, ...waiting.filter(({ wasSent }) => !wasSent)]) {
      if (this.#entries.filter(({ isCurrent }) => isCurrent).length >= this.#window) return;
      if (!this.#fits(entry)) {
        this.#take(entry);
        entry.reject(new ClientError("too-large", "a packet above the broker's limit"));
        continue;
      }
      entry.packetId ||= this.#freeId();
      entry.isCurrent = true;
      void this.#handOver(connection, entry).then((code) => {
        this.#take(entry);
        entry.resolve(code);
        this.#submit();
      });
    }
  }

  #handOver(connection: Connection, { work, packetId, wasSent }: Entry): Promise<number> {
    if (!("topic" in work)) {
      return work.kind === "subscribe"
        ? connection.subscribe(work.filter, work.qos, packetId)
        : connection.unsubscribe(work.filter, packetId);
    }
    const payload = work.payload as IPublishPacket["payload"];
    return connection.publish({ ...work, payload, retain: false, dup: wasSent }, packetId);
  }

  #fits({ work }: Entry): boolean {
    if (!("topic" in work)) return true;
    // Three bytes for each UTF-16 unit at most, so that nothing needs to be encoded to be measured.
    const bytes = (text: string | Uint8Array) => (typeof text === "string" ? 3 * text.length : text.length);
    const properties = Object.entries(work.properties?.userProperties ?? {}).flat().map(String);
    const size = [work.topic, work.payload, ...properties].reduce((sum, text) => sum + bytes(text) + 2, OVERHEAD);
    return size <= this.#packetSizeMax;
  }

  #freeId(): number {
    const inUse = new Set(this.#entries.map(({ packetId }) => packetId));
    do this.#lastId = (this.#lastId % PACKET_ID_MAX) + 1;
    while (inUse.has(this.#lastId));
    return this.#lastId;
  }

  #take(entry: Entry): void {
    this.#entries = this.#entries.filter((other) => other !== entry);
    this.#roomWaiters.shift()?.();
  }
}

/** The standard has QoS 1 repeated under the same identifier; a question is asked anew. */
const isRepeated = ({ work }: Entry) => "topic" in work && work.qos === 1;
