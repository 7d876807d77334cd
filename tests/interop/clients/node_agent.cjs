// mqtt.js in Node: orders come in as lines of JSON, answers and messages go out as lines of JSON.
"use strict";

const { readFileSync } = require("node:fs");
const { createInterface } = require("node:readline");
const mqtt = require("mqtt");
const { makeAgent } = require("./mqtt_agent.js");

const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);

function tlsOptions({ transport, ca }) {
  if (transport === "tls") return { ca: readFileSync(ca) };
  if (transport === "wss") return { wsOptions: { ca: readFileSync(ca) } };
  return {};
}

async function main() {
  const handle = makeAgent(mqtt, Buffer, say, tlsOptions);
  for await (const line of createInterface({ input: process.stdin })) {
    say(await handle(JSON.parse(line)));
  }
  process.exit(0);
}

main();
