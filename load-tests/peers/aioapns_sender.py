"""An independent sender of APNs pushes for the scenario `pushes`: aioapns, as its documentation shows it.

Reads one line of JSON from standard input (credential, count, window, connections), sends, and prints what it took.
"""

import asyncio
import json
import sys
import time
from urllib.parse import urlparse

from aioapns import APNs, NotificationRequest, PushType
from aioapns.connection import APNsDevelopmentClientProtocol


async def main():
    order = json.loads(sys.stdin.readline())
    credential = order["credential"]
    address = urlparse(credential["endpoint"])
    # The library knows Apple's hosts only; everything else is left as it is.
    APNsDevelopmentClientProtocol.APNS_SERVER = address.hostname
    APNsDevelopmentClientProtocol.APNS_PORT = address.port
    client = APNs(
        key=credential["private_key"],
        key_id=credential["key_id"],
        team_id=credential["team_id"],
        topic=credential["bundle_id"],
        use_sandbox=True,
        max_connections=order["connections"],
    )
    room = asyncio.Semaphore(order["window"])
    refused = 0

    async def send(number):
        nonlocal refused
        async with room:
            request = NotificationRequest(
                device_token=f"{number % 1000:064x}",
                message={"aps": {"alert": {"title": "泵 7", "body": "压力 9.1 bar"}}, "mid": str(number)},
                push_type=PushType.ALERT,
            )
            response = await client.send_notification(request)
            refused += not response.is_successful

    await send(0)  # connects
    started = time.monotonic()
    await asyncio.gather(*(send(number) for number in range(order["count"])))
    print(json.dumps({"seconds": time.monotonic() - started, "refused": refused}), flush=True)
    sys.stdin.readline()  # whoever started this reads the processor time first


asyncio.run(main())
