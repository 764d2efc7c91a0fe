"""Reading one end of a topic, or what comes next, without being a member of any group."""

from collections.abc import Callable, Iterator
from datetime import datetime

from confluent_kafka import (
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from adnomaly.errors import Unavailable

CALL_SECONDS = 10.0


def values_since(
    bootstrap: str, topic: str, partition: int, since: datetime
) -> Iterator[tuple[datetime, bytes]]:
    """(moment of writing, value) of every committed message of one partition written since a moment, to its present end.

    Raises:
        KafkaException: the broker does not answer.
    """
    consumer = _consumer(bootstrap)
    try:
        asked = TopicPartition(topic, partition, int(since.timestamp() * 1000))
        [start] = consumer.offsets_for_times([asked], timeout=CALL_SECONDS)
        if start.offset == OFFSET_END:
            return
        consumer.assign([start])
        while True:
            for message in consumer.consume(5000, CALL_SECONDS):
                error = message.error()
                if error is None:
                    yield (
                        datetime.fromtimestamp(message.timestamp()[1] / 1000, since.tzinfo),
                        message.value(),
                    )
                elif error.code() == KafkaError._PARTITION_EOF:
                    return
                else:
                    raise KafkaException(error)
    finally:
        consumer.close()


def first_values(bootstrap: str, topic: str, most: int) -> Iterator[bytes]:
    """The committed messages among the first `most` offsets of each partition.

    Raises:
        KafkaException: the broker does not answer.
    """
    return _values(bootstrap, topic, lambda low, high: (low, min(high, low + most)))


def last_values(bootstrap: str, topic: str, most: int) -> Iterator[bytes]:
    """The committed messages among the last `most` offsets of each partition.

    Raises:
        KafkaException: the broker does not answer.
    """
    return _values(bootstrap, topic, lambda low, high: (max(low, high - most), high))


def _values(
    bootstrap: str, topic: str, part: Callable[[int, int], tuple[int, int]]
) -> Iterator[bytes]:
    consumer = _consumer(bootstrap)
    try:
        for number in consumer.list_topics(topic, timeout=CALL_SECONDS).topics[topic].partitions:
            start, end = part(
                *consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=CALL_SECONDS)
            )
            consumer.assign([TopicPartition(topic, number, start)])
            while (message := consumer.poll(CALL_SECONDS)) is not None:
                error = message.error()
                if (error and error.code() == KafkaError._PARTITION_EOF) or message.offset() >= end:
                    break
                if error:
                    raise KafkaException(error)
                yield message.value()
    finally:
        consumer.close()


def messages_from(
    bootstrap: str, topic: str, partition: int, offset: int, most: int = 100_000
) -> list[Message]:
    """The committed messages of one partition from an offset to its present end.

    Raises:
        Unavailable: the broker does not answer.
    """
    consumer, found = _consumer(bootstrap), []
    try:
        consumer.assign([TopicPartition(topic, partition, offset)])
        while len(found) < most:
            message = consumer.poll(CALL_SECONDS)
            if message is None:
                raise Unavailable(
                    f"topic {topic}: the broker does not answer within {CALL_SECONDS:.0f} s"
                )
            if message.error() is None:
                found.append(message)
            elif message.error().code() == KafkaError._PARTITION_EOF:
                break
            else:
                raise Unavailable(f"topic {topic}: {message.error().str()}")
    finally:
        consumer.close()
    return found


def watermarks(bootstrap: str, topic: str) -> dict[int, tuple[int, int]]:
    """First offset and the one that comes next, of each partition.

    Raises:
        Unavailable: the broker does not answer.
    """
    consumer = _consumer(bootstrap)
    try:
        numbers = consumer.list_topics(topic, timeout=CALL_SECONDS).topics[topic].partitions
        return {
            n: consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=CALL_SECONDS)
            for n in numbers
        }
    except KafkaException as error:
        raise Unavailable(f"topic {topic}: {error.args[0].str()}") from error
    finally:
        consumer.close()


def follow(bootstrap: str, topic: str, wait_seconds: float = 0.5) -> Iterator[Message | None]:
    """Every committed message from now on; None whenever none came for a while."""
    consumer = _consumer(bootstrap)
    try:
        partitions = consumer.list_topics(topic, timeout=CALL_SECONDS).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, OFFSET_END) for number in partitions])
        while True:
            message = consumer.poll(wait_seconds)
            if message is None or message.error() is None:
                yield message
    finally:
        consumer.close()


def _consumer(bootstrap: str) -> Consumer:
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
