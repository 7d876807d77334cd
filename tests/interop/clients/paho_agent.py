"""paho-mqtt, doing what a test tells it: orders come in as lines of JSON, answers and messages go out as lines of JSON.

The orders and answers are described in tests/interop/agent.rs.
"""

import base64
import json
import queue
import socket
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent import publish_properties, say, shown_properties

PATIENCE_S = 60


class Device:
    """One client and its connection."""

    def __init__(self, order):
        self.name = order["client"]
        self.is_v5 = order["version"] == 5
        self.answers = queue.Queue()
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=self.name,
            clean_session=None if self.is_v5 else order["clean"],
            protocol=mqtt.MQTTv5 if self.is_v5 else mqtt.MQTTv311,
            transport="websockets" if order["transport"] in ("ws", "wss") else "tcp",
            reconnect_on_failure=False,
        )
        if order["transport"] in ("ws", "wss"):
            self.client.ws_set_options(path=order["path"])
        if order["transport"] in ("tls", "wss"):
            self.client.tls_set(ca_certs=order["ca"])
        if order["will"]:
            will = order["will"]
            payload = base64.b64decode(will["payload"])
            self.client.will_set(will["topic"], payload, will["qos"], will["retain"])
        self.client.on_connect = lambda _c, _u, flags, reason, _p: self.answers.put((flags, reason))
        self.client.on_subscribe = lambda _c, _u, _mid, reasons, _p: self.answers.put(reasons)
        self.client.on_disconnect = lambda *_: self.answers.put(None)
        self.client.on_message = lambda _c, _u, message: say({"message": self.shown(message)})

    def connect(self, order):
        properties = None
        if self.is_v5 and not order["clean"]:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 3600
        starts = {"clean_start": order["clean"]} if self.is_v5 else {}
        self.client.connect(order["host"], order["port"], 30, properties=properties, **starts)
        self.client.loop_start()
        flags, reason = self.answer()
        if reason.is_failure:
            raise RuntimeError(f"CONNECT was refused: {reason}")
        return {"session_present": flags.session_present}

    def answer(self):
        answer = self.answers.get(timeout=PATIENCE_S)
        if answer is None:
            raise RuntimeError("the connection ended")
        return answer

    def subscribe(self, order):
        self.client.subscribe(order["filter"], order["qos"])
        return {"granted": self.answer()[0].value}

    def publish(self, order):
        properties = publish_properties(order["properties"])
        payload = base64.b64decode(order["payload"])
        sent = self.client.publish(order["topic"], payload, order["qos"], order["retain"], properties)
        sent.wait_for_publish(PATIENCE_S)
        if not sent.is_published():
            raise RuntimeError("the publish was not acknowledged in time")
        return {}

    def leave(self, _order):
        self.client.disconnect()
        self.client.loop_stop()
        return {}

    def vanish(self, _order):
        carrier = self.client.socket()
        getattr(carrier, "_socket", carrier).shutdown(socket.SHUT_RDWR)  # below WebSocket, where there is one
        self.client.loop_stop()
        return {}

    def shown(self, message):
        properties = getattr(message, "properties", None)
        return {
            "client": self.name,
            "topic": message.topic,
            "payload": base64.b64encode(message.payload).decode(),
            "qos": message.qos,
            "retain": message.retain,
            "properties": shown_properties(properties),
        }


def main():
    devices = {}
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if order["do"] == "connect":
                devices[order["client"]] = Device(order)
            answer = getattr(devices[order["client"]], order["do"])(order)
            say({"done": {"session_present": None, "granted": None, **answer}})
        except Exception as error:  # whatever it is, the test must hear of it
            say({"failed": f"{order['do']}: {error!r}"})


main()
