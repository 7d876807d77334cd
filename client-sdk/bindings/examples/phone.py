"""A device on the command line: prints what it is sent, once, and obeys one order a line.

    python phone.py HOST:PORT CLIENT_ID DIRECTORY

DIRECTORY keeps inbox and outbox. Orders: subscribe FILTER, publish TOPIC TEXT, post TOPIC TEXT, outbox,
register VENDOR TOKEN, vendor-push ID, network-changed LABEL, foreground, background, heartbeat, close.
"""

import asyncio
import os
import sys

from reveille import (
    Client,
    ClientError,
    DeviceNetwork,
    Learning,
    NetworkState,
    Options,
    PushHints,
    QoS,
    Radio,
    Registration,
    VendorPush,
)


def say(*words):
    print(*words, flush=True)


async def tell_network(client):
    while True:
        state = await client.next_network()
        if isinstance(state, NetworkState.ONLINE):
            say("network online")
        elif isinstance(state, NetworkState.WAITING):
            say("network waiting", f"{state.retry_in.total_seconds():.1f}", type(state.reason).__name__)
        elif isinstance(state, NetworkState.CLOSED):
            return


async def show_messages(client):
    while (message := await client.next_message()) is not None:
        text = message.title() or message.payload().decode(errors="replace")
        say("message", message.id() or "-", message.topic(), text)  # a phone would post a notification here
        try:
            await message.handled()
            if message.topic() == "$push/message":
                await client.shown(message.id())
        except ClientError.Closed:
            return  # closed meanwhile: what is not handled comes again


async def obey(client, order, rest):
    if order == "subscribe":
        await client.subscribe(rest, QoS.AT_LEAST_ONCE)
        return ()
    if order in ("publish", "post"):
        topic, text = rest.split(" ", 1)
        if order == "publish":
            await client.publish(topic, text.encode(), QoS.AT_LEAST_ONCE, PushHints())
            return ()
        return (await client.post(topic, text.encode(), PushHints()),)
    if order == "outbox":
        outbox = client.outbox()
        return (outbox.waiting, outbox.refused, outbox.expired)
    if order == "register":
        vendor, token = rest.split(" ", 1)
        await client.register(Registration(vendor=vendor, token=token, platform="android", language="zh-CN"))
        return ()
    if order == "vendor-push":
        if await client.vendor_push_received(rest) == VendorPush.DUPLICATE:
            return ("duplicate",)
        await client.handled(rest)
        return ("show",)
    if order == "network-changed":
        await client.network_changed_to(DeviceNetwork(radio=Radio.G4, label=rest))
        return ()
    if order in ("foreground", "background"):
        await (client.foreground() if order == "foreground" else client.background())
        return ()
    if order == "heartbeat":
        heartbeat = client.heartbeat()
        return (heartbeat.network, round(heartbeat.interval.total_seconds()))
    raise ValueError(f"no such order: {order}")


async def main(endpoint, client_id, directory):
    host, port = endpoint.rsplit(":", 1)
    client = Client.connect(
        Options(
            client_id=client_id,
            host=host,
            port=int(port),
            inbox_file=os.path.join(directory, "inbox"),
            outbox_file=os.path.join(directory, "outbox"),
            learned_heartbeat=Learning(file=os.path.join(directory, "heartbeat")),
        )
    )
    story = asyncio.gather(tell_network(client), show_messages(client))
    lines = asyncio.get_running_loop()
    while (line := await lines.run_in_executor(None, sys.stdin.readline)) and line != "close\n":
        order, _, rest = line.rstrip("\n").partition(" ")
        try:
            say("done", *await obey(client, order, rest))
        except ClientError as error:
            say("failed", type(error).__name__)
    await client.close()
    await story
    say("done")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
