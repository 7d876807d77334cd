// How long a path may stay silent: the device's part of the rules in proto/src/heartbeat, to the last bit. Pure.
// docs/heartbeat.md tells the reasons and the constants' sources; tests/fixtures/heartbeat.json is made by the Rust rules
// and read by the tests of both.

import { encode } from "./text.js";

/** No interval is shorter or longer, in seconds. */
export const FLOOR_S = 60;
export const CEILING_S = 1_680;
const GAP_MAX = 65_535;

/** Whole seconds, rounded down: right for what a connection survived. */
export const survivedS = (ms: number) => Math.min(Math.floor(ms / 1_000), GAP_MAX);
/** Whole seconds, rounded up: right for what a connection died of. */
export const fatalS = (ms: number) => Math.min(Math.ceil(ms / 1_000), GAP_MAX);

export const RADIOS = ["wifi", "eth", "2g", "3g", "4g", "5g", "?"] as const;
/** The kind of the last hop, which decides what a beat costs. */
export type Radio = (typeof RADIOS)[number];

/** The network a device is on, as far as its app knows. */
export interface Network {
  radio: Radio;
  /** Which of them: the operator's number or a hash of the Wi-Fi's name; up to 32 letters, digits, `-` and `_`. */
  label: string;
}

export const UNKNOWN_NETWORK: Network = { radio: "?", label: "" };

/** As it stands on the wire, for instance `4g,46000`. */
export const networkText = ({ radio, label }: Network) => (label === "" ? radio : `${radio},${label}`);

export const isLabel = (text: string) => /^[A-Za-z0-9_-]{0,32}$/.test(text);

// --- bins: 60 s, then 8 % more each; the last is "longer than anybody waits"

const EDGES = edges();
const BINS = EDGES.length + 1;

function edges(): number[] {
  let edge = 60 * 2 ** 32; // with 32 bits behind the point, so that rounding does not add up
  return Array.from({ length: 47 }, () => {
    const rounded = Math.floor((edge + 2 ** 31) / 2 ** 32);
    edge = Math.floor((edge * 108) / 100); // exact: everything stays below 2^53
    return rounded;
  });
}

function binOf(gapS: number): number {
  const at = EDGES.findIndex((edge) => edge >= gapS);
  return at < 0 ? EDGES.length : at;
}

const lowerOf = (bin: number) => (bin === 0 ? 0 : (EDGES[bin - 1] ?? 0));
const upperOf = (bin: number) => EDGES[bin] ?? GAP_MAX;

// --- bracket: what one device knows of one network

/** `lo < T <= hi`, as far as the device has seen, in seconds. */
export interface Bracket {
  /** The longest gap survived. */
  lo: number;
  /** The shortest gap above `lo` that was fatal, and how often. */
  hi: number | null;
  deaths: number;
  /** A death within `lo` that nothing has refuted yet: its gap. */
  doubt: number | null;
}

export const newBracket = (): Bracket => ({ lo: 0, hi: null, deaths: 0, doubt: null });

/** Beats are a little late: who dies of the shortest interval dies of somewhat more. */
const HOPELESS_MAX_S = FLOOR_S + FLOOR_S / 10;

/** Whether even the shortest interval is fatal, and not by chance. */
export const isHopeless = ({ lo, hi, deaths }: Bracket): boolean =>
  deaths > 1 && lo < FLOOR_S && hi !== null && hi <= HOPELESS_MAX_S;

/** The connection lived after this silence. Says whether that is news. */
export function survived(bracket: Bracket, gapS: number): boolean {
  if (bracket.doubt !== null && gapS >= bracket.doubt) bracket.doubt = null;
  if (bracket.hi !== null && gapS >= bracket.hi) {
    bracket.hi = null;
    bracket.deaths = 0;
  }
  const isNews = gapS > bracket.lo;
  bracket.lo = Math.max(bracket.lo, gapS);
  return isNews;
}

/** The connection was dead after this silence, and the network was not to blame otherwise. */
export function died(bracket: Bracket, gapS: number): void {
  if (gapS <= bracket.lo) {
    if (bracket.doubt === null) {
      bracket.doubt = gapS;
    } else {
      Object.assign(bracket, { lo: 0, hi: Math.max(gapS, bracket.doubt), deaths: 2, doubt: null });
    }
  } else {
    // Counted on when the gap is shorter: a path that was dead before was more likely killed again than hit by noise twice.
    bracket.hi = Math.min(bracket.hi ?? gapS, gapS);
    bracket.deaths = Math.min(bracket.deaths + 1, 255);
  }
}

