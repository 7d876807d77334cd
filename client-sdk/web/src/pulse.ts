// When to beat, and when a connection that says nothing counts as dead. Pure: the client has the timer.

import { type Config, type Observation, CONFIG_PROPERTY, FLOOR_S, fatalS, reportText, survivedS } from "./heartbeat.js";
import type { Learner } from "./learner.js";

/** What to do when the deadline has come: nothing yet, a plain beat, a beat that tells something, or give up. */
export type Due = { kind: "wait" } | { kind: "ping" } | { kind: "report"; text: string } | { kind: "dead" };

type State = { kind: "flowing" } | { kind: "asked"; atMs: number; gapMs: number };

/** Observations that wait to be reported. */
const OBSERVATIONS_MAX = 8;

/** Watches one network connection after the other. */
export class Pulse {
  readonly #learner: Learner;
  readonly #answerMaxMs: number;
  #isForeground = true;
  #hasAdvice = false;
  #state: State = { kind: "flowing" };
  #lastMs = 0;
  /** The wait that the broker was told of. */
  #announcedS: number | undefined;
  #observations: Observation[] = [];
  /** The gap after which the last connection was dead, until the network proves that it is not to blame. */
  #suspectedS: number | undefined;

  constructor(learner: Learner, answerMaxMs: number) {
    this.#learner = learner;
    this.#answerMaxMs = answerMaxMs;
  }

  /** A connection is up. `isSameNetwork`: the attempt succeeded at once where the last connection died. */
  connected(config: Config | undefined, serverKeepAliveS: number | undefined, isSameNetwork: boolean, nowMs: number): void {
    if (this.#suspectedS !== undefined && isSameNetwork) this.#saw(this.#suspectedS, false);
    this.#suspectedS = undefined;
    this.#hasAdvice = config !== undefined;
    this.#learner.advised(config, serverKeepAliveS);
    this.#announcedS = undefined;
    this.#state = { kind: "flowing" };
    this.#lastMs = nowMs;
  }

  advised(config: Config): void {
    this.#learner.advised(config, undefined);
  }

  networkChanged(): void {
    this.#suspectedS = undefined;
  }

  setForeground(isForeground: boolean): void {
    this.#isForeground = isForeground;
  }

  /** A packet other than a beat was written. Our own writes prove nothing while an answer is due. */
  wrote(nowMs: number): void {
    if (this.#state.kind === "flowing") this.#lastMs = nowMs;
  }

  received(nowMs: number): void {
    if (this.#state.kind === "asked") this.#saw(survivedS(this.#state.gapMs), true);
    this.#state = { kind: "flowing" };
    this.#lastMs = nowMs;
  }

  /** When to ask `due`. */
  deadlineMs(): number {
    return this.#state.kind === "asked" ? this.#state.atMs + this.#answerMaxMs : this.#lastMs + this.#waitS() * 1_000;
  }

  due(nowMs: number): Due {
    const lateMs = nowMs - this.deadlineMs();
    if (lateMs < 0) return { kind: "wait" };
    if (this.#state.kind === "asked") {
      this.#suspectedS = fatalS(this.#state.gapMs);
      return { kind: "dead" };
    }
    this.#learner.late(lateMs);
    return this.beat(nowMs);
  }

  /** A beat now, whatever the deadline: the app doubts the connection. */
  beat(nowMs: number): Due {
    this.#state = { kind: "asked", atMs: nowMs, gapMs: nowMs - this.#lastMs };
    const nextS = this.#wantedS();
    if (!this.#hasAdvice || (nextS === this.#announcedS && this.#observations.length === 0)) return { kind: "ping" };
    return { kind: "report", text: this.#report(nextS) };
  }

  #report(nextS: number): string {
    const { network, latenessP95S } = this.#learner;
    const { lo } = this.#learner.bracket();
    const observations = this.#observations.splice(0);
    this.#announcedS = nextS;
    const known = lo > 0 ? { loS: lo } : {};
    return reportText({ nextS, network, ...known, lateS: latenessP95S, observations, isHopeless: false });
  }

  /** In the foreground a short one: the user waits. Without a broker that takes part there is nothing to go by. */
  #wantedS(): number {
    const stayS = this.#learner.stayS();
    return this.#isForeground || !this.#hasAdvice ? Math.min(FLOOR_S, stayS) : stayS;
  }

  /** Never longer than what was announced last. */
  #waitS(): number {
    return Math.min(this.#wantedS(), this.#announcedS ?? FLOOR_S);
  }

  #saw(gapS: number, hasSurvived: boolean): void {
    const before = this.#learner.bracket().lo;
    if (hasSurvived) this.#learner.survived(gapS);
    else this.#learner.died(gapS);
    if (hasSurvived && gapS <= before) return; // no news
    this.#observations = [...this.#observations, { gapS, survived: hasSurvived }].slice(-OBSERVATIONS_MAX);
  }
}

export { CONFIG_PROPERTY };
