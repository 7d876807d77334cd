"""What the agents in Python share: answers as lines of JSON, and MQTT 5 properties in the words of tests/interop/agent.rs."""

import base64
import json
import threading

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

printing = threading.Lock()


def say(answer):
    with printing:  # messages may come on the clients' own threads
        print(json.dumps(answer), flush=True)


def publish_properties(wanted):
    if not wanted:
        return None
    properties = Properties(PacketTypes.PUBLISH)
    properties.UserProperty = [tuple(pair) for pair in wanted["user"]]
    properties.ContentType = wanted["content_type"]
    properties.ResponseTopic = wanted["response_topic"]
    properties.CorrelationData = base64.b64decode(wanted["correlation"])
    return properties


def shown_properties(properties):
    if properties is None or not hasattr(properties, "ContentType"):
        return None
    return {
        "user": [list(pair) for pair in properties.UserProperty],
        "content_type": properties.ContentType,
        "response_topic": properties.ResponseTopic,
        "correlation": base64.b64encode(properties.CorrelationData).decode(),
    }
