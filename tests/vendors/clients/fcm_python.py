"""Prints what firebase-admin makes of the message that the test describes, as JSON. Needs no network."""

import datetime
import json
import sys

from firebase_admin import _messaging_encoder as encoder
from firebase_admin import messaging


def main():
    order = json.loads(sys.stdin.readline())
    message = messaging.Message(
        token=order["token"],
        data=order["data"],
        notification=messaging.Notification(title=order["title"], body=order["body"]),
        android=messaging.AndroidConfig(
            collapse_key=order["collapse_key"],
            priority="high",
            ttl=datetime.timedelta(seconds=order["ttl_s"]),
            notification=messaging.AndroidNotification(
                channel_id=order["channel"],
                sound=order["sound"],
                image=order["image"],
                tag=order["collapse_key"],
                click_action=order["click"],
                notification_count=order["badge"],
            ),
        ),
        # What an iPhone behind Firebase gets; the clock of the test stands at one second.
        apns=messaging.APNSConfig(
            headers={
                "apns-push-type": "alert",
                "apns-priority": "10",
                "apns-collapse-id": order["collapse_key"],
                "apns-expiration": str(1 + order["ttl_s"]),
            },
            payload=messaging.APNSPayload(
                aps=messaging.Aps(
                    badge=order["badge"],
                    sound=order["sound"],
                    thread_id=order["channel"],
                    mutable_content=True,
                )
            ),
            fcm_options=messaging.APNSFCMOptions(image=order["image"]),
        ),
    )
    print(json.dumps(encoder.MessageEncoder().default(message)), flush=True)


main()
