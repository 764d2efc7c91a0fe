"""Reading a range of a topic, or following its end, outside any consumer group."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from typing import Final

from confluent_kafka import (
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from adnomaly.clients.kafka.message import position
from adnomaly.errors import Unavailable

CALL_SECONDS: Final = 10.0
MAX_MESSAGES: Final = 100_000


def values_since(
    bootstrap: str, topic: str, partition: int, since: datetime
) -> Iterator[tuple[datetime, bytes]]:
    """(time of writing, value) of committed messages of one partition, from `since` to its present
    end.

    Raises:
        KafkaException: the broker does not answer.
    """
    with closing(open_reader(bootstrap)) as consumer:
        from_time = TopicPartition(topic, partition, int(since.timestamp() * 1000))
        [start] = consumer.offsets_for_times([from_time], timeout=CALL_SECONDS)
        if start.offset == OFFSET_END:
            return
        consumer.assign([start])
        while True:
            for message in consumer.consume(5000, CALL_SECONDS):
                error = message.error()
                if error is None:
                    written = datetime.fromtimestamp(message.timestamp()[1] / 1000, since.tzinfo)
                    yield written, message.value() or b""
                elif error.code() == KafkaError._PARTITION_EOF:
                    return
                else:
                    raise KafkaException(error)


def first_values(bootstrap: str, topic: str, max_offsets: int) -> Iterator[bytes]:
    """Committed messages among the first `max_offsets` offsets of each partition.

    Raises:
        KafkaException: the broker does not answer.
    """
    return _values(bootstrap, topic, lambda low, high: (low, min(high, low + max_offsets)))


def last_values(bootstrap: str, topic: str, max_offsets: int) -> Iterator[bytes]:
    """Committed messages among the last `max_offsets` offsets of each partition.

    Raises:
        KafkaException: the broker does not answer.
    """
    return _values(bootstrap, topic, lambda low, high: (max(low, high - max_offsets), high))


def _values(
    bootstrap: str, topic: str, bounds: Callable[[int, int], tuple[int, int]]
) -> Iterator[bytes]:
    with closing(open_reader(bootstrap)) as consumer:
        for number in _partitions(consumer, topic):
            start, end = bounds(*_watermarks(consumer, topic, number))
            consumer.assign([TopicPartition(topic, number, start)])
            while (message := consumer.poll(CALL_SECONDS)) is not None:
                error = message.error()
                if error and error.code() == KafkaError._PARTITION_EOF:
                    break
                if error:
                    raise KafkaException(error)
                if position(message).offset >= end:
                    break
                yield message.value() or b""


def messages_from(
    bootstrap: str, topic: str, partition: int, offset: int, max_messages: int = MAX_MESSAGES
) -> list[Message]:
    """Committed messages of one partition from an offset to its present end.

    Raises:
        Unavailable: the broker does not answer.
    """
    messages: list[Message] = []
    with closing(open_reader(bootstrap)) as consumer:
        consumer.assign([TopicPartition(topic, partition, offset)])
        while len(messages) < max_messages:
            message = consumer.poll(CALL_SECONDS)
            if message is None:
                raise Unavailable(
                    f"topic {topic}: the broker does not answer within {CALL_SECONDS:.0f} s"
                )
            error = message.error()
            if error is None:
                messages.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                break
            else:
                raise Unavailable(f"topic {topic}: {error.str()}")
    return messages


def watermarks(bootstrap: str, topic: str) -> dict[int, tuple[int, int]]:
    """Low and high watermark of each partition: the first offset and the next one.

    Raises:
        Unavailable: the broker does not answer.
    """
    with closing(open_reader(bootstrap)) as consumer:
        try:
            return {n: _watermarks(consumer, topic, n) for n in _partitions(consumer, topic)}
        except KafkaException as error:
            raise Unavailable(f"topic {topic}: {error.args[0].str()}") from error


def follow(bootstrap: str, topic: str, wait_seconds: float = 0.5) -> Iterator[Message | None]:
    """Each committed message from now on; None after `wait_seconds` without one."""
    with closing(open_reader(bootstrap)) as consumer:
        consumer.assign(
            [TopicPartition(topic, n, OFFSET_END) for n in _partitions(consumer, topic)]
        )
        while True:
            message = consumer.poll(wait_seconds)
            if message is None or message.error() is None:
                yield message


def open_reader(bootstrap: str) -> Consumer:
    """A consumer to assign partitions to: committed messages only, with end-of-partition events."""
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "adnomaly-tail",  # required by the client; nothing is committed to it
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "log_level": 3,
        }
    )


def _partitions(consumer: Consumer, topic: str) -> list[int]:
    return list(consumer.list_topics(topic, timeout=CALL_SECONDS).topics[topic].partitions)


def _watermarks(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    return consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=CALL_SECONDS)
