// Which messages the app has had already, whether they came by socket or by a vendor's push. Pure; the same rules as
// inbox.rs of the Rust library.

/** How much the inbox remembers. */
export interface InboxLimits {
  /** Ids of handled messages; the oldest goes first. As many may be with the app. */
  idsMax: number;
  /** An id older than this is forgotten. */
  ageMaxMs: number;
}

export const INBOX_LIMITS: InboxLimits = { idsMax: 4_096, ageMaxMs: 30 * 24 * 3_600_000 };

/** Show: not seen before. With the app: neither show nor acknowledge. Duplicate: drop and acknowledge. */
export type Acceptance = "show" | "with-app" | "duplicate";

/** The ids that the app has or had: unknown, then with the app, then handled. */
export class Inbox {
  readonly #limits: InboxLimits;
  readonly #withApp = new Set<string>();
  /** Handled ids with the time, in the order of their handling. */
  readonly #handled = new Map<string, number>();

  constructor(limits: InboxLimits = INBOX_LIMITS) {
    this.#limits = limits;
  }

  /** Decides about a message that arrived, and remembers that the app has it when the answer is "show". */
  accept(id: string, nowMs: number): Acceptance {
    if (this.#withApp.has(id)) return "with-app";
    const at = this.#handled.get(id);
    if (at !== undefined && nowMs - at <= this.#limits.ageMaxMs) return "duplicate";
    this.#handled.delete(id);
    if (this.#withApp.size < this.#limits.idsMax) this.#withApp.add(id);
    return "show";
  }

  /** The app is done with the message, and that is stored. Returns the ids that are forgotten in exchange. */
  handled(id: string, nowMs: number): string[] {
    this.#withApp.delete(id);
    this.#handled.delete(id);
    this.#handled.set(id, nowMs);
    const forgotten: string[] = [];
    for (const [old, at] of this.#handled) {
      if (this.#handled.size <= this.#limits.idsMax && nowMs - at <= this.#limits.ageMaxMs) break;
      this.#handled.delete(old);
      forgotten.push(old);
    }
    return forgotten;
  }

  /** The app gave the message back without handling it: the next delivery is shown again. */
  released(id: string): void {
    this.#withApp.delete(id);
  }

  isHandled(id: string): boolean {
    return this.#handled.has(id);
  }
}
