// Message ids: UUIDs as the text of 36 characters that stands on the wire.

const SHAPE = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** The id in small letters, or nothing when the text is none. */
export function parseId(text: unknown): string | undefined {
  return typeof text === "string" && SHAPE.test(text) ? text.toLowerCase() : undefined;
}

/** A UUID of version 7: time first, then chance. */
export function newId(nowMs: number): string {
  const bytes = randomBytes(16);
  for (let at = 0; at < 6; at++) bytes[at] = Math.floor(nowMs / 2 ** (8 * (5 - at))) % 256;
  bytes[6] = 0x70 | ((bytes[6] ?? 0) & 0x0f);
  bytes[8] = 0x80 | ((bytes[8] ?? 0) & 0x3f);
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** Mini-programs have no Web Crypto; an id need only be different from others, not secret. */
function randomBytes(count: number): Uint8Array {
  const bytes = new Uint8Array(count);
  if (globalThis.crypto?.getRandomValues) return globalThis.crypto.getRandomValues(bytes);
  return bytes.map(() => Math.floor(Math.random() * 256));
}
