// What is unacknowledged, across reconnects, against a connection whose answers the test gives.

import { strict as assert } from "node:assert";
import { test } from "node:test";
import type { Connection } from "../src/connection.js";
import { Sending } from "../src/sending.js";

/** What was handed over, and the ends that the test decides about. */
function scripted() {
  const sent: string[] = [];
  const answers: Array<(code: number) => void> = [];
  const connection = {
    publish: ({ topic, dup }: { topic: string; dup: boolean }, packetId: number) => {
      sent.push(`${packetId} ${topic}${dup ? " dup" : ""}`);
      return new Promise<number>((resolve) => answers.push(resolve));
    },
    subscribe: (filter: string, _qos: number, packetId: number) => {
      sent.push(`${packetId} ask ${filter}`);
      return new Promise<number>((resolve) => answers.push(resolve));
    },
  };
  return { sent, answers, connection: connection as unknown as Connection };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));
const publish = (sending: Sending, topic: string) => sending.publish({ topic, payload: "", qos: 1 });

test("a resumed session gets repetitions under their identifiers, in order, before anything new", async () => {
  const sending = new Sending(2, 10);
  const first = scripted();
  const results = ["a", "b", "c"].map((topic) => publish(sending, topic));
  void sending.ask({ kind: "subscribe", filter: "f", qos: 1 });
  sending.connected(first.connection, true, undefined);
  assert.deepEqual(first.sent, ["1 a", "2 b"], "no more than the window");
  first.answers[0]?.(0);
  assert.equal(await results[0], 0);
  await settled();
  assert.deepEqual(first.sent, ["1 a", "2 b", "3 c"]);
  sending.lost();
  const second = scripted();
  sending.connected(second.connection, true, undefined);
  assert.deepEqual(second.sent, ["2 b dup", "3 c dup"]);
  second.answers[0]?.(0x97);
  assert.equal(await results[1], 0x97);
  await settled();
  assert.deepEqual(second.sent.slice(2), ["4 ask f"], "and then the question");
});

test("a lost session gets everything as new", () => {
  const sending = new Sending(2, 10);
  const first = scripted();
  void publish(sending, "a");
  sending.connected(first.connection, true, undefined);
  sending.lost();
  const second = scripted();
  sending.connected(second.connection, false, undefined);
  assert.equal(second.sent.length, 1);
  assert.match(second.sent[0] ?? "", /^\d+ a$/, "without DUP");
});

test("a packet above the broker's limit is refused here, and the connection lives on", async () => {
  const sending = new Sending(2, 10);
  const { connection, sent } = scripted();
  sending.connected(connection, true, { maximumPacketSize: 100 });
  await assert.rejects(publish(sending, "x".repeat(100)), { kind: "too-large" });
  assert.deepEqual(sent, []);
});

test("publishes beyond the bound wait for room, and everybody is answered at the end", async () => {
  const sending = new Sending(1, 1);
  const { connection, answers } = scripted();
  sending.connected(connection, true, undefined);
  const first = publish(sending, "a");
  let hasRoom = false;
  const room = sending.room().then(() => (hasRoom = true));
  await settled();
  assert.equal(hasRoom, false);
  answers[0]?.(0);
  await Promise.all([first, room]);
  const second = publish(sending, "b");
  sending.close();
  await assert.rejects(second, { kind: "closed" });
  await assert.rejects(publish(sending, "c"), { kind: "closed" });
});
