"""Sends Web Push messages with pywebpush. Reads one line of JSON: the subscription, the key, the texts. Prints the statuses."""

import base64
import json
import sys

from cryptography.hazmat.primitives import serialization
from pywebpush import WebPushException, webpush


def raw(pem):
    """The library wants the key in DER, as base64url."""
    key = serialization.load_pem_private_key(pem.encode(), None)
    der = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return base64.urlsafe_b64encode(der).decode().rstrip("=")


def main():
    order = json.loads(sys.stdin.readline())
    statuses = []
    for text in order["texts"]:
        try:
            answer = webpush(
                order["subscription"],
                text,
                vapid_private_key=raw(order["private_key"]),
                vapid_claims={"sub": "mailto:push@shop.example"},
                headers={"Content-Type": "application/octet-stream", "Urgency": "high"},
                ttl=60,
            )
            statuses.append(answer.status_code)
        except WebPushException as error:
            statuses.append(error.response.status_code)
    print(json.dumps(statuses), flush=True)


main()
