// How a connection gets its WebSocket: pages have one, Node and mini-programs bring theirs.

/** The part of WebSocket that is used here. `data` of a message is an ArrayBuffer. */
export interface Socket {
  binaryType: string;
  readonly readyState: number;
  readonly bufferedAmount?: number;
  readonly OPEN: number;
  onopen: ((event: unknown) => void) | null;
  onmessage: ((event: { data: ArrayBuffer }) => void) | null;
  onclose: ((event: unknown) => void) | null;
  onerror: ((event: unknown) => void) | null;
  send(data: Uint8Array): void;
  close(): void;
}

/** Opens a socket to the URL with this WebSocket subprotocol (`mqtt`). */
export type SocketFactory = (url: string, protocol: string) => Socket;

/** The page's own WebSocket. */
export const webSocket: SocketFactory = (url, protocol) => {
  if (typeof WebSocket === "undefined") throw new Error("there is no WebSocket here: give the option `socket`");
  return new WebSocket(url, protocol) as unknown as Socket;
};
