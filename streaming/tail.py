"""Prints new messages of a topic, and their rate.

python -m streaming.tail [clickstream.valid] [--geo DE] [--where "cpc > 1"] [--limit 20]
"""

import argparse
import operator
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from confluent_kafka import KafkaException, Message

from adnomaly.clients.kafka.message import headers_of
from adnomaly.clients.kafka.reader import follow
from adnomaly.errors import AdnomalyError
from adnomaly.settings import load_settings
from adnomaly.topics import ALL_TOPICS, VALID_TOPIC

RATE_SECONDS: Final = 5.0
MAX_WIDTH: Final = 40

OPERATORS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}


class Condition(NamedTuple):
    """A comparison of one field: numbers with a number, everything else as text."""

    field: str
    sign: str
    value: str

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """`event_count > 50`, `geo != US`.

        Raises:
            argparse.ArgumentTypeError: it has another form.
        """
        signs = "|".join(OPERATORS)
        match = re.fullmatch(rf"\s*(\w+)\s*({signs})\s*(.*?)\s*", text)
        if not match:
            raise argparse.ArgumentTypeError(
                f"{text!r} is no condition; write a field, one of {' '.join(OPERATORS)} and a value,"
                " such as 'event_count > 50'"
            )
        return cls(match[1], match[2], match[3].strip("'\""))

    def holds(self, fields: Mapping[str, Any]) -> bool:
        """False also for a message without the field."""
        found = fields.get(self.field)
        if found is None:
            return False
        compare = OPERATORS[self.sign]
        if isinstance(found, int | float):
            try:
                return compare(found, float(self.value))
            except ValueError:
                return self.sign == "!="
        return compare(str(found), self.value)


def fields_of(message: Message) -> dict[str, Any]:
    """The fields of a JSON object; none of any other message."""
    try:
        fields = msgspec.json.decode(message.value() or b"")
    except msgspec.DecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}


def line(message: Message) -> str:
    """Key, fields and headers of one message."""
    key = (message.key() or b"").decode("utf-8", "backslashreplace")
    headers = " ".join(
        f"{name}={(value or b'').decode('utf-8', 'replace')[:MAX_WIDTH]}"
        for name, value in headers_of(message)
    )
    text = "  ".join(
        f"{name}={str(value)[:MAX_WIDTH]}" for name, value in fields_of(message).items()
    )
    text = text or repr(message.value())[:200]
    return f"{key:12} {text}  {headers}".rstrip()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Print live messages.")
    parser.add_argument(
        "topic", nargs="?", default=VALID_TOPIC.name, choices=[t.name for t in ALL_TOPICS]
    )
    parser.add_argument("--limit", type=int, default=0, help="stop after this many messages")
    parser.add_argument("--geo", help="only this geo")
    parser.add_argument("--platform", help="only this platform")
    parser.add_argument(
        "--where",
        type=Condition.parse,
        action="append",
        default=[],
        help="only messages for which this holds, such as 'event_count > 50'; may be given again",
    )
    args = parser.parse_args()
    wanted = {"geo": args.geo, "platform": args.platform}
    args.where += [Condition(name, "=", value) for name, value in wanted.items() if value]
    return args


def show(topic: str, where: Sequence[Condition], limit: int) -> None:
    """Print messages and rates until `limit` were printed; 0 is no limit."""
    shown = count = counted = 0
    reported = time.monotonic()
    for message in follow(load_settings().kafka_bootstrap, topic):
        if message is not None:
            count += 1
            fields = fields_of(message) if where else {}
            if all(condition.holds(fields) for condition in where):
                shown += 1
                print(line(message), flush=True)
        now = time.monotonic()
        if now - reported >= RATE_SECONDS:
            rate = (count - counted) / (now - reported)
            matching = f", {shown:,} matching" if where else ""
            print(f"-- {topic}: {rate:.1f} messages/s, {count:,} in total{matching}", flush=True)
            reported, counted = now, count
        if limit and shown >= limit:
            break


def main() -> int:
    args = _arguments()
    print(f"waiting for messages of {args.topic} (stop with Ctrl-C)", flush=True)
    try:
        show(args.topic, args.where, args.limit)
    except KeyboardInterrupt:
        pass
    except (AdnomalyError, KafkaException) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
