// The pure parts: inbox, deliveries, waits, outbox, beats, texts.

import { strict as assert } from "node:assert";
import { test } from "node:test";
import type { IPublishPacket } from "mqtt";
import { newId, parseId } from "../src/ids.js";
import { Inbox } from "../src/inbox.js";
import { Learner } from "../src/learner.js";
import { readContent } from "../src/message.js";
import { OUTBOX_LIMITS, Outbox, ttlLeftS } from "../src/outbox.js";
import { Pulse } from "../src/pulse.js";
import { Received } from "../src/received.js";
import { Reconnect } from "../src/reconnect.js";
import { MemoryStorage } from "../src/storage.js";

const ID = "01920000-0000-7000-8000-000000000001";

test("a message is shown once, and again when the app gave it back", () => {
  const inbox = new Inbox({ idsMax: 2, ageMaxMs: 1_000 });
  assert.equal(inbox.accept(ID, 0), "show");
  assert.equal(inbox.accept(ID, 0), "with-app");
  inbox.released(ID);
  assert.equal(inbox.accept(ID, 0), "show");
  inbox.handled(ID, 0);
  assert.equal(inbox.accept(ID, 1_000), "duplicate");
  assert.equal(inbox.accept(ID, 1_001), "show", "forgotten by age");
  assert.deepEqual([inbox.handled("b", 2_000), inbox.handled("c", 2_000), inbox.handled("d", 2_000)], [[], [], ["b"]]);
});

test("what was handled offline is acknowledged when it is repeated, and not before", () => {
  const received = new Received();
  const first = received.arrived(7, false, ID);
  assert.ok(first.kind === "fresh");
  received.lost();
  assert.equal(received.handled(first.delivery), undefined);
  received.connected(true);
  assert.equal(received.arrived(7, true, ID).kind, "acknowledge");
  const again = received.arrived(7, false, ID);
  assert.ok(again.kind === "fresh", "the identifier is used for another delivery");
  assert.deepEqual(received.handledId(ID), [7]);
});

test("without its session the broker expects no acknowledgement", () => {
  const received = new Received();
  const first = received.arrived(7, false, undefined);
  assert.ok(first.kind === "fresh");
  received.lost();
  received.connected(false);
  assert.equal(received.handled(first.delivery), undefined);
});

test("waits double from the second failure on, up to the cap, and never follow a broker's word at once", () => {
  const after = (failures: number) => {
    const reconnect = new Reconnect();
    for (let n = 0; n < failures; n++) reconnect.lost("network", 0);
    return reconnect;
  };
  const bounds = [0, 1, 2, 3, 8, 9, 40].map((failures) => after(failures).waitMaxMs() / 1_000);
  assert.deepEqual(bounds, [0, 0, 1, 2, 64, 120, 120]);
  const reconnect = new Reconnect();
  reconnect.lost("broker", 0);
  assert.equal(reconnect.waitMaxMs(), 1_000);
  reconnect.lost("taken-over", 0);
  assert.equal(reconnect.waitMaxMs(), 120_000);
  reconnect.connected(0);
  reconnect.lost("network", 60_000);
  assert.equal(reconnect.waitMaxMs(), 0, "a connection that lived long makes failures forgotten");
});

test("posted messages outlive the app, in order, within bounds", async () => {
  const storage = new MemoryStorage();
  const outbox = await Outbox.open(storage, "p/", { ...OUTBOX_LIMITS, messagesMax: 3 });
  const payload = Uint8Array.of(0, 255, 10);
  const ids = await Promise.all(["1", "2", "3"].map((topic) => outbox.post(topic, payload, { ttlS: 60 }, 5_000)));
  await assert.rejects(outbox.post("4", payload, {}, 5_000), { kind: "outbox-full" });
  await outbox.done(ids[0] ?? "");
  const restarted = await Outbox.open(storage, "p/", OUTBOX_LIMITS);
  const second = restarted.next(5_000);
  assert.deepEqual([second?.id, second?.topic, second?.payload], [ids[1], "2", payload]);
  assert.equal(restarted.next(70_000), undefined, "the third one's time has ended");
  assert.deepEqual(restarted.state(), { waiting: 1, refused: 0, expired: 1 });
  restarted.waitAgain(ids[1] ?? "");
  assert.equal(ttlLeftS({ id: "", atMs: 0, topic: "", payload, hints: { ttlS: 60 } }, 30_500), 30);
});

