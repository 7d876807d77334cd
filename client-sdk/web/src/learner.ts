// What a device has learned of its networks, and what follows for the next beat. Pure.

import {
  type Bracket, type Config, type Lateness, type Network, type Range, type Timeouts, CEILING_S, FLOOR_S, FULL_RANGE,
  bestInterval, costsOf, defaultTimeouts, died, latenessP95S, networkText, newBracket, newLateness, noteLateness, survived,
  timeoutsFromQuantiles,
} from "./heartbeat.js";

/** So many networks are remembered; the one that was not used for longest goes first. */
const NETWORKS_MAX = 32;
/** Without advice and evidence the first interval on a network is at most this: shorter than common timeouts. */
const START_S = 180;

/** What was fatal so many days ago may have changed since. */
const FORGET_DAYS = 7;
const DAY_MS = 86_400_000;

/** What is kept over the app's death. */
interface Saved {
  version: 1;
  brackets: Array<[network: string, bracket: Known]>;
  lateness: Lateness;
}

/** A bracket, and the day when something was fatal last. */
type Known = Bracket & { diedDay?: number };

export class Learner {
  /** In the order of their last use, by the text of the network. */
  readonly #brackets = new Map<string, Known>();
  #today = 0;
  #lateness = newLateness();
  #network: Network;
  #told: Timeouts | undefined;
  #range: Range = FULL_RANGE;

  constructor(network: Network, saved?: string) {
    this.#network = network;
    this.#restore(saved);
  }

  /** A connection begins on this network. What the broker told of another one is forgotten. */
  arrive(network: Network, nowMs = Date.now()): void {
    if (networkText(network) !== networkText(this.#network)) this.#told = undefined;
    this.#network = network;
    this.#today = Math.floor(nowMs / DAY_MS);
    const bracket = this.bracket();
    if (bracket.hi !== null && this.#today - (bracket.diedDay ?? 0) >= FORGET_DAYS) Object.assign(bracket, { hi: null, deaths: 0 });
    this.#brackets.delete(networkText(network));
    this.#brackets.set(networkText(network), bracket);
    for (const oldest of this.#brackets.keys()) {
      if (this.#brackets.size <= NETWORKS_MAX) break;
      this.#brackets.delete(oldest);
    }
  }

  /** MQTT's keep alive on this connection, which no interval may exceed. */
  bound(ceilingS: number): void {
    this.#range = { floorS: FLOOR_S, ceilingS: Math.min(ceilingS, CEILING_S) };
  }

  /** The broker's advice. */
  advised(config: Config): void {
    if (config.quantilesS) this.#told = timeoutsFromQuantiles(config.quantilesS);
    if (config.ceilingS !== undefined) this.#range = { ...this.#range, ceilingS: Math.min(this.#range.ceilingS, config.ceilingS) };
  }

  get network(): Network {
    return this.#network;
  }

  bracket(): Known {
    return this.#brackets.get(networkText(this.#network)) ?? newBracket();
  }

  get latenessP95S(): number {
    return latenessP95S(this.#lateness);
  }

  survived(gapS: number): void {
    survived(this.#own(), gapS);
  }

  died(gapS: number): void {
    const bracket = this.#own();
    died(bracket, gapS);
    bracket.diedDay = this.#today;
  }

  late(ms: number): void {
    noteLateness(this.#lateness, ms);
  }

  /** The interval that costs least on the present network. */
  stayS(): number {
    const best = bestInterval(this.#knowledge());
    const isBlind = !this.#told && this.bracket().lo < FLOOR_S;
    return isBlind ? Math.min(best, Math.max(Math.min(START_S, this.#range.ceilingS), this.#range.floorS)) : best;
  }

  saved(): string {
    const saved: Saved = { version: 1, brackets: [...this.#brackets], lateness: this.#lateness };
    return JSON.stringify(saved);
  }

  #own(): Known {
    const bracket = this.bracket();
    this.#brackets.set(networkText(this.#network), bracket);
    return bracket;
  }

  #knowledge() {
    const prior = this.#told ?? defaultTimeouts();
    const costs = costsOf(this.#network.radio);
    return { prior, bracket: this.bracket(), lateness: this.#lateness, costs, range: this.#range };
  }

  /** What is not readable is as good as nothing: it is learned again. */
  #restore(text: string | undefined): void {
    try {
      const saved = JSON.parse(text ?? "{}") as Partial<Saved>;
      if (saved.version !== 1) return;
      (saved.brackets ?? []).slice(-NETWORKS_MAX).forEach(([network, bracket]) => this.#brackets.set(network, bracket));
      if (saved.lateness?.length === 6) this.#lateness = saved.lateness;
    } catch {
      this.#brackets.clear();
    }
  }
}
