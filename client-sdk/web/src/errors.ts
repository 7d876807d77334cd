// What can go wrong, told so that an app can tell it apart.

/** Why an operation did not succeed. */
export type ErrorKind =
  /** The client was closed before it was done. */
  | "closed"
  /** The text is no topic name, or no topic filter. */
  | "topic"
  /** The text is no message id. */
  | "message-id"
  /** The broker's reason stands in `reasonCode`. */
  | "refused"
  /** The broker takes no packet of this size. */
  | "too-large"
  /** The outbox is at its limit of messages or bytes. */
  | "outbox-full"
  /** Inbox or outbox could not be stored; the reason stands in `cause`. */
  | "not-recorded"
  /** The business gave the device no user, so it has no inbox. */
  | "no-user"
  /** The push server did not answer, or not as it should. */
  | "no-answer"
  /** An option is off limits. */
  | "options";

/** The one error of this library. */
export class ClientError extends Error {
  readonly kind: ErrorKind;
  /** The number on the wire, when the broker refused. */
  readonly reasonCode: number | undefined;
  /** What lies behind it. */
  readonly cause: unknown;

  constructor(kind: ErrorKind, message: string, more: { reasonCode?: number; cause?: unknown } = {}) {
    super(message);
    this.name = "ClientError";
    this.kind = kind;
    this.reasonCode = more.reasonCode;
    this.cause = more.cause;
  }
}

export const closed = () => new ClientError("closed", "the client is closed");

export const refused = (reasonCode: number) =>
  new ClientError("refused", `refused by the broker: 0x${reasonCode.toString(16)}`, { reasonCode });
