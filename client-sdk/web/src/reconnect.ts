// How long to wait before the next attempt: full jitter, so that a fleet never comes back at once. Pure; the same rules
// as reconnect.rs of the Rust library.

export interface Backoff {
  /** Bound of the first random wait; it doubles with each further failure. */
  baseMs: number;
  /** No wait is longer than this. */
  capMs: number;
  /** A connection that lived at least this long makes earlier failures forgotten. */
  stableAfterMs: number;
}

export const BACKOFF: Backoff = { baseMs: 1_000, capMs: 120_000, stableAfterMs: 60_000 };

/**
 * Network: the first retry is immediate. Closed: the broker's machine closed without a word, perhaps for everybody, so the first
 * retry takes its time within the broker's window, at most half a minute. Broker: never at once. Taken over: the longest
 * wait, else two take turns for ever.
 */
export type Cause = "network" | "closed" | "broker" | "taken-over";

const CLOSED_WINDOW_MAX_MS = 30_000;

export class Reconnect {
  readonly #backoff: Backoff;
  #failures = 0;
  #connectedAt: number | undefined;
  /** Over which time the broker wants its clients to come back, and the bound of the next wait that follows from it. */
  #windowMs = 0;
  #spreadMs = 0;

  constructor(backoff: Backoff = BACKOFF) {
    this.#backoff = backoff;
  }

  connected(nowMs: number): void {
    this.#connectedAt = nowMs;
    this.#spreadMs = 0;
  }

  /** The broker would have its clients come back within this time, if they all must. */
  advised(windowMs: number): void {
    this.#windowMs = windowMs;
  }

  lost(cause: Cause, nowMs: number): void {
    // Only those who were connected are many at once; afterwards the growing bound spreads them.
    const hasLived = this.#connectedAt !== undefined;
    const windowMs = cause === "broker" ? this.#windowMs : Math.min(this.#windowMs, CLOSED_WINDOW_MAX_MS);
    this.#spreadMs = hasLived && (cause === "broker" || cause === "closed") ? windowMs : 0;
    if (this.#connectedAt !== undefined && nowMs - this.#connectedAt >= this.#backoff.stableAfterMs) this.#failures = 0;
    this.#connectedAt = undefined;
    if (cause === "network" || cause === "closed") this.#failures += 1;
    if (cause === "broker") this.#failures = Math.max(this.#failures + 1, 2);
    if (cause === "taken-over") this.#failures = Infinity;
  }

  /** What failed on another network says nothing about this one. */
  networkChanged(): void {
    this.#failures = 0;
    this.#connectedAt = undefined;
    this.#spreadMs = 0;
  }

  /** The longest that the next wait can be. */
  waitMaxMs(): number {
    if (this.#failures < 2) return this.#spreadMs;
    return Math.max(Math.min(this.#backoff.baseMs * 2 ** (this.#failures - 2), this.#backoff.capMs), this.#spreadMs);
  }

  /** The next wait; `random` is uniform from 0 to 1. */
  waitMs(random: number): number {
    return this.waitMaxMs() * random;
  }
}
