"""What the gate turned away: by reason, to the byte, and back into the stream once its cause is mended."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import msgspec
from confluent_kafka import Message, Producer

from adnomaly.clients.kafka.admin import topic_id
from adnomaly.clients.kafka.reader import messages_from, watermarks
from adnomaly.errors import Unavailable
from adnomaly.topics import CLICKS_TOPIC, DEAD_LETTER_TOPIC

if TYPE_CHECKING:
    from adnomaly.clients.postgres import Postgres

LOOKED_AT: Final = 2000
"""Newest dead letters of each partition that are looked at."""
SHOWN: Final = 5
SHOWN_BYTES: Final = 2000
SEND_SECONDS: Final = 30.0

_DONE: Final = (
    "SELECT partition, dead_offset FROM replays WHERE topic_id = %s AND sent_at IS NOT NULL"
)
_BEGIN: Final = """
INSERT INTO replays (topic_id, partition, dead_offset, author) VALUES (%s, %s, %s, %s)
ON CONFLICT (topic_id, partition, dead_offset) DO UPDATE SET author = EXCLUDED.author WHERE replays.sent_at IS NULL RETURNING dead_offset
"""
_SENT: Final = (
    "UPDATE replays SET sent_at = now() WHERE topic_id = %s AND partition = %s AND dead_offset = %s"
)


class DeadLetter(msgspec.Struct, frozen=True):
    """One dead letter; `value` is its text, with bytes that are no UTF-8, and characters that do not show, as escapes."""

    at_ms: int
    partition: int
    offset: int
    value: str
    bytes: int
    error_value: str


class Reason(msgspec.Struct, frozen=True):
    """Dead letters of one rule about one field, among those that were looked at."""

    field: str
    rule: str
    count: int
    replayed: int
    samples: list[DeadLetter]


class DeadLetters:
    """Methods raise `Unavailable` while Kafka or PostgreSQL does not answer."""

    def __init__(
        self,
        bootstrap: str,
        postgres: "Postgres",
        *,
        dead: str = DEAD_LETTER_TOPIC.name,
        clicks: str = CLICKS_TOPIC.name,
    ) -> None:
        self._bootstrap, self._postgres, self._dead, self._clicks = (
            bootstrap,
            postgres,
            dead,
            clicks,
        )

    def reasons(self) -> list[Reason]:
        """What was turned away lately, the most frequent reason first."""
        done, found = self._done(), {}
        for message in self._newest():
            found.setdefault(_reason(message), []).append(message)
        reasons = [
            Reason(
                field,
                rule,
                len(messages),
                sum((m.partition(), m.offset()) in done for m in messages),
                _samples(messages),
            )
            for (field, rule), messages in found.items()
        ]
        return sorted(reasons, key=lambda r: (-(r.count - r.replayed), -r.count, r.field))

    def replay(self, field: str, rule: str, author: str) -> int:
        """Send the dead letters of one reason into the stream again, each once, to the byte; returns how many.

        The gate judges them anew. One that is turned away again is a new dead letter. A kill between sending and writing that
        down can send some twice; the gate and the table catch those that carry an `event_id`.
        """
        done = self._done()
        chosen = [
            m
            for m in self._newest()
            if _reason(m) == (field, rule) and (m.partition(), m.offset()) not in done
        ]
        name = topic_id(self._bootstrap, self._dead)
        with self._postgres.connection() as connection:
            ours = [
                m
                for m in chosen
                if connection.execute(_BEGIN, (name, m.partition(), m.offset(), author)).fetchone()
            ]
        self._send(ours)
        with self._postgres.connection() as connection, connection.cursor() as cursor:
            cursor.executemany(_SENT, [(name, m.partition(), m.offset()) for m in ours])
        return len(ours)

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
        for m in messages:
            origin = [
                (name, value) for name, value in m.headers() or [] if name.startswith("source.")
            ]
            on_delivery = lambda error, _: failed.append(error.str()) if error else None  # noqa: E731
            producer.produce(
                self._clicks,
                m.value(),
                m.key(),
                m.partition(),
                headers=origin,
                on_delivery=on_delivery,
            )
            producer.poll(0)
        if producer.flush(SEND_SECONDS) or failed:
            raise Unavailable(
                f"Kafka did not take the replayed clicks: {failed[0] if failed else 'no answer'}; press replay again"
            )

    def _newest(self) -> list[Message]:
        parts = watermarks(self._bootstrap, self._dead).items()
        return [
            m
            for n, (low, high) in parts
            if high > low
            for m in messages_from(self._bootstrap, self._dead, n, max(low, high - LOOKED_AT))
        ]

    def _done(self) -> set[tuple[int, int]]:
        with self._postgres.connection() as connection:
            return set(
                connection.execute(_DONE, (topic_id(self._bootstrap, self._dead),)).fetchall()
            )


def _headers(message: Message) -> dict[str, str]:
    return {
        name: (value or b"").decode("utf-8", "backslashreplace")
        for name, value in message.headers() or []
    }


def _reason(message: Message) -> tuple[str, str]:
    headers = _headers(message)
    return headers.get("error.field", ""), headers.get("error.rule", "")


def _samples(messages: list[Message]) -> list[DeadLetter]:
    newest: list[Any] = sorted(messages, key=lambda m: -m.timestamp()[1])[:SHOWN]
    return [_sample(m) for m in newest]


def _sample(message: Message) -> DeadLetter:
    value = message.value() or b""
    text = _visible(value[:SHOWN_BYTES].decode("utf-8", "backslashreplace"))
    wrong = _visible(_headers(message).get("error.value", ""))
    return DeadLetter(
        message.timestamp()[1], message.partition(), message.offset(), text, len(value), wrong
    )


def _visible(text: str) -> str:
    """The same with control characters, and those that turn the direction of text, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
