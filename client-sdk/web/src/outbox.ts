// Posted messages: stored before the app is told, sent in order, forgotten when the broker has them.

import { ClientError } from "./errors.js";
import { newId } from "./ids.js";
import type { Storage } from "./storage.js";
import { fromHex, toHex } from "./text.js";

/** What makes a published message a push candidate. With nothing set it is an ordinary message. */
export interface PushHints {
  title?: string;
  body?: string;
  /** The way to a device; the app's default otherwise. */
  strategy?: "online_first" | "vendor_only" | "online_only" | "vendor_first" | "both_dedup";
  /** A newer message with the same key replaces this one. */
  collapse?: string;
  /** Nobody wants it after this time, in whole seconds. */
  ttlS?: number;
}

/** How much the outbox keeps. */
export interface OutboxLimits {
  messagesMax: number;
  bytesMax: number;
}

export const OUTBOX_LIMITS: OutboxLimits = { messagesMax: 1_000, bytesMax: 4 * 1_024 * 1_024 };

/** What the outbox holds now, and what it gave up since the start. */
export interface OutboxState {
  waiting: number;
  refused: number;
  expired: number;
}

export interface Posted {
  readonly id: string;
  readonly atMs: number;
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly hints: PushHints;
}

/** As it is stored: JSON, with the payload in hexadecimal. */
interface Saved {
  version: 1;
  id: string;
  atMs: number;
  topic: string;
  payload: string;
  hints: PushHints;
}

interface Entry {
  posted: Posted;
  key: string;
  size: number;
  isSent: boolean;
}

/** Everything that the broker does not have, in the order of posting. */
export class Outbox {
  readonly #storage: Storage;
  readonly #prefix: string;
  readonly #limits: OutboxLimits;
  readonly #state: OutboxState = { waiting: 0, refused: 0, expired: 0 };
  #entries: Entry[] = [];
  /** Posts that are being stored, in order. */
  #reserved = { messages: 0, bytes: 0 };
  #number = 0;

  private constructor(storage: Storage, prefix: string, limits: OutboxLimits) {
    this.#storage = storage;
    this.#prefix = prefix;
    this.#limits = limits;
  }

  static async open(storage: Storage, prefix: string, limits: OutboxLimits): Promise<Outbox> {
    const outbox = new Outbox(storage, prefix, limits);
    const stored = (await storage.load(prefix)).sort(([left], [right]) => (left < right ? -1 : 1));
    for (const [key, value] of stored) {
      const posted = read(value);
      if (posted) outbox.#entries.push({ posted, key, size: value.length, isSent: false });
      outbox.#number = Math.max(outbox.#number, Number(key.slice(prefix.length)));
    }
    return outbox;
  }

  state(): OutboxState {
    return { ...this.#state, waiting: this.#entries.length };
  }

  /** Stores a message; its id. */
  async post(topic: string, payload: Uint8Array, hints: PushHints, nowMs: number): Promise<string> {
    const posted: Posted = { id: newId(nowMs), atMs: nowMs, topic, payload, hints };
    const value = write(posted);
    const size = value.length;
    const bytes = this.#entries.reduce((sum, entry) => sum + entry.size, this.#reserved.bytes);
    const messages = this.#entries.length + this.#reserved.messages;
    if (messages >= this.#limits.messagesMax || bytes + size > this.#limits.bytesMax) {
      throw new ClientError("outbox-full", "the outbox is full");
    }
    this.#number += 1;
    const key = this.#prefix + String(this.#number).padStart(12, "0"); // keys sort in the order of posting
    const entry = { posted, key, size, isSent: false };
    this.#reserved = { messages: this.#reserved.messages + 1, bytes: this.#reserved.bytes + size };
    try {
      await this.#storage.put(key, value);
    } catch (cause) {
      throw new ClientError("not-recorded", "the message could not be stored", { cause });
    } finally {
      this.#reserved = { messages: this.#reserved.messages - 1, bytes: this.#reserved.bytes - size };
    }
    this.#entries.push(entry);
    this.#entries.sort((left, right) => (left.key < right.key ? -1 : 1));
    return posted.id;
  }

  /** The oldest message that is not on its way. Drops those whose time has ended. */
  next(nowMs: number): Posted | undefined {
    for (const { posted, isSent } of [...this.#entries]) {
      if (isSent || ttlLeftS(posted, nowMs) !== 0) continue;
      this.#state.expired += 1;
      void this.#forget(posted.id);
    }
    const entry = this.#entries.find(({ isSent }) => !isSent);
    if (entry) entry.isSent = true;
    return entry?.posted;
  }

  /** It is not on its way any more. */
  waitAgain(id: string): void {
    const entry = this.#entries.find(({ posted }) => posted.id === id);
    if (entry) entry.isSent = false;
  }

  /** The broker has it. */
  done(id: string): Promise<void> {
    return this.#forget(id);
  }

  /** The broker refuses it for good. */
  refused(id: string): Promise<void> {
    this.#state.refused += 1;
    return this.#forget(id);
  }

  /** A note that is lost costs a repetition, which the id makes harmless. */
  async #forget(id: string): Promise<void> {
    const keys = this.#entries.filter(({ posted }) => posted.id === id).map(({ key }) => key);
    this.#entries = this.#entries.filter(({ posted }) => posted.id !== id);
    await this.#storage.remove(keys).catch(() => {});
  }
}

/** What is left of its time, counted from the posting; nothing when it has no end. */
export function ttlLeftS({ hints, atMs }: Posted, nowMs: number): number | undefined {
  if (hints.ttlS === undefined) return undefined;
  return Math.max(Math.ceil(hints.ttlS - Math.max(nowMs - atMs, 0) / 1_000), 0);
}

function write({ id, atMs, topic, payload, hints }: Posted): string {
  const saved: Saved = { version: 1, id, atMs, topic, payload: toHex(payload), hints };
  return JSON.stringify(saved);
}

function read(value: string): Posted | undefined {
  try {
    const saved = JSON.parse(value) as Saved;
    if (saved.version !== 1) return undefined;
    return { id: saved.id, atMs: saved.atMs, topic: saved.topic, payload: fromHex(saved.payload), hints: saved.hints };
  } catch {
    return undefined;
  }
}
