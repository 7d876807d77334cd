// When a device beats, when a silent connection counts as dead, and what both teach about the network. Pure: the client has
// the timer. The rules of client-sdk/src/heartbeat.rs, for a heartbeat that is always learned.

import { type Config, type Network, type Observation, FLOOR_S, fatalS, isHopeless, networkText, reportText, survivedS } from "./heartbeat.js";
import type { Learner } from "./learner.js";

/** While the user looks at the app, beats come at least this often. */
const FOREGROUND_S = FLOOR_S;
/** Patience with a beat while the user looks, and when a vendor's push says that the socket may be dead. */
const FOREGROUND_ANSWER_MAX_MS = 5_000;
const CHECK_ANSWER_MAX_MS = 2_000;
/** A network that takes the next connection so soon was not to blame itself for the death of the last one. */
const SAME_NETWORK_MAX_MS = 30_000;
/** A death after less proves nothing about silences. */
const EVIDENCE_MIN_S = 54;
/** Observations that wait for the next report; the oldest goes first. */
const OBSERVATIONS_MAX = 8;

/** What is to do at the deadline. */
export type Due = "wait" | "beat" | "dead";

/** PINGREQ, or a publish with QoS 1 on `$hb/up`. */
export type Beat = { kind: "ping" } | { kind: "report"; text: string };

/**
 * ```text
 *            connected            beat sent
 *   offline ----------> flowing ------------> asked --deadline--> dead
 *      ^                  ^  |                  | |
 *      |                  |  +--any packet------+ |
 *      +------lost--------+-----------------------+
 * ```
 */
type State =
  | { kind: "offline" }
  /** The last packet in either direction, and ours. */
  | { kind: "flowing"; activeMs: number; sentMs: number; hurry: "none" | "now" | "check" }
  /** A beat went out into a silence, and nothing came since. */
  | { kind: "asked"; atMs: number; gapMs: number; isCheck: boolean };

/** Watches one connection after the other. */
export class Pulse {
  readonly #learner: Learner;
  readonly #answerMaxMs: number;
  #network: Network;
  #isForeground = false;
  /** MQTT's bound on our own silence on this connection. */
  #keepAliveS = FLOOR_S;
  #isAdvised = false;
  /** What the broker counts on, and what was told it and not acknowledged yet, perhaps on an earlier connection. */
  #announcedS: number | undefined;
  #pendingS: number | undefined;
  #observations: Observation[] = [];
  /** A death whose cause is not known yet: if the same network takes the next connection at once, it was the silence. */
  #suspicion: { gapS: number; atMs: number } | undefined;
  #state: State = { kind: "offline" };

  constructor(learner: Learner, answerMaxMs: number) {
    this.#learner = learner;
    this.#answerMaxMs = answerMaxMs;
    this.#network = learner.network;
  }

  get network(): Network {
    return this.#network;
  }

  /** The broker accepted a connection, with this keep alive in force. */
  connected(keepAliveS: number, advice: Config | undefined, nowMs: number): void {
    this.#keepAliveS = keepAliveS;
    this.#isAdvised = advice !== undefined;
    // A report that was on its way when the last connection broke is repeated on this one.
    this.#announcedS = this.#pendingS;
    this.#state = { kind: "flowing", activeMs: nowMs, sentMs: nowMs, hurry: "none" };
    const suspicion = this.#suspicion;
    this.#suspicion = undefined;
    this.#learner.arrive(this.#network);
    this.#learner.bound(keepAliveS);
    if (advice) this.#learner.advised(advice);
    if (suspicion && nowMs - suspicion.atMs <= SAME_NETWORK_MAX_MS) {
      this.#learner.died(suspicion.gapS);
      this.#observe(suspicion.gapS, false);
    }
  }

  /** The broker's advice during a connection. */
  advised(config: Config): void {
    this.#isAdvised = true;
    this.#learner.advised(config);
  }

  lost(): void {
    this.#state = { kind: "offline" };
  }

  /** The platform reports another network, or another word for the same one. */
  networkChanged(network: Network): void {
    this.#network = network;
    this.#suspicion = undefined;
    this.#state = { kind: "offline" };
  }

