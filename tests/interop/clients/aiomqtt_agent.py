"""aiomqtt, doing what a test tells it: orders come in as lines of JSON, answers and messages go out as lines of JSON.

The orders and answers are described in tests/interop/agent.rs.
"""

import asyncio
import base64
import json
import socket
import sys

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent import publish_properties, say, shown_properties

PATIENCE_S = 60


class Device:
    """One client and its connection."""

    def __init__(self, order):
        self.name = order["client"]
        is_v5 = order["version"] == 5
        options = {}
        if is_v5:
            options["clean_start"] = order["clean"]
            if not order["clean"]:
                options["properties"] = Properties(PacketTypes.CONNECT)
                options["properties"].SessionExpiryInterval = 3600
        else:
            options["clean_session"] = order["clean"]
        if order["transport"] in ("ws", "wss"):
            options.update(transport="websockets", websocket_path=order["path"])
        if order["transport"] in ("tls", "wss"):
            options["tls_params"] = aiomqtt.TLSParameters(ca_certs=order["ca"])
        if order["will"]:
            will = order["will"]
            payload = base64.b64decode(will["payload"])
            options["will"] = aiomqtt.Will(will["topic"], payload, will["qos"], will["retain"])
        self.client = aiomqtt.Client(
            order["host"],
            order["port"],
            identifier=self.name,
            protocol=aiomqtt.ProtocolVersion.V5 if is_v5 else aiomqtt.ProtocolVersion.V311,
            timeout=PATIENCE_S,
            keepalive=30,
            **options,
        )
        self.listening = None

    async def connect(self, _order):
        await self.client.__aenter__()
        self.listening = asyncio.create_task(self.listen())
        return {}  # aiomqtt does not tell whether the session was there

    async def listen(self):
        try:
            async for message in self.client.messages:
                say({"message": self.shown(message)})
        except aiomqtt.MqttError:
            pass  # the end of the connection, which the test asked for or will miss

    async def subscribe(self, order):
        granted = await self.client.subscribe(order["filter"], order["qos"])
        return {"granted": getattr(granted[0], "value", granted[0])}

    async def publish(self, order):
        properties = publish_properties(order["properties"])
        payload = base64.b64decode(order["payload"])
        await self.client.publish(order["topic"], payload, order["qos"], order["retain"], properties)
        return {}

    async def leave(self, _order):
        self.listening.cancel()
        await self.client.__aexit__(None, None, None)
        return {}

    async def vanish(self, _order):
        carrier = self.client._client.socket()  # below aiomqtt and paho, and below WebSocket, where there is one
        getattr(carrier, "_socket", carrier).shutdown(socket.SHUT_RDWR)
        await self.listening
        return {}

    def shown(self, message):
        return {
            "client": self.name,
            "topic": message.topic.value,
            "payload": base64.b64encode(message.payload).decode(),
            "qos": message.qos,
            "retain": message.retain,
            "properties": shown_properties(message.properties),
        }


async def main():
    devices = {}
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        try:
            if order["do"] == "connect":
                devices[order["client"]] = Device(order)
            answer = await getattr(devices[order["client"]], order["do"])(order)
            say({"done": {"session_present": None, "granted": None, **answer}})
        except Exception as error:  # whatever it is, the test must hear of it
            say({"failed": f"{order['do']}: {error!r}"})


asyncio.run(main())