// --- lateness: how late a phone's alarms ring

const LATE_S = [1, 4, 15, 60, 150, 300] as const;
const COUNT_MAX = 512;

/** Counts of beats by their lateness. */
export type Lateness = number[];

export const newLateness = (): Lateness => [6, 2, 1, 0, 0, 0];

/** One beat came this much after its time. */
export function noteLateness(lateness: Lateness, lateMs: number): void {
  const at = LATE_S.findIndex((upper) => upper >= lateMs / 1_000);
  const bucket = at < 0 ? LATE_S.length - 1 : at;
  lateness[bucket] = (lateness[bucket] ?? 0) + 1;
  if ((lateness[bucket] ?? 0) >= COUNT_MAX) lateness.forEach((count, each) => (lateness[each] = count >> 1));
}

/** What 95 of 100 beats stay within. */
export function latenessP95S(lateness: Lateness): number {
  let left = Math.floor(totalOf(lateness) / 20);
  for (let at = LATE_S.length - 1; at >= 0; at--) {
    const count = lateness[at] ?? 0;
    if (count > left) return LATE_S[at] ?? 0;
    left -= count;
  }
  return 0;
}

const totalOf = (lateness: Lateness) => lateness.reduce((sum, count) => sum + count, 0);

// --- timeouts: what is believed of a network before anybody has tried it

/** Probabilities of the bins; they sum to one. */
export type Timeouts = number[];

const LEVELS = [0.05, 0.1, 0.25, 0.5, 0.75] as const;
const HUMILITY = 0.05;
const SHAPE = [[60, 0.01], [300, 0.14], [600, 0.15], [1_800, 0.3]] as const;

export function defaultTimeouts(): Timeouts {
  const masses: number[] = new Array(BINS).fill(0);
  let from = 0;
  for (const [upper, share] of SHAPE) {
    const to = binOf(upper) + 1;
    const width = Math.max(to - from, 1);
    for (let at = from; at < to; at++) masses[at] = share / width;
    from = to;
  }
  const rest = 1 - sumOf(masses);
  masses[BINS - 1] = (masses[BINS - 1] ?? 0) + rest;
  return masses;
}

/** The distribution behind the quantiles that the broker told. */
export function timeoutsFromQuantiles(quantiles: readonly number[]): Timeouts {
  const shape = defaultTimeouts();
  const weights = shape.map((mass) => mass * HUMILITY);
  let [below, lower] = [0, 0];
  LEVELS.forEach((level, at) => {
    const upper = Math.max(quantiles[at] ?? 0, lower);
    const [first, final] = [binOf(lower), binOf(upper)];
    const bins = Math.max(final - first, 0) + 1;
    const share = (level - below) * (1 - HUMILITY);
    for (let bin = first; bin < Math.min(first + bins, BINS); bin++) weights[bin] = (weights[bin] ?? 0) + share / bins;
    [below, lower] = [level, upper];
  });
  const from = binOf(lower);
  const tail = sumOf(shape.slice(from));
  const share = (1 - below) * (1 - HUMILITY);
  for (let bin = from; bin < BINS; bin++) weights[bin] = (weights[bin] ?? 0) + (share * (shape[bin] ?? 0)) / tail;
  const sum = sumOf(weights);
  return weights.map((weight) => weight / sum);
}

const sumOf = (numbers: readonly number[]) => numbers.reduce((sum, each) => sum + each, 0);

// --- risk: the timeouts in the light of the device's own bracket, piecewise linear

const NOISE = 0.03;
const LEAK = 0.002;

interface Knot {
  atS: number;
  /** Probability of a timeout up to there, and its integral from 0. */
  dead: number;
  silenceS: number;
}

function riskOf(timeouts: Timeouts, bracket: Bracket): Knot[] {
  const segments = segmentsOf(timeouts, bracket);
  const total = sumOf(segments.map(([, weight]) => weight));
  const knots: Knot[] = [{ atS: 0, dead: 0, silenceS: 0 }];
  let [atS, dead, silenceS] = [0, 0, 0];
  for (const [upperS, weight] of segments) {
    const next = dead + weight / total;
    silenceS += ((upperS - atS) * (dead + next)) / 2;
    [atS, dead] = [upperS, next];
    knots.push({ atS, dead, silenceS });
  }
  return knots;
}