  /** The user looks at the app, or no longer does. */
  setForeground(isForeground: boolean, nowMs: number): void {
    if (isForeground && !this.#isForeground) this.check(nowMs);
    this.#isForeground = isForeground;
  }

  /** There is reason to doubt the connection: a vendor brought what the socket should have brought. */
  check(nowMs: number): void {
    if (this.#state.kind === "flowing") this.#state.hurry = "check";
    if (this.#state.kind === "asked" && !this.#state.isCheck) Object.assign(this.#state, { atMs: nowMs, isCheck: true });
  }

  /** A packet was written, beats aside. */
  wrote(nowMs: number): void {
    if (this.#state.kind === "flowing") Object.assign(this.#state, { activeMs: nowMs, sentMs: nowMs });
  }

  /** Any packet arrived: the path lives, whatever the packet was. */
  received(nowMs: number): void {
    if (this.#state.kind === "asked") {
      const { atMs, gapMs } = this.#state;
      this.#state = { kind: "flowing", activeMs: nowMs, sentMs: atMs, hurry: "none" };
      this.#survived(survivedS(gapMs));
    } else if (this.#state.kind === "flowing") {
      this.#state.activeMs = nowMs;
      // The radio is on: a beat that is nearly due goes along.
      const isNearlyDue = nowMs >= this.#state.sentMs + 800 * this.#intervalS();
      if (this.#state.hurry === "none" && isNearlyDue) this.#state.hurry = "now";
    }
  }

  /** The broker has our last report. */
  reportAcknowledged(): void {
    this.#announcedS = this.#pendingS ?? this.#announcedS;
    this.#pendingS = undefined;
  }

  /** When to ask `due`; nothing without a connection. */
  deadlineMs(): number | undefined {
    if (this.#state.kind === "offline") return undefined;
    if (this.#state.kind === "asked") return this.#state.atMs + this.#patienceMs(this.#state.isCheck);
    const { activeMs, sentMs, hurry } = this.#state;
    return hurry === "none" ? sentMs + 1_000 * this.#intervalS() : activeMs;
  }

  due(nowMs: number): Due {
    const deadlineMs = this.deadlineMs();
    if (deadlineMs === undefined || nowMs < deadlineMs) return "wait";
    if (this.#state.kind === "asked") {
      const gapS = fatalS(this.#state.gapMs);
      this.#suspicion = gapS >= EVIDENCE_MIN_S ? { gapS, atMs: nowMs } : undefined;
      this.#state = { kind: "offline" };
      return "dead";
    }
    const isPlanned = this.#state.kind === "flowing" && this.#state.hurry === "none" && !this.#isForeground;
    if (isPlanned) this.#learner.late(nowMs - deadlineMs);
    return "beat";
  }

  /** The beat to send now; `asked` follows. */
  beat(): Beat {
    const nextS = this.#wantedS();
    const hasNews = nextS !== this.#announcedS || this.#observations.length > 0;
    if (!this.#isAdvised || !hasNews) return { kind: "ping" };
    this.#pendingS = nextS;
    const bracket = this.#learner.bracket();
    const text = reportText({
      nextS,
      network: this.#network,
      ...(bracket.lo > 0 && { loS: bracket.lo }),
      lateS: this.#learner.latenessP95S,
      observations: this.#observations.splice(0),
      isHopeless: isHopeless(bracket),
    });
    return { kind: "report", text };
  }

  /** A beat went out. */
  asked(nowMs: number): void {
    if (this.#state.kind !== "flowing") return;
    const { activeMs, hurry } = this.#state;
    this.#state = { kind: "asked", atMs: nowMs, gapMs: nowMs - activeMs, isCheck: hurry === "check" };
  }

  /** What the app may know: the wait now, and the longest silence survived here, in seconds. */
  state(): { network: string; intervalS: number; survivedS: number } {
    const { lo } = this.#learner.bracket();
    return { network: networkText(this.#network), intervalS: this.#intervalS(), survivedS: lo };
  }

  /** Never longer than the broker was told, nor than MQTT allows. */
  #intervalS(): number {
    return Math.min(this.#wantedS(), this.#announcedS ?? Infinity, this.#keepAliveS);
  }

  #wantedS(): number {
    const stayS = this.#learner.stayS();
    return this.#isForeground ? Math.min(stayS, FOREGROUND_S) : stayS;
  }

  #patienceMs(isCheck: boolean): number {
    if (isCheck) return Math.min(this.#answerMaxMs, CHECK_ANSWER_MAX_MS);
    if (this.#network.radio === "2g") return this.#answerMaxMs * 2;
    return this.#isForeground ? Math.min(this.#answerMaxMs, FOREGROUND_ANSWER_MAX_MS) : this.#answerMaxMs;
  }

  #survived(gapS: number): void {
    const isNews = gapS > this.#learner.bracket().lo;
    this.#learner.survived(gapS);
    if (isNews) this.#observe(gapS, true);
  }

  #observe(gapS: number, survived: boolean): void {
    this.#observations = [...this.#observations, { gapS, survived }].slice(-OBSERVATIONS_MAX);
  }
}
