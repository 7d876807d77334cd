// One message in the hands of the app, and what is read from a PUBLISH.

import type { IPublishPacket } from "mqtt";
import { parseId } from "./ids.js";
import { decode, encode } from "./text.js";

export const MESSAGE_TOPIC = "$push/message";
export const RECALL_TOPIC = "$push/recall";
export const REGISTER_TOPIC = "$push/register";
export const EVENT_TOPIC = "$push/event";

/** What stands in a message. */
export interface Content {
  /** Its identity across socket and vendors; only push messages have one. */
  readonly id: string | undefined;
  /** The topic name; `$push/message` for what was sent to this device. */
  readonly topic: string;
  /** The bytes as they came. */
  readonly payload: Uint8Array;
  readonly qos: 0 | 1 | 2;
  readonly isRetained: boolean;
  /** The alert's title and text. */
  readonly title: string | undefined;
  readonly body: string | undefined;
  /** The app's own data in a message sent to this device. */
  readonly data: unknown;
  /** When the business sent it, and after which time it should not be shown: milliseconds since 1970. */
  readonly sentAtMs: number | undefined;
  readonly expiresAtMs: number | undefined;
  /** A message with the same key replaces this one, also on the screen. */
  readonly collapseKey: string | undefined;
  /** Whether it stays in the user's inbox. */
  readonly isInInbox: boolean;
  /** The id of a message that was withdrawn, if this one says so: its notification is to be taken away. */
  readonly recalled: string | undefined;
}

/** A message that the app has not had before. It stays unacknowledged until `handled`. */
export interface Message extends Content {
  /** The payload as text. */
  text(): string;
  /**
   * Says that the app is done with it: its id is stored, then the message is acknowledged. Saying it twice does no
   * harm.
   */
  handled(): Promise<void>;
  /** Lets it go without handling it: it is delivered again on the next connection. */
  giveBack(): void;
}

/** Reads a PUBLISH. A payload on `$push/message` that is no such JSON stays readable as bytes. */
export function readContent(packet: IPublishPacket): Content {
  const topic = packet.topic;
  const payload = typeof packet.payload === "string" ? encode(packet.payload) : new Uint8Array(packet.payload);
  const alert = topic === MESSAGE_TOPIC ? readAlert(payload) : {};
  const properties = packet.properties?.userProperties ?? {};
  return {
    id: parseId(last(properties["push-id"]) ?? alert["id"]),
    topic,
    payload,
    qos: packet.qos,
    isRetained: packet.retain,
    title: text(alert["title"]) ?? last(properties["push-title"]),
    body: text(alert["body"]) ?? last(properties["push-body"]),
    data: alert["data"],
    sentAtMs: number(alert["sent_at_ms"]),
    expiresAtMs: number(alert["expires_at_ms"]),
    collapseKey: text(alert["collapse_key"]),
    isInInbox: alert["inbox"] === true,
    recalled: topic === RECALL_TOPIC ? parseId(readAlert(payload)["id"]) : undefined,
  };
}

/** The last one counts: the broker appends its own behind those of the publisher. */
export function last(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[value.length - 1] : value;
}

function readAlert(payload: Uint8Array): Record<string, unknown> {
  try {
    const alert: unknown = JSON.parse(decode(payload));
    return typeof alert === "object" && alert !== null ? (alert as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

const text = (value: unknown) => (typeof value === "string" ? value : undefined);
const number = (value: unknown) => (typeof value === "number" ? value : undefined);
