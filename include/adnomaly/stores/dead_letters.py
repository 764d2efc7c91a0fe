"""Dead letters of the validation: grouped by reason, and replayed byte by byte."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import msgspec
from confluent_kafka import KafkaError, Message, Producer

from adnomaly.clients.kafka.admin import topic_id
from adnomaly.clients.kafka.reader import messages_from, watermarks
from adnomaly.errors import Unavailable
from adnomaly.topics import CLICKS_TOPIC, DEAD_LETTER_TOPIC

if TYPE_CHECKING:
    from adnomaly.clients.postgres import Postgres

READ: Final = 2000
"""Newest dead letters per partition that are read."""
SHOWN: Final = 5
SHOWN_BYTES: Final = 2000
SEND_SECONDS: Final = 30.0

_REPLAYED: Final = (
    "SELECT partition, dead_offset FROM replays WHERE topic_id = %s AND sent_at IS NOT NULL"
)
_BEGIN: Final = """
INSERT INTO replays (topic_id, partition, dead_offset, author) VALUES (%s, %s, %s, %s)
ON CONFLICT (topic_id, partition, dead_offset)
DO UPDATE SET author = EXCLUDED.author WHERE replays.sent_at IS NULL
RETURNING dead_offset
"""
_SENT: Final = (
    "UPDATE replays SET sent_at = now() WHERE topic_id = %s AND partition = %s AND dead_offset = %s"
)


class DeadLetter(msgspec.Struct, frozen=True):
    """One dead letter. Invalid UTF-8 and invisible characters of `value` are escaped."""

    at_ms: int
    partition: int
    offset: int
    value: str
    bytes: int
    error_value: str


class Reason(msgspec.Struct, frozen=True):
    """The dead letters of one field and rule."""

    field: str
    rule: str
    count: int
    replayed: int
    samples: list[DeadLetter]


class DeadLetters:
    """Methods raise `Unavailable` without Kafka or PostgreSQL."""

    def __init__(
        self,
        bootstrap: str,
        postgres: "Postgres",
        *,
        dead: str = DEAD_LETTER_TOPIC.name,
        clicks: str = CLICKS_TOPIC.name,
    ) -> None:
        self._bootstrap, self._postgres = bootstrap, postgres
        self._dead, self._clicks = dead, clicks

    def reasons(self) -> list[Reason]:
        """The reasons of the newest dead letters, the most frequent first."""
        replayed = self._replayed()
        by_reason: dict[tuple[str, str], list[Message]] = {}
        for message in self._newest():
            by_reason.setdefault(_reason(message), []).append(message)
        reasons = [
            Reason(
                field,
                rule,
                len(messages),
                sum(_place(m) in replayed for m in messages),
                _samples(messages),
            )
            for (field, rule), messages in by_reason.items()
        ]
        return sorted(reasons, key=lambda r: (-(r.count - r.replayed), -r.count, r.field))

    def replay(self, field: str, rule: str, author: str) -> int:
        """Send the dead letters of one reason to the stream again, each once; returns their number.

        The validation checks them again; a rejected one is a new dead letter. A kill between
        sending and recording sends some twice; validation and table drop duplicates by `event_id`.
        """
        replayed = self._replayed()
        chosen = [
            m for m in self._newest() if _reason(m) == (field, rule) and _place(m) not in replayed
        ]
        name = topic_id(self._bootstrap, self._dead)
        with self._postgres.connection() as connection:
            leased = [
                m
                for m in chosen
                if connection.execute(_BEGIN, (name, *_place(m), author)).fetchone()
            ]
        self._send(leased)
        with self._postgres.connection() as connection, connection.cursor() as cursor:
            cursor.executemany(_SENT, [(name, *_place(m)) for m in leased])
        return len(leased)

    def _send(self, messages: Iterable[Message]) -> None:
        producer = Producer(
            {
                "bootstrap.servers": self._bootstrap,
                "enable.idempotence": True,
                "compression.type": "lz4",
                "log_level": 2,
            }
        )
        failed: list[str] = []

        def on_delivery(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                failed.append(error.str())

        for m in messages:
            origin = [pair for pair in _pairs(m) if pair[0].startswith("source.")]
            producer.produce(
                self._clicks,
                m.value(),
                m.key(),
                _place(m)[0],
                headers=origin,
                on_delivery=on_delivery,
            )
            producer.poll(0)
        if producer.flush(SEND_SECONDS) or failed:
            raise Unavailable(
                f"Kafka did not take the replayed clicks: {failed[0] if failed else 'no answer'};"
                " press replay again"
            )

    def _newest(self) -> list[Message]:
        parts = watermarks(self._bootstrap, self._dead).items()
        return [
            m
            for n, (low, high) in parts
            if high > low
            for m in messages_from(self._bootstrap, self._dead, n, max(low, high - READ))
        ]

    def _replayed(self) -> set[tuple[int, int]]:
        with self._postgres.connection() as connection:
            rows = connection.execute(_REPLAYED, (topic_id(self._bootstrap, self._dead),))
            return {(partition, offset) for partition, offset in rows}


def _place(message: Message) -> tuple[int, int]:
    """Partition and offset of a message that was read."""
    partition, offset = message.partition(), message.offset()
    assert partition is not None and offset is not None
    return partition, offset


def _pairs(message: Message) -> list[tuple[str, str | bytes | None]]:
    headers = message.headers() or []
    return list(headers.items() if isinstance(headers, dict) else headers)


def _headers(message: Message) -> dict[str, str]:
    return {
        name: value
        if isinstance(value, str)
        else (value or b"").decode("utf-8", "backslashreplace")
        for name, value in _pairs(message)
    }


def _reason(message: Message) -> tuple[str, str]:
    headers = _headers(message)
    return headers.get("error.field", ""), headers.get("error.rule", "")


def _samples(messages: list[Message]) -> list[DeadLetter]:
    newest = sorted(messages, key=lambda m: -m.timestamp()[1])[:SHOWN]
    return [_sample(m) for m in newest]


def _sample(message: Message) -> DeadLetter:
    value = message.value() or b""
    text = _visible(value[:SHOWN_BYTES].decode("utf-8", "backslashreplace"))
    wrong = _visible(_headers(message).get("error.value", ""))
    return DeadLetter(message.timestamp()[1], *_place(message), text, len(value), wrong)


def _visible(text: str) -> str:
    """The text with control characters and direction marks escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
