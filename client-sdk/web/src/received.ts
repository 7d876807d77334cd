// Deliveries of QoS 1 that are not acknowledged yet, across reconnects. Pure; the rules of received.rs, without QoS 2,
// which this library does not ask for.

/** What to do with a PUBLISH: give it to the app, nothing, or acknowledge. */
export type Arrival = { kind: "fresh"; delivery: Delivery } | { kind: "with-app" } | { kind: "acknowledge" };

/** One delivery, also after its packet identifier was used again. */
export interface Delivery {
  readonly packetId: number;
  readonly id: string | undefined;
  /** The connection on which the broker sent it last. */
  connection: number;
  stage: "with-app" | "handled" | "given-back";
}

export class Received {
  #connection = 0;
  readonly #deliveries = new Map<number, Delivery>();

  /** The connection is gone: nothing can be acknowledged before the broker repeats it. */
  lost(): void {
    this.#connection += 1;
  }

  /** A new connection; without its session the broker repeats nothing. */
  connected(sessionPresent: boolean): void {
    if (!sessionPresent) this.#deliveries.clear();
  }

  arrived(packetId: number, isDup: boolean, id: string | undefined): Arrival {
    const known = this.#deliveries.get(packetId);
    if (known && isDup && known.id === id) {
      if (known.stage === "with-app") {
        known.connection = this.#connection;
        return { kind: "with-app" };
      }
      if (known.stage === "handled") {
        this.#deliveries.delete(packetId);
        return { kind: "acknowledge" };
      }
    }
    const delivery: Delivery = { packetId, id, connection: this.#connection, stage: "with-app" };
    this.#deliveries.set(packetId, delivery);
    return { kind: "fresh", delivery };
  }

  /** The app handled this delivery; the packet identifier to acknowledge now, if any. */
  handled(delivery: Delivery): number | undefined {
    if (this.#deliveries.get(delivery.packetId) !== delivery) return undefined;
    if (delivery.connection !== this.#connection) {
      delivery.stage = "handled";
      return undefined;
    }
    this.#deliveries.delete(delivery.packetId);
    return delivery.packetId;
  }

  /** The app handled the message with this id: every delivery of it is done. */
  handledId(id: string): number[] {
    const same = [...this.#deliveries.values()].filter((delivery) => delivery.id === id);
    return same.map((delivery) => this.handled(delivery)).filter((packetId) => packetId !== undefined);
  }

  /** The app let the message go without handling it: a repetition is fresh. */
  givenBack(delivery: Delivery): void {
    delivery.stage = "given-back";
  }
}
