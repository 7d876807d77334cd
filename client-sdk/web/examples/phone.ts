// A device that prints what it is sent, once, and obeys one order a line. `phone` is the same for Node and for pages.
// Orders: subscribe FILTER, publish TOPIC TEXT, post TOPIC TEXT, outbox, register VENDOR TOKEN, vendor-push ID,
// network-changed LABEL, foreground, background, heartbeat, close.

import { Client, ClientError, MESSAGE_TOPIC, type Options } from "../src/index.js";

export interface Phone {
  /** Carries out an order; the answer begins with "done" or "failed". */
  obey(order: string): Promise<string>;
}

export async function startPhone(options: Options, say: (line: string) => void): Promise<Phone> {
  const client = await Client.connect(options);
  void showMessages(client, say);
  void tellNetwork(client, say);
  return {
    obey: async (line) => {
      const [order = "", ...rest] = line.split(" ");
      try {
        return `done ${await obey(client, order, rest)}`.trim();
      } catch (error) {
        return `failed ${error instanceof ClientError ? error.kind : error}`;
      }
    },
  };
}

async function obey(client: Client, order: string, rest: string[]): Promise<string> {
  const [first = "", ...others] = rest;
  switch (order) {
    case "subscribe":
      await client.subscribe(first);
      return "";
    case "publish":
      await client.publish(first, others.join(" "));
      return "";
    case "post":
      return client.post(first, others.join(" "));
    case "outbox": {
      const { waiting, refused, expired } = client.outbox();
      return `${waiting} ${refused} ${expired}`;
    }
    case "register":
      await client.register({ vendor: first, token: others.join(" "), platform: "web", language: "zh-CN" });
      return "";
    case "vendor-push": {
      const verdict = await client.vendorPushReceived(first);
      if (verdict === "show") await client.handled(first);
      return verdict;
    }
    case "network-changed":
      client.networkChanged({ radio: "4g", label: first });
      return "";
    case "heartbeat": {
      const { network, intervalS } = client.heartbeat();
      return `${network} ${intervalS}`;
    }
    case "foreground":
      client.foreground();
      return "";
    case "background":
      client.background();
      return "";
    case "close":
      await client.close();
      return "";
    default:
      throw new Error(`no such order: ${order}`);
  }
}

async function showMessages(client: Client, say: (line: string) => void): Promise<void> {
  for await (const message of client.messages()) {
    say(`message ${message.id ?? "-"} ${message.topic} ${message.title ?? message.text()}`); // the notification
    try {
      await message.handled();
      if (message.id !== undefined && message.topic === MESSAGE_TOPIC) await client.shown(message.id);
    } catch (error) {
      if (error instanceof ClientError && error.kind === "closed") return; // what is not handled comes again
      throw error;
    }
  }
}

async function tellNetwork(client: Client, say: (line: string) => void): Promise<void> {
  for (let state = await client.nextNetwork(); state; state = await client.nextNetwork()) {
    if (state.kind === "online") say("network online");
    if (state.kind === "waiting") say(`network waiting ${Math.round(state.retryInMs)} ms, ${state.reason.kind}`);
  }
}
