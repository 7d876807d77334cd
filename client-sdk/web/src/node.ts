// For Node: its socket, and a directory that keeps inbox and outbox.

import { open, mkdir, readFile, readdir, rename, unlink } from "node:fs/promises";
import { join } from "node:path";
import { WebSocket } from "ws";
import type { Socket, SocketFactory } from "./socket.js";
import type { Storage } from "./storage.js";

/** A socket of the package `ws`; `tls` has options such as `ca`. */
export function nodeSocket(tls: { ca?: string | Buffer } = {}): SocketFactory {
  return (url, protocol) => new WebSocket(url, [protocol], tls) as unknown as Socket;
}

/** One file a key, each on disk before the promise ends. */
export class DirectoryStorage implements Storage {
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
  }

  static async open(path: string): Promise<DirectoryStorage> {
    await mkdir(path, { recursive: true });
    return new DirectoryStorage(path);
  }

  async load(prefix: string): Promise<Array<[string, string]>> {
    const names = (await readdir(this.#path)).filter((name) => name.endsWith(SUFFIX));
    const keys = names.map((name) => decodeURIComponent(name.slice(0, -SUFFIX.length)));
    const wanted = keys.filter((key) => key.startsWith(prefix));
    return Promise.all(wanted.map(async (key) => [key, await readFile(this.#file(key), "utf8")] as [string, string]));
  }

  async put(key: string, value: string): Promise<void> {
    const beside = `${this.#file(key)}.new`;
    const file = await open(beside, "w");
    try {
      await file.writeFile(value);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(beside, this.#file(key));
    await this.#syncNames();
  }

  async remove(keys: string[]): Promise<void> {
    for (const key of keys) await unlink(this.#file(key)).catch(() => {}); // it is gone already
  }

  #file(key: string): string {
    return join(this.#path, encodeURIComponent(key) + SUFFIX);
  }

  /** A name is durable when its directory is. */
  async #syncNames(): Promise<void> {
    if (process.platform === "win32") return;
    const directory = await open(this.#path);
    await directory.sync().finally(() => directory.close());
  }
}

const SUFFIX = ".entry";
