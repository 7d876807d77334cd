// The inbox of the device's user: asked over the connection, the same on all of the user's devices.

import { ClientError, closed } from "./errors.js";
import { parseId } from "./ids.js";
import { Queue } from "./queue.js";
import { decode } from "./text.js";

/** Where a device asks about its user's inbox, and where answers and news come. */
export const INBOX_ASK_TOPIC = "$push/inbox/ask";
export const INBOX_TOPIC = "$push/inbox";

/** Times that a question is asked, and how long each: an answer that a lost connection swallowed does not come again. */
const ATTEMPTS = 3;
const ANSWER_WITHIN_MS = 10_000;
/** States that wait to be asked for; older ones are left out. */
const STATES_MAX = 1;

/** What is known of the inbox. `user` is missing while the device belongs to nobody. */
export interface InboxState {
  user: string | undefined;
  /** Messages that the user has not read. */
  unread: number;
  /** Grows with every change of one user's inbox. */
  revision: number;
}

/** Which part of the inbox. */
export interface InboxQuery {
  /** Older than this message: `next` of the page before. */
  before?: string;
  /** At most so many, of 50; 20. */
  limit?: number;
  /** Only what was not read. */
  unread?: boolean;
}

/** A part of the inbox, newest first. */
export interface InboxPage {
  messages: InboxMessage[];
  /** Where to go on; missing at the end. */
  next: string | undefined;
  /** Of the whole inbox. */
  unread: number;
}

/** A message that the user keeps. */
export interface InboxMessage {
  /** The same as of the message that came over the socket or by a vendor. */
  id: string;
  title: string | undefined;
  body: string | undefined;
  image: string | undefined;
  url: string | undefined;
  data: unknown;
  /** Milliseconds since 1970. */
  sentAtMs: number;
  expiresAtMs: number;
  /** When the user read it, on whatever device. */
  readAtMs: number | undefined;
}

type Told = Record<string, unknown>;

export class UserInbox {
  readonly #publish: (payload: string) => Promise<void>;
  readonly #asked = new Map<string, { resolve: (told: Told) => void; reject: (error: ClientError) => void }>();
  readonly #states = new Queue<InboxState>(STATES_MAX);
  /** An answer meant for an earlier page must not meet a question of this one. */
  readonly #run = Math.random().toString(36).slice(2);
  #count = 0;
  #isUsed = false;
  #isQueued = false;
  #isAsking = false;
  #isStale = false;
  #isAgain = false;
  #isClosed = false;
  #state: InboxState | undefined;

  constructor(publish: (payload: string) => Promise<void>) {
    this.#publish = publish;
  }

  /** What is known; nothing until the push server said something. From the first look on every connection asks. */
  state(): InboxState | undefined {
    this.#use();
    return this.#state;
  }

  /** The next state, whoever changed the inbox; nothing once the client is closed. */
  nextState(): Promise<InboxState | undefined> {
    this.#use();
    return this.#states.next();
  }

  async unread(): Promise<number> {
    return number((await this.#ask({}))["unread"]);
  }

  async page({ before, limit = 20, unread = false }: InboxQuery = {}): Promise<InboxPage> {
    const told = await this.#ask({ get: { before, limit, unread } });
    const items = Array.isArray(told["items"]) ? (told["items"] as Told[]) : [];
    return { messages: items.map(readItem), next: parseId(told["next"]), unread: number(told["unread"]) };
  }

  /** Marks messages as read, and tells how many are unread then. */
  async read(ids: string[]): Promise<number> {
    return number((await this.#ask({ read: ids }))["unread"]);
  }

  /** Marks a message and every older one as read. */
  async readUpTo(id: string): Promise<number> {
    return number((await this.#ask({ read_up_to: id }))["unread"]);
  }

  /** Deletes messages, and tells how many are unread then. */
  async delete(ids: string[]): Promise<number> {
    return number((await this.#ask({ delete: ids }))["unread"]);
  }

  /** A connection is up: an answer to an earlier question for the counts may never come. */
  connected(): void {
    if (!this.#isUsed) return;
    [this.#isAsking, this.#isStale] = [true, false];
    this.#askForCounts();
  }

  /** A message came that is kept there. */
  changed(): void {
    if (!this.#isUsed) return;
    this.#isStale = this.#isAsking;
    if (this.#isAsking) return;
    this.#isAsking = true;
    this.#askForCounts();
  }

  /** Takes what the push server tells: the counts for everybody, the answer for whoever asked. */
  take(payload: Uint8Array): void {
    let told: Told;
    try {
      told = JSON.parse(decode(payload)) as Told;
    } catch {
      return; // not the JSON it should be
    }
    if (told["error"] === undefined || told["error"] === "no_user") this.#note(told);
    const name = text(told["request"]);
    const waiting = name === undefined ? undefined : this.#asked.get(name);
    if (waiting && told["error"] === undefined) waiting.resolve(told);
    else if (waiting) waiting.reject(refusal(told["error"]));
    [this.#isAsking, this.#isStale] = [this.#isStale, false];
    if (this.#isAsking) this.#askForCounts();
  }

  close(): void {
    this.#isClosed = true;
    this.#asked.forEach(({ reject }) => reject(closed()));
    this.#states.close();
  }

  #use(): void {
    if (this.#isUsed) return;
    this.#isUsed = true;
    this.changed();
  }

  /** One question waits for the broker at a time, also over connections; another may have to follow it. */
  #askForCounts(): void {
    this.#isAgain = this.#isQueued;
    if (this.#isQueued) return;
    this.#isQueued = true;
    void this.#publish("{}").catch(() => {}).finally(() => {
      this.#isQueued = false;
      if (this.#isAgain && !this.#isClosed) this.#askForCounts();
    });
  }

  async #ask(question: Told): Promise<Told> {
    const request = `${this.#run}-${this.#count++}`;
    const payload = JSON.stringify({ request, ...question });
    const answer = new Promise<Told>((resolve, reject) => this.#asked.set(request, { resolve, reject }));
    answer.catch(() => {}); // also where nobody waits any more
    try {
      for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
        await this.#publish(payload);
        const told = await within(ANSWER_WITHIN_MS, answer);
        if (told) return told;
      }
      throw new ClientError("no-answer", "the push server did not answer");
    } finally {
      this.#asked.delete(request);
    }
  }

  #note(told: Told): void {
    const state = { user: text(told["user"]), unread: number(told["unread"]), revision: number(told["revision"]) };
    const known = this.#state;
    if (known && known.user === state.user && known.revision > state.revision) return;
    const isSame = known?.user === state.user && known?.unread === state.unread && known?.revision === state.revision;
    if (known && isSame) return;
    this.#state = state;
    this.#states.push(state);
  }
}

function refusal(error: unknown): ClientError {
  if (error === "no_user") return new ClientError("no-user", "the device has no user");
  return new ClientError("no-answer", "the push server refused the question");
}

/** Nothing when it took too long. */
async function within<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<undefined>((resolve) => (timer = setTimeout(() => resolve(undefined), ms)));
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function readItem(item: Told): InboxMessage {
  return {
    id: text(item["id"]) ?? "",
    title: text(item["title"]),
    body: text(item["body"]),
    image: text(item["image"]),
    url: text(item["url"]),
    data: item["data"],
    sentAtMs: number(item["sent_at_ms"]),
    expiresAtMs: number(item["expires_at_ms"]),
    readAtMs: typeof item["read_at_ms"] === "number" ? item["read_at_ms"] : undefined,
  };
}

const text = (value: unknown) => (typeof value === "string" ? value : undefined);
const number = (value: unknown) => (typeof value === "number" ? value : 0);