test("those who lost their broker come back over the time that it asked for", () => {
  for (const [cause, windowMs, bound] of [["network", 200, 0], ["closed", 20, 20], ["closed", 200, 30], ["broker", 200, 200]] as const) {
    const reconnect = new Reconnect();
    reconnect.advised(windowMs * 1_000);
    reconnect.connected(0);
    reconnect.lost(cause, 0);
    assert.equal(reconnect.waitMaxMs() / 1_000, bound, `${cause}, ${windowMs} s`);
    reconnect.lost("closed", 0);
    assert.ok(reconnect.waitMaxMs() <= 2_000, "the next attempt follows the growing bound");
  }
});

const ADVICE = { ttlS: 86_400, windowS: 30, stayS: 270, quantilesS: [290, 300, 310, 900, 1_800] };

function pulse(advice: typeof ADVICE | undefined) {
  const learner = new Learner({ radio: "4g", label: "46000" });
  const pulse = new Pulse(learner, 10_000);
  pulse.connected(1_680, advice, 0);
  return { learner, pulse };
}

test("a user who looks gets a check at once and then a beat a minute", () => {
  const { pulse: watched } = pulse(ADVICE);
  watched.setForeground(true, 1_000);
  assert.equal(watched.due(1_000), "beat");
  watched.asked(1_000);
  assert.equal(watched.deadlineMs(), 3_000, "patience is short");
  watched.received(1_500);
  assert.equal(watched.deadlineMs(), 61_000);
});

test("in the background the wait is what the fleet's networks allow, and is announced", () => {
  const { learner, pulse: watched } = pulse(ADVICE);
  const waitMs = watched.deadlineMs() ?? 0;
  assert.ok(waitMs > 100_000 && waitMs < 290_000, String(waitMs));
  assert.equal(watched.due(waitMs - 1), "wait");
  assert.equal(watched.due(waitMs), "beat");
  const beat = watched.beat();
  assert.ok(beat.kind === "report");
  assert.match(beat.text, new RegExp(`^next=${waitMs / 1_000};net=4g,46000;late=\\d+$`));
  watched.asked(waitMs);
  watched.received(waitMs + 1_000);
  watched.reportAcknowledged();
  assert.equal(learner.bracket().lo, waitMs / 1_000, "an answer is evidence");
});

test("a broker that takes no part gets plain beats", () => {
  const { pulse: watched } = pulse(undefined);
  assert.equal(watched.deadlineMs(), 180_000, "shorter than common timeouts while nothing is known");
  assert.deepEqual(watched.beat(), { kind: "ping" });
});

test("a beat without an answer ends the connection, and counts when the same network takes the next one soon", () => {
  for (const againMs of [1_000, 31_000]) {
    const { learner, pulse: watched } = pulse(ADVICE);
    const waitMs = watched.deadlineMs() ?? 0;
    watched.asked(waitMs);
    assert.equal(watched.due(waitMs + 9_999), "wait");
    assert.equal(watched.due(waitMs + 10_000), "dead");
    watched.connected(1_680, ADVICE, waitMs + 10_000 + againMs);
    assert.equal(learner.bracket().hi, againMs < 30_000 ? waitMs / 1_000 : null);
  }
});

test("a beat that is nearly due goes along with what arrives", () => {
  const { pulse: watched } = pulse(undefined);
  watched.received(100_000);
  assert.equal(watched.due(100_000), "wait");
  watched.received(150_000);
  assert.equal(watched.due(150_000), "beat");
});

test("what was learned is kept, and nonsense is as good as nothing", () => {
  const learner = new Learner({ radio: "wifi", label: "home" });
  learner.arrive(learner.network);
  learner.survived(300);
  assert.equal(new Learner({ radio: "wifi", label: "home" }, learner.saved()).bracket().lo, 300);
  assert.equal(new Learner({ radio: "wifi", label: "office" }, learner.saved()).bracket().lo, 0);
  assert.equal(new Learner({ radio: "wifi", label: "home" }, "{").bracket().lo, 0);
});

test("ids are UUIDs of version 7 that begin with the time", () => {
  const id = newId(0x0123456789ab);
  assert.match(id, /^01234567-89ab-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(parseId(id.toUpperCase()), id);
  assert.equal(parseId("7"), undefined);
});

test("a word of what was withdrawn names it and shows nothing", () => {
  const id = newId(1);
  const packet = (topic: string, payload: string) =>
    readContent({ cmd: "publish", topic, payload, qos: 1, dup: false, retain: false } as IPublishPacket);
  const told = packet("$push/recall", JSON.stringify({ id }));
  assert.deepEqual([told.recalled, told.id, told.title], [id, undefined, undefined]);
  assert.equal(packet("$push/recall", "x").recalled, undefined);
  assert.equal(packet("$push/message", JSON.stringify({ id })).recalled, undefined);
});
