// The phone in Node:  node dist/examples/node.js ws://127.0.0.1:8083/mqtt CLIENT_ID DIRECTORY

import { createInterface } from "node:readline";
import { DirectoryStorage, nodeSocket } from "../src/node.js";
import { startPhone } from "./phone.js";

const [url = "", clientId = "", directory = ""] = process.argv.slice(2);
const say = (line: string) => void process.stdout.write(`${line}\n`);

const storage = await DirectoryStorage.open(directory);
const phone = await startPhone({ url, clientId, storage, socket: nodeSocket() }, say);
for await (const order of createInterface({ input: process.stdin })) {
  say(await phone.obey(order));
  if (order === "close") break;
}
process.exit(0);
