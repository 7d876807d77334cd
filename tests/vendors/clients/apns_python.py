"""Sends pushes to the fake APNs with aioapns, with a token key and with a certificate.

Reads one line of JSON from standard input: the two credentials, and a file with the certificate and its key. Prints the answers as JSON.
"""

import asyncio
import json
import sys
from urllib.parse import urlparse

from aioapns import APNs, NotificationRequest, PushType
from aioapns.connection import APNsDevelopmentClientProtocol


def answer(response):
    return [response.status, response.description, response.timestamp]


async def send(client, token, push_type, message, **more):
    request = NotificationRequest(device_token=token, message=message, push_type=push_type, **more)
    return answer(await client.send_notification(request))


async def main():
    order = json.loads(sys.stdin.readline())
    token = order["token"]
    address = urlparse(token["endpoint"])
    # The library knows Apple's hosts only; everything else is left as it is.
    APNsDevelopmentClientProtocol.APNS_SERVER = address.hostname
    APNsDevelopmentClientProtocol.APNS_PORT = address.port
    alert = {"aps": {"alert": {"title": "泵 7", "body": "压力 9.1 bar"}}, "mid": "m1"}
    by_token = APNs(
        key=token["private_key"],
        key_id=token["key_id"],
        team_id=token["team_id"],
        topic=token["bundle_id"],
        use_sandbox=True,
    )
    # No topic: the library reads it from the UID of the certificate.
    by_certificate = APNs(client_cert=order["certificate_file"], use_sandbox=True)
    told = {}
    for name, client in (("token", by_token), ("certificate", by_certificate)):
        first = await send(client, "00aa", PushType.ALERT, alert, collapse_key="c1", time_to_live=60)
        many = await asyncio.gather(
            *(send(client, f"{number:04x}", PushType.ALERT, alert) for number in range(50))
        )
        dead = await send(client, "dead", PushType.ALERT, alert)
        large = await send(client, "00aa", PushType.ALERT, {"aps": {"alert": "x" * 4096}})
        told[name] = {"first": first, "many": many, "dead": dead, "large": large}
    print(json.dumps(told), flush=True)


asyncio.run(main())
