// The phone as a mini-program would be: `wx` here is a stand-in with the callbacks of the real one.
//   node dist/test/mini_program_phone.js ws://127.0.0.1:8083/mqtt CLIENT_ID DIRECTORY

import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { WebSocket } from "ws";
import { startPhone } from "../examples/phone.js";
import { type MiniProgram, type SocketTask, miniProgramSocket, miniProgramStorage } from "../src/mini_program.js";

const [url = "", clientId = "", directory = ""] = process.argv.slice(2);
const say = (line: string) => void process.stdout.write(`${line}\n`);

function connectSocket({ url, protocols }: { url: string; protocols: string[] }): SocketTask {
  const socket = new WebSocket(url, protocols);
  socket.binaryType = "arraybuffer";
  return {
    onOpen: (listener) => socket.on("open", listener),
    onMessage: (listener) => socket.on("message", (data) => listener({ data: data as ArrayBuffer })),
    onClose: (listener) => socket.on("close", listener),
    onError: (listener) => socket.on("error", listener),
    send: ({ data }) => {
      if (!(data instanceof ArrayBuffer)) throw new Error("send: data is an ArrayBuffer");
      socket.send(data);
    },
    close: () => socket.close(),
  };
}

/** The phone's own storage, which outlives the app. */
function storageIn(path: string): Omit<MiniProgram, "connectSocket"> {
  const entries = new Map<string, string>(existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : []);
  const save = () => {
    writeFileSync(`${path}.new`, JSON.stringify([...entries]));
    renameSync(`${path}.new`, path);
  };
  return {
    getStorageInfoSync: () => ({ keys: [...entries.keys()] }),
    getStorageSync: (key) => entries.get(key) ?? "",
    setStorageSync: (key, value) => (entries.set(key, value), save()),
    removeStorageSync: (key) => (entries.delete(key), save()),
  };
}

// A mini-program's engine has none of these.
for (const name of ["WebSocket", "TextEncoder", "TextDecoder", "crypto"]) {
  Object.defineProperty(globalThis, name, { value: undefined, configurable: true });
}
const wx = { connectSocket, ...storageIn(join(directory, "storage.json")) };
const phone = await startPhone({ url, clientId, socket: miniProgramSocket(wx), storage: miniProgramStorage(wx) }, say);
for await (const order of createInterface({ input: process.stdin })) {
  say(await phone.obey(order));
  if (order === "close") break;
}
process.exit(0);
