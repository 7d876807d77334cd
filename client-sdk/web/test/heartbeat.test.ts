// The rules give what the Rust rules give: tests/fixtures/heartbeat.json is made by them.

import { strict as assert } from "node:assert";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import {
  type Bracket, type Network, type Observation, type Radio, bestInterval, costsOf, defaultTimeouts, died, helloProperties, isHopeless,
  latenessP95S, newBracket, newLateness, noteLateness, parseConfig, reportText, survived, timeoutsFromQuantiles,
} from "../src/heartbeat.js";

interface Fixture {
  brackets: Array<{ events: Array<[survived: boolean, gapS: number]>; bracket: Bracket }>;
  lateness: Array<{ late_ms: number[]; counts: number[]; p95_s: number }>;
  choices: Array<{
    quantiles: number[] | null; bracket: Bracket; late: number[]; radio: Radio; floor: number; ceiling: number;
    stay: number;
  }>;
  hellos: Array<{ network: Network; lo: number | null; late: number; hopeless: boolean; properties: Record<string, string> }>;
  configs: Array<{
    text: string;
    config: null | { ceiling: number | null; stay: number | null; q: number[] | null; ttl: number; window: number };
  }>;
  reports: Array<{
    next: number | null; network: Network; lo: number | null; late: number; hopeless: boolean;
    observations: Array<[survived: boolean, gapS: number]>; text: string;
  }>;
}

const path = new URL("../../../../tests/fixtures/heartbeat.json", import.meta.url);
const fixture = JSON.parse(readFileSync(path, "utf8")) as Fixture;

test("brackets learn the same from the same evidence", () => {
  for (const { events, bracket } of fixture.brackets) {
    const seen = newBracket();
    for (const [lived, gapS] of events) lived ? survived(seen, gapS) : died(seen, gapS);
    assert.deepEqual(seen, bracket, JSON.stringify(events));
  }
});

test("lateness is counted alike", () => {
  for (const { late_ms, counts, p95_s } of fixture.lateness) {
    const lateness = newLateness();
    late_ms.forEach((ms) => noteLateness(lateness, ms));
    assert.deepEqual([lateness, latenessP95S(lateness)], [counts, p95_s]);
  }
});

test("the same interval is chosen", () => {
  assert.ok(fixture.choices.length > 300);
  for (const choice of fixture.choices) {
    const prior = choice.quantiles ? timeoutsFromQuantiles(choice.quantiles) : defaultTimeouts();
    const range = { floorS: choice.floor, ceilingS: choice.ceiling };
    const knowledge = { prior, bracket: choice.bracket, lateness: choice.late, costs: costsOf(choice.radio), range };
    assert.equal(bestInterval(knowledge), choice.stay, JSON.stringify(choice));
  }
});

test("a network is hopeless where a beat each minute died twice", () => {
  const known = (lo: number, hi: number | null, deaths: number): Bracket => ({ lo, hi, deaths, doubt: null });
  assert.deepEqual([known(0, 60, 2), known(0, 62, 2)].map(isHopeless), [true, true]);
  assert.deepEqual([known(0, 60, 1), known(60, 62, 2), known(0, 90, 2), known(0, null, 2)].map(isHopeless), [false, false, false, false]);
});

test("the texts on the wire are the same", () => {
  for (const { network, lo, late, hopeless, properties } of fixture.hellos) {
    assert.deepEqual(helloProperties(network, lo ?? undefined, late, hopeless), properties);
  }
  for (const { text, config } of fixture.configs) {
    const read = parseConfig(text);
    const told = read && {
      ceiling: read.ceilingS ?? null, stay: read.stayS ?? null, q: read.quantilesS ?? null,
      ttl: read.ttlS, window: read.windowS,
    };
    assert.deepEqual(told ?? null, config, text);
  }
  for (const { next, network, lo, late, hopeless, observations, text } of fixture.reports) {
    const seen: Observation[] = observations.map(([survived, gapS]) => ({ survived, gapS }));
    const report = {
      ...(next !== null && { nextS: next }), network, ...(lo !== null && { loS: lo }), lateS: late, observations: seen,
      isHopeless: hopeless,
    };
    assert.equal(reportText(report), text);
  }
});
