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

/** Network: the first retry is immediate. Broker: never. Taken over: the longest wait, else two take turns for ever. */
export type Cause = "network" | "broker" | "taken-over";

export class Reconnect {
  readonly #backoff: Backoff;
  #failures = 0;
  #connectedAt: number | undefined;

  constructor(backoff: Backoff = BACKOFF) {
    this.#backoff = backoff;
  }

  connected(nowMs: number): void {
    this.#connectedAt = nowMs;
  }

  lost(cause: Cause, nowMs: number): void {
    if (this.#connectedAt !== undefined && nowMs - this.#connectedAt >= this.#backoff.stableAfterMs) this.#failures = 0;
    this.#connectedAt = undefined;
    if (cause === "network") this.#failures += 1;
    if (cause === "broker") this.#failures = Math.max(this.#failures + 1, 2);
    if (cause === "taken-over") this.#failures = Infinity;
  }

  /** What failed on another network says nothing about this one. */
  networkChanged(): void {
    this.#failures = 0;
    this.#connectedAt = undefined;
  }

  /** The longest that the next wait can be. */
  waitMaxMs(): number {
    if (this.#failures < 2) return 0;
    return Math.min(this.#backoff.baseMs * 2 ** (this.#failures - 2), this.#backoff.capMs);
  }

  /** The next wait; `random` is uniform from 0 to 1. */
  waitMs(random: number): number {
    return this.waitMaxMs() * random;
  }
}
