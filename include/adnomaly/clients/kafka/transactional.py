"""Consume a topic, and produce from it: messages and offsets move in one Kafka transaction, or not at all."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

CALL_SECONDS: Final = 10.0
LAG_SECONDS: Final = 5.0

log = logging.getLogger("kafka")
Partition = tuple[str, int]


class OutgoingMessage(NamedTuple):
    """One message to produce."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] = []
    partition: int = -1
    """Where to; -1 leaves it to the key."""


class TransactionalProcessor:
    """One member of a consumer group with its transactional producer.

    Exactly once between topics: a crash or a lost partition before `commit` leaves neither messages nor offsets. `member`
    tells the members of one group apart; a second process with the same member fences the first.
    """

    def __init__(self, bootstrap: str, topic: str, group: str, *, member: int = 0) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "client.id": group,
                "transactional.id": f"{group}-{member}",
                "transaction.timeout.ms": 30_000,
                "compression.type": "lz4",
                "partitioner": "consistent_random",
            }
        )
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "client.id": f"{group}-{member}",
                "group.id": group,
                # A killed member that comes back takes its partitions at once, instead of after the session timeout.
                "group.instance.id": f"{group}-{member}",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "session.timeout.ms": 15_000,
            }
        )
        self._topic = topic
        self._done: dict[Partition, int] = {}
        self._ends: dict[Partition, int] = {}
        self._lost = False
        self.generation = 0
        """Grows whenever partitions are taken away: what was remembered of them is void then."""
        self._lag: dict[int, int] = {}
        self._lag_at = 0.0

    def open(self) -> None:
        """Fence an earlier process of this member, end its open transaction, and join the group.

        Raises:
            Unavailable: the broker does not answer.
        """
        self._call(lambda: self._producer.init_transactions(CALL_SECONDS))
        self._consumer.subscribe([self._topic], on_revoke=self._revoked, on_lost=self._revoked)

    def read(self, most: int, wait_seconds: float) -> list[Message]:
        """The next messages, none when there are none for now."""
        self._lost = False
        self._ends = {}
        messages = []
        for message in self._consumer.consume(most, wait_seconds):
            error = message.error()
            if error is None:
                messages.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._ends[message.topic(), message.partition()] = message.offset()
            elif error.fatal():
                raise KafkaException(error)
            else:
                log.warning("Kafka: %s", error.str())
        if not messages:
            self._done |= self._ends
        return messages

    def wait(self, seconds: float) -> bool:
        """Hold what was read for a while and stay a member of the group; False when its partitions were taken away."""
        self._consumer.pause(self._consumer.assignment())
        early = self._consumer.poll(seconds)
        if early is not None and early.error() is None:
            self.rewind([early])  # of a partition that came to us just now
        self._consumer.resume(self._consumer.assignment())
        return not self._lost

    def commit(
        self,
        read: Sequence[Message],
        out: Iterable[OutgoingMessage],
        metadata: Mapping[int, str] = MappingProxyType({}),
    ) -> bool:
        """Produce and move the offsets behind `read`, in one transaction; returns once the broker has all of it.

        Args:
            notes: a text for each partition that Kafka keeps with its offset; `note` reads it back.

        False when the partitions were taken away meanwhile: nothing was produced, and the new owner reads them again.

        Raises:
            KafkaException: this member was fenced by another process of its name.
        """
        offsets = self._behind(read)
        try:
            self._call(self._producer.begin_transaction)
            for message in out:
                self._produce(message)
            positions = [
                TopicPartition(topic, p, offset, metadata.get(p, ""))
                for (topic, p), offset in offsets.items()
            ]
            self._call(
                lambda: self._producer.send_offsets_to_transaction(
                    positions, self._consumer.consumer_group_metadata(), CALL_SECONDS
                )
            )
            self._call(lambda: self._producer.commit_transaction(CALL_SECONDS))
        except KafkaException as error:
            if error.args[0].fatal():
                raise
            log.warning(
                "transaction given up (%s): these messages are read again", error.args[0].str()
            )
            self._call(lambda: self._producer.abort_transaction(CALL_SECONDS))
            self.rewind(read)
            return False
        self._done |= offsets | self._ends
        return True

    def _produce(self, message: OutgoingMessage) -> None:
        while True:
            try:
                self._producer.produce(
                    message.topic,
                    message.value,
                    message.key,
                    message.partition,
                    headers=message.headers,
                )
                return
            except BufferError:
                self._producer.poll(0.1)  # the queue is full: wait for acknowledgements

    def rewind(self, read: Sequence[Message]) -> None:
        """Read these messages again, as far as their partitions are still ours."""
        assigned = {(p.topic, p.partition) for p in self._consumer.assignment()}
        first: dict[Partition, int] = {}
        for message in read:
            first.setdefault((message.topic(), message.partition()), message.offset())
        for (topic, partition), offset in first.items():
            if (topic, partition) in assigned:
                self._consumer.seek(TopicPartition(topic, partition, offset))

    def return_to_committed(self) -> None:
        """Read again all that is not committed, as far as its partitions are still ours."""
        for p in self._consumer.assignment():
            committed = self._consumer.committed([p], timeout=CALL_SECONDS)[0].offset
            self._consumer.seek(
                TopicPartition(
                    p.topic, p.partition, committed if committed >= 0 else OFFSET_BEGINNING
                )
            )

    def offset_metadata(self, partition: int) -> str:
        """What was committed with the offset of a partition; empty before the first time. Waits while the broker is away."""
        found: list[TopicPartition] = []
        self._call(
            lambda: found.extend(
                self._consumer.committed(
                    [TopicPartition(self._topic, partition)], timeout=CALL_SECONDS
                )
            )
        )
        return found[0].metadata or ""

    def partitions(self) -> list[int]:
        """Those that are ours now."""
        return [p.partition for p in self._consumer.assignment()]

    def lag(self) -> dict[int, int]:
        """Messages not done yet, per partition of ours, asked of the broker every 5 s; the last known when it is silent."""
        if time.monotonic() - self._lag_at < LAG_SECONDS:
            return self._lag
        self._lag_at = time.monotonic()
        lag = {}
        for p in self._consumer.assignment():
            try:
                low, end = self._consumer.get_watermark_offsets(p, timeout=1, cached=False)
            except KafkaException:
                return self._lag
            lag[p.partition] = max(0, end - max(low, self._start(p)))
        self._lag = lag
        return lag

    def close(self) -> None:
        self._consumer.close()

    def _start(self, p: TopicPartition) -> int:
        """Where the next message to do is: known, or as committed."""
        key = (p.topic, p.partition)
        if key not in self._done:
            committed = self._consumer.committed([p], timeout=CALL_SECONDS)[0].offset
            self._done[key] = 0 if committed < 0 or committed == OFFSET_INVALID else committed
        return self._done[key]

    def _behind(self, read: Sequence[Message]) -> dict[Partition, int]:
        return {(m.topic(), m.partition()): m.offset() + 1 for m in read}

    def _revoked(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._lost = True
        self.generation += 1
        for p in partitions:
            self._done.pop((p.topic, p.partition), None)

    def _call(self, call: Callable[[], object]) -> None:
        """Repeat while the broker is away: these calls go on where they stopped."""
        while True:
            try:
                call()
                return
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise
                log.warning("Kafka does not answer yet: %s", error.args[0].str())
