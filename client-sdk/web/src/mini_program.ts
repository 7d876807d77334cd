// WeChat mini-programs and uni-app: their socket and their storage, in the shape that the library wants.
//
//   import { miniProgramSocket, miniProgramStorage } from "reveille-client/mini-program";
//   Client.connect({ ..., socket: miniProgramSocket(wx), storage: miniProgramStorage(wx) });   // or `uni`

import type { Socket, SocketFactory } from "./socket.js";
import { KeyValueStorage, type Storage } from "./storage.js";

/** What `connectSocket` of `wx` and of `uni` returns. */
export interface SocketTask {
  onOpen(listener: () => void): void;
  onMessage(listener: (message: { data: string | ArrayBuffer }) => void): void;
  onClose(listener: (event: unknown) => void): void;
  onError(listener: (event: unknown) => void): void;
  send(options: { data: ArrayBuffer; fail?: (error: unknown) => void }): void;
  close(options: object): void;
}

/** The part of `wx` and of `uni` that is used here. */
export interface MiniProgram {
  // uni returns a promise instead of the task unless a callback is given.
  connectSocket(options: { url: string; protocols: string[]; complete?: () => void }): SocketTask;
  getStorageInfoSync(): { keys: string[] };
  getStorageSync(key: string): unknown;
  setStorageSync(key: string, value: string): void;
  removeStorageSync(key: string): void;
}

/** A socket for the option `socket`. */
export function miniProgramSocket(platform: Pick<MiniProgram, "connectSocket">): SocketFactory {
  return (url, protocol) => new TaskSocket(platform.connectSocket({ url, protocols: [protocol], complete: () => {} }));
}

/** The storage of the mini-program for the option `storage`: 10 MB, 1 MB a value. */
export function miniProgramStorage(platform: Omit<MiniProgram, "connectSocket">): Storage {
  return new KeyValueStorage({
    keys: () => platform.getStorageInfoSync().keys,
    get: (key) => String(platform.getStorageSync(key) ?? ""),
    set: (key, value) => platform.setStorageSync(key, value),
    remove: (key) => platform.removeStorageSync(key),
  });
}

const OPEN = 1;
const CLOSED = 3;

class TaskSocket implements Socket {
  readonly OPEN = OPEN;
  binaryType = "arraybuffer";
  readyState = 0;
  onopen: Socket["onopen"] = null;
  onmessage: Socket["onmessage"] = null;
  onclose: Socket["onclose"] = null;
  onerror: Socket["onerror"] = null;
  readonly #task: SocketTask;

  constructor(task: SocketTask) {
    this.#task = task;
    task.onOpen(() => {
      this.readyState = OPEN;
      this.onopen?.({});
    });
    task.onMessage(({ data }) => this.onmessage?.({ data: data as ArrayBuffer }));
    task.onError((event) => this.onerror?.(event));
    task.onClose((event) => {
      this.readyState = CLOSED;
      this.onclose?.(event);
    });
  }

  send(data: Uint8Array): void {
    // Only whole ArrayBuffers are taken; a view may be a part of one, and the slice of a Buffer copies nothing.
    this.#task.send({ data: new Uint8Array(data).buffer, fail: (error) => this.onerror?.(error) });
  }

  close(): void {
    this.#task.close({});
  }
}
