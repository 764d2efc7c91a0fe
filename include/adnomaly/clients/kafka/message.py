"""Consumed messages: their position and timestamp, and the consumer errors among them."""

import logging
from datetime import UTC, datetime
from typing import Final, NamedTuple

from confluent_kafka import KafkaException, Message

_YEAR_10000_MS: Final = 253_402_300_800_000

log = logging.getLogger("kafka")


class Position(NamedTuple):
    """Where a consumed message lies."""

    topic: str
    partition: int
    offset: int


def position(message: Message) -> Position:
    """The position of a consumed message; it is None only for messages to be produced."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None and partition is not None and offset is not None
    return Position(topic, partition, offset)


def is_data(message: Message) -> bool:
    """False for a transient consumer error, which is logged.

    Raises:
        KafkaException: the error is fatal.
    """
    error = message.error()
    if error is None:
        return True
    if error.fatal():
        raise KafkaException(error)
    log.warning("Kafka: %s", error.str())
    return False


def record_time(message: Message) -> datetime:
    """When a message was written, by its record timestamp, UTC.

    Raises:
        ValueError: the timestamp is missing, or outside the years 1970 to 9999.
    """
    _, timestamp_ms = message.timestamp()
    if not 0 < timestamp_ms < _YEAR_10000_MS:
        raise ValueError(
            f"record timestamp: must be in the years 1970 to 9999, got {timestamp_ms} ms"
        )
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC)


def headers_of(message: Message) -> list[tuple[str, bytes | None]]:
    """The headers of a consumed message, in order."""
    headers = message.headers() or []
    assert isinstance(headers, list), "only messages to be produced may have a dict"
    return [(name, v.encode() if isinstance(v, str) else v) for name, v in headers]
