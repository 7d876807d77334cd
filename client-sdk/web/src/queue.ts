// A queue that one reader waits on.

export class Queue<T> {
  readonly #items: T[] = [];
  readonly #readers: Array<(item: T | undefined) => void> = [];
  readonly #max: number;
  #isClosed = false;

  /** Beyond `max` the oldest goes: for news of which only the newest matter. */
  constructor(max = Infinity) {
    this.#max = max;
  }

  get length(): number {
    return this.#items.length;
  }

  push(item: T): void {
    const reader = this.#readers.shift();
    if (reader) reader(item);
    else this.#items.push(item);
    if (this.#items.length > this.#max) this.#items.shift();
  }

  /** Waits for the next; nothing once the queue is closed and empty. */
  next(): Promise<T | undefined> {
    const item = this.#items.shift();
    if (item !== undefined || this.#isClosed) return Promise.resolve(item);
    return new Promise((resolve) => this.#readers.push(resolve));
  }

  /** What is in it can still be read. */
  close(): void {
    this.#isClosed = true;
    this.#readers.splice(0).forEach((reader) => reader(undefined));
  }
}
