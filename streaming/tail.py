"""Prints new messages of a topic, and their rate.

python -m streaming.tail [clickstream.valid] [--limit 20]
"""

import argparse
import sys
import time
from typing import Final

import msgspec
from confluent_kafka import KafkaException, Message

from adnomaly.clients.kafka.message import headers_of
from adnomaly.clients.kafka.reader import follow
from adnomaly.errors import AdnomalyError
from adnomaly.settings import load_settings
from adnomaly.topics import ALL_TOPICS, VALID_TOPIC

RATE_SECONDS: Final = 5.0
MAX_WIDTH: Final = 40


def line(message: Message) -> str:
    """Key, fields and headers of one message."""
    key = (message.key() or b"").decode("utf-8", "backslashreplace")
    headers = " ".join(
        f"{name}={(value or b'').decode('utf-8', 'replace')[:MAX_WIDTH]}"
        for name, value in headers_of(message)
    )
    try:
        fields = msgspec.json.decode(message.value() or b"")
        text = "  ".join(f"{name}={str(value)[:MAX_WIDTH]}" for name, value in fields.items())
    except (msgspec.DecodeError, AttributeError):
        text = repr(message.value())[:200]
    return f"{key:12} {text}  {headers}".rstrip()


def main() -> int:
    parser = argparse.ArgumentParser(description="Print live messages.")
    parser.add_argument(
        "topic", nargs="?", default=VALID_TOPIC.name, choices=[t.name for t in ALL_TOPICS]
    )
    parser.add_argument("--limit", type=int, default=0, help="stop after this many messages")
    args = parser.parse_args()
    count = counted = 0
    reported = time.monotonic()
    print(f"waiting for messages of {args.topic} (stop with Ctrl-C)", flush=True)
    try:
        for message in follow(load_settings().kafka_bootstrap, args.topic):
            if message is not None:
                count += 1
                print(line(message), flush=True)
            now = time.monotonic()
            if now - reported >= RATE_SECONDS:
                print(
                    f"-- {args.topic}: {(count - counted) / (now - reported):.1f} messages/s, {count:,} in total",
                    flush=True,
                )
                reported, counted = now, count
            if args.limit and count >= args.limit:
                break
    except KeyboardInterrupt:
        pass
    except (AdnomalyError, KafkaException) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