function segmentsOf(timeouts: Timeouts, bracket: Bracket): Array<[upperS: number, weight: number]> {
  const cuts = new Set([...EDGES, bracket.lo, ...(bracket.hi === null ? [] : [bracket.hi])]);
  const segments: Array<[number, number]> = [];
  let lower = 0;
  for (const upper of [...cuts].filter((cut) => cut > 0).sort((left, right) => left - right)) {
    const bin = binOf(upper);
    const share = (upper - lower) / (upperOf(bin) - lowerOf(bin));
    segments.push([upper, (timeouts[bin] ?? 0) * share * likelihood(bracket, upper)]);
    lower = upper;
  }
  segments.push([GAP_MAX, (timeouts[BINS - 1] ?? 0) * likelihood(bracket, GAP_MAX)]);
  return segments;
}

function likelihood(bracket: Bracket, timeoutS: number): number {
  const lived = timeoutS > bracket.lo ? 1 : LEAK;
  const isRuledOut = bracket.hi !== null && timeoutS > bracket.hi;
  const deaths = Math.min(bracket.deaths, 3);
  return lived * (isRuledOut ? [1, NOISE, NOISE * NOISE, NOISE * (NOISE * NOISE)][deaths] ?? 1 : 1);
}

function riskAt(knots: Knot[], gapS: number): Knot {
  const above = knots.findIndex((knot) => knot.atS >= gapS);
  const before = knots[(above < 0 ? knots.length : above) - 1];
  const after = knots[above];
  if (!before) return { atS: gapS, dead: 0, silenceS: 0 };
  if (!after) return { atS: gapS, dead: before.dead, silenceS: before.silenceS + (gapS - before.atS) * before.dead };
  const share = (gapS - before.atS) / (after.atS - before.atS);
  const dead = before.dead + share * (after.dead - before.dead);
  return { atS: gapS, dead, silenceS: before.silenceS + ((gapS - before.atS) * (before.dead + dead)) / 2 };
}

// --- choice: the interval that costs least

/** What a beat and a dead connection are worth, in joules. */
export interface Costs {
  beatJ: number;
  deadJPerS: number;
  recoveryS: number;
  deathsPerDay: number;
}

const RECONNECT_BEATS = 1.3;
const DAY_S = 86_400;
const STEPS = 40;
const STEP_MIN_S = 5;
/** A step beyond the best interval may raise the probability of a dead connection by this much. */
const STEP_RISK = 0.08;

export function costsOf(radio: Radio): Costs {
  const prices: Record<Radio, [number, number]> = {
    wifi: [0.5, 0.1], eth: [0.5, 0.1], "2g": [7.4, 0.8], "3g": [7.4, 0.4], "4g": [12.8, 0.3], "5g": [12.8, 0.3], "?": [12.8, 0.3],
  };
  const [beatJ, deathsPerDay] = prices[radio];
  return { beatJ, deadJPerS: 0.5, recoveryS: 12, deathsPerDay };
}

/** The shortest and the longest interval allowed; the floor wins where they cross. */
export interface Range {
  floorS: number;
  ceilingS: number;
}

export const FULL_RANGE: Range = { floorS: FLOOR_S, ceilingS: CEILING_S };

/** What is known of one network. */
export interface Knowledge {
  prior: Timeouts;
  bracket: Bracket;
  lateness: Lateness;
  costs: Costs;
  range: Range;
}

/** The interval that costs least under what is believed and what the device has seen itself, or one step more, in seconds. */
export function bestInterval({ prior, bracket, lateness, costs, range }: Knowledge): number {
  const risk = riskOf(prior, bracket);
  const best = cheapest(range, (gapS) => {
    const [dead, silenceS] = expected(risk, lateness, gapS, costs.recoveryS);
    const deaths = RECONNECT_BEATS * costs.beatJ * dead + costs.deadJPerS * silenceS;
    return livingRate(costs, gapS) + deaths / gapS;
  });
  const further = Math.max(Math.min(step(best), range.ceilingS), range.floorS);
  const dead = (gapS: number) => expected(risk, lateness, gapS, costs.recoveryS)[0];
  const isCheaper = livingRate(costs, further) < livingRate(costs, best);
  return isCheaper && dead(further) - dead(best) < STEP_RISK ? further : best;
}

/** Joules per second on a path that never forgets. */
function livingRate({ beatJ, deadJPerS, recoveryS, deathsPerDay }: Costs, gapS: number): number {
  const surprises = (deathsPerDay / DAY_S) * (gapS / 2 + recoveryS);
  return beatJ / gapS + deadJPerS * surprises;
}

