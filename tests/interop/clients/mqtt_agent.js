// mqtt.js, doing what a test tells it. The same file runs in Node and in a page.
//
// The orders and answers are described in tests/interop/agent.rs.
"use strict";

const toBytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.codePointAt(0));
const toBase64 = (bytes) => {
  let letters = "";
  for (const byte of bytes ?? []) letters += String.fromCodePoint(byte); // one by one: a call has too few arguments
  return btoa(letters);
};

/** Makes the function that carries out orders; `say` hears messages, `tls` holds what Node wants for TLS. */
// eslint-disable-next-line no-unused-vars
function makeAgent(mqtt, Buffer, say, tlsOptions) {
  const clients = new Map();

  const shownProperties = (properties) => {
    if (!properties?.contentType) return null;
    const user = Object.entries(properties.userProperties ?? {}).flatMap(([key, value]) =>
      [value].flat().map((one) => [key, one]),
    );
    return {
      user,
      content_type: properties.contentType,
      response_topic: properties.responseTopic,
      correlation: toBase64(properties.correlationData),
    };
  };

  const connect = (order) =>
    new Promise((resolve, reject) => {
      const { topic, payload, qos, retain } = order.will ?? {};
      const will = order.will && { topic, payload: Buffer.from(toBytes(payload)), qos, retain };
      const client = mqtt.connect({
        protocol: { tcp: "mqtt", tls: "mqtts", ws: "ws", wss: "wss" }[order.transport],
        host: order.host,
        port: order.port,
        path: order.path,
        ...tlsOptions(order),
        protocolVersion: order.version,
        clientId: order.client,
        clean: order.clean,
        keepalive: 30,
        reconnectPeriod: 0,
        ...(will && { will }),
        ...(order.version === 5 && !order.clean && { properties: { sessionExpiryInterval: 3600 } }),
      });
      clients.set(order.client, client);
      client.on("message", (topic, payload, packet) =>
        say({
          message: {
            client: order.client,
            topic,
            payload: toBase64(payload),
            qos: packet.qos,
            retain: packet.retain,
            properties: shownProperties(packet.properties),
          },
        }),
      );
      client.once("connect", (connack) => resolve({ session_present: connack.sessionPresent }));
      client.once("error", reject);
      client.once("close", () => reject(new Error("the connection ended")));
    });

  const subscribe = async (client, order) => {
    const granted = await client.subscribeAsync(order.filter, { qos: order.qos });
    return { granted: granted[0].qos };
  };

  const publish = async (client, order) => {
    const wanted = order.properties;
    const userProperties = {};
    for (const [key, value] of wanted?.user ?? []) {
      userProperties[key] = key in userProperties ? [userProperties[key], value].flat() : value;
    }
    const properties = wanted && {
      userProperties,
      contentType: wanted.content_type,
      responseTopic: wanted.response_topic,
      correlationData: Buffer.from(toBytes(wanted.correlation)),
    };
    const options = { qos: order.qos, retain: order.retain, ...(properties && { properties }) };
    await client.publishAsync(order.topic, Buffer.from(toBytes(order.payload)), options);
    return {};
  };

  const end = async (client, isForced) => {
    await client.endAsync(isForced);
    return {};
  };

  const carryOut = (order) => {
    if (order.do === "connect") return connect(order);
    const client = clients.get(order.client);
    switch (order.do) {
      case "subscribe":
        return subscribe(client, order);
      case "publish":
        return publish(client, order);
      case "leave":
        return end(client, false);
      case "vanish":
        return end(client, true); // destroys its stream without DISCONNECT
      default:
        throw new Error(`unknown order ${order.do}`);
    }
  };

  return async (order) => {
    try {
      return { done: { session_present: null, granted: null, ...(await carryOut(order)) } };
    } catch (error) {
      return { failed: `${order.do}: ${error.stack ?? error}` };
    }
  };
}

if (typeof module !== "undefined") module.exports = { makeAgent };
