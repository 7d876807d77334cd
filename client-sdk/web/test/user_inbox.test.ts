// The inbox of the user against a push server whose answers the test gives.

import { strict as assert } from "node:assert";
import { test } from "node:test";
import { ClientError } from "../src/errors.js";
import { UserInbox } from "../src/user_inbox.js";

/** What was asked, in order; each question is with the broker at once. */
function scripted() {
  const asked: Array<Record<string, unknown>> = [];
  const inbox = new UserInbox(async (payload) => void asked.push(JSON.parse(payload)));
  const tell = (told: object) => inbox.take(new TextEncoder().encode(JSON.stringify(told)));
  return { asked, inbox, tell };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("the counts are asked for only where the app looks, and many messages at once are two questions", async () => {
  const { asked, inbox, tell } = scripted();
  inbox.connected();
  inbox.changed();
  assert.deepEqual(asked, []);
  assert.equal(inbox.state(), undefined);
  await settled();
  inbox.changed();
  inbox.changed();
  assert.deepEqual(asked, [{}]);
  tell({ user: "42", unread: 2, revision: 5 });
  await settled();
  assert.deepEqual(asked, [{}, {}]);
  tell({ user: "42", unread: 3, revision: 6 });
  tell({ user: "42", unread: 1, revision: 4 });
  assert.deepEqual(await inbox.nextState(), { user: "42", unread: 3, revision: 6 });
  assert.equal(asked.length, 2);
});

test("an answer reaches the one who asked, and an error too", async () => {
  const { asked, inbox, tell } = scripted();
  const page = inbox.page({ limit: 1 });
  const id = "0199b2c0-7c3e-7a41-9c55-0242ac120002";
  tell({ request: asked[0]?.["request"], user: "42", unread: 1, revision: 1, next: id, items: [{ id, title: "t", sent_at_ms: 5 }] });
  const { messages, next, unread } = await page;
  assert.deepEqual([messages[0]?.title, messages[0]?.sentAtMs, messages[0]?.readAtMs, next, unread], ["t", 5, undefined, id, 1]);
  const read = inbox.read([id]);
  tell({ request: asked[1]?.["request"], error: "no_user" });
  await assert.rejects(read, (error: ClientError) => error.kind === "no-user");
  const late = inbox.unread();
  await settled();
  inbox.close();
  await assert.rejects(late, (error: ClientError) => error.kind === "closed");
});