const step = (gapS: number) => Math.min(gapS + Math.max(Math.floor(gapS / STEPS), STEP_MIN_S), GAP_MAX);

/** The probability of a dead connection after this gap and the alarm's lateness, and the expected dead time. */
function expected(risk: Knot[], lateness: Lateness, gapS: number, recoveryS: number): [number, number] {
  const total = Math.max(totalOf(lateness), 1);
  let [dead, silenceS] = [0, 0];
  LATE_S.forEach((lateS, at) => {
    const count = lateness[at] ?? 0;
    if (count === 0) return;
    const weight = count / total;
    const here = riskAt(risk, gapS + lateS);
    dead += weight * here.dead;
    silenceS += weight * (here.silenceS + here.dead * recoveryS);
  });
  return [dead, silenceS];
}

function cheapest(range: Range, cost: (gapS: number) => number): number {
  let [best, price] = [range.floorS, cost(range.floorS)];
  for (let gapS = range.floorS; gapS < range.ceilingS; ) {
    gapS = Math.min(step(gapS), range.ceilingS);
    const here = cost(gapS);
    if (here < price) [best, price] = [gapS, here];
  }
  return best;
}

// --- wire: what device and broker tell each other

/** User property of CONNACK, and topic, on which the broker gives advice; the topic of a device's news. */
export const CONFIG_PROPERTY = "hb-cfg";
export const CONFIG_TOPIC = "$hb/cfg";
export const REPORT_TOPIC = "$hb/up";
const TEXT_MAX = 256;
const OBSERVATIONS_MAX = 8;

/** The user properties of CONNECT. */
export function helloProperties(network: Network, loS: number | undefined, lateS: number, isHopeless: boolean): Record<string, string> {
  const known = loS === undefined ? {} : { "hb-lo": String(loS) };
  return { hb: "1", "hb-net": networkText(network), ...known, "hb-late": String(lateS), ...(isHopeless && { "hb-hopeless": "1" }) };
}

/** The broker's advice. */
export interface Config {
  ceilingS?: number;
  stayS?: number;
  quantilesS?: number[];
  ttlS: number;
  windowS: number;
}

const NAMES = new Map([
  ["ceiling", "ceilingS"], ["stay", "stayS"], ["ttl", "ttlS"], ["window", "windowS"],
] as const) as ReadonlyMap<string, "ceilingS" | "stayS" | "ttlS" | "windowS">;

/** Reads advice; nothing when the text is none. */
export function parseConfig(text: string): Config | undefined {
  if (encode(text).length > TEXT_MAX) return undefined;
  const config: Config = { ttlS: 0, windowS: 0 };
  for (const field of text.split(";").filter((field) => field !== "")) {
    const at = field.indexOf("=");
    const [name, value] = at < 0 ? [field, ""] : [field.slice(0, at), field.slice(at + 1)];
    const known = NAMES.get(name);
    if (name === "q") {
      const quantiles = value.split(",").map((each) => numberOf(each, GAP_MAX));
      if (!isQuantiles(quantiles)) return undefined;
      config.quantilesS = quantiles;
    } else if (known) {
      const read = numberOf(value, name === "ttl" ? 4_294_967_295 : GAP_MAX);
      if (read === undefined) return undefined;
      config[known] = read;
    }
  }
  return config;
}

function isQuantiles(values: Array<number | undefined>): values is number[] {
  const isRising = values.every((value, at) => value !== undefined && (at === 0 || value >= (values[at - 1] ?? 0)));
  return values.length === LEVELS.length && isRising;
}

function numberOf(text: string, max: number): number | undefined {
  const value = /^[0-9]+$/.test(text) ? Number(text) : NaN;
  return value <= max ? value : undefined;
}

/** A silence and how it ended. */
export interface Observation {
  gapS: number;
  survived: boolean;
}

/** A device's news. */
export interface Report {
  nextS?: number;
  network: Network;
  loS?: number;
  lateS: number;
  observations: Observation[];
  isHopeless: boolean;
}

export function reportText(report: Report): string {
  const newest = report.observations.slice(-OBSERVATIONS_MAX);
  const seen = newest.map(({ gapS, survived }) => `${survived ? "+" : "-"}${gapS}`).join(",");
  return [
    report.nextS === undefined ? "" : `next=${report.nextS};`,
    `net=${networkText(report.network)};`,
    report.loS === undefined ? "" : `lo=${report.loS};`,
    seen === "" ? "" : `obs=${seen};`,
    report.isHopeless ? "hopeless=1;" : "",
    `late=${report.lateS}`,
  ].join("");
}
