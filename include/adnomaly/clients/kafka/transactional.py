"""Consume-transform-produce: messages and offsets commit in one Kafka transaction."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar

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

from adnomaly.clients.kafka.calls import call
from adnomaly.clients.kafka.message import is_data, position

CALL_SECONDS: Final = 10.0
LAG_SECONDS: Final = 5.0

log = logging.getLogger("kafka")
Partition = tuple[str, int]
T = TypeVar("T")


class OutgoingMessage(NamedTuple):
    """One message to produce."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    partition: int = -1
    """-1 lets the key decide."""


class TransactionalProcessor:
    """One member of a consumer group with its transactional producer.

    Exactly once between topics: a crash or a lost partition before `commit` leaves neither messages
    nor offsets. `member` distinguishes the members of one group; a second process with the same
    member fences the first.
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
                # A restarted member takes its partitions at once, instead of after the session
                # timeout.
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
        """Increases when partitions are revoked, which invalidates per-partition state."""
        self._lag: dict[int, int] = {}
        self._lag_at = 0.0

    def open(self) -> None:
        """Fence an earlier process of this member, abort its transaction, and join the group."""
        call(lambda: self._producer.init_transactions(CALL_SECONDS))
        self._consumer.subscribe([self._topic], on_revoke=self._revoked, on_lost=self._revoked)

    def read(self, max_messages: int, wait_s: float) -> list[Message]:
        """The next messages; empty when there are none."""
        self._lost = False
        self._ends = {}
        messages = []
        for message in self._consumer.consume(max_messages, wait_s):
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                topic, partition, offset = position(message)
                self._ends[topic, partition] = offset
            elif is_data(message):
                messages.append(message)
        if not messages:
            self._done |= self._ends
        return messages

    def wait(self, seconds: float) -> bool:
        """Stay a member of the group without reading; False when partitions were revoked since the
        last read.
        """
        self._consumer.pause(self._consumer.assignment())
        early = self._consumer.poll(seconds)
        if early is not None and early.error() is None:
            self.rewind([early])  # of a partition assigned during this poll, so not paused yet
        self._consumer.resume(self._consumer.assignment())
        return not self._lost

    def commit(
        self,
        read: Sequence[Message],
        out: Iterable[OutgoingMessage],
        metadata: Mapping[int, str] = MappingProxyType({}),
    ) -> bool:
        """Produce messages and commit the offsets behind `read` in one transaction.

        Args:
            metadata: text by partition, stored with its offset; `offset_metadata` reads it back.

        Returns:
            False when the partitions were revoked: nothing was produced, and the next owner reads
                them again.

        Raises:
            KafkaException: another process of this member has fenced this one.
        """
        offsets = _next_offsets(read)
        try:
            call(self._producer.begin_transaction)
            for message in out:
                self._produce(message)
            positions = [
                TopicPartition(topic, p, offset, metadata.get(p, ""))
                for (topic, p), offset in offsets.items()
            ]
            call(
                lambda: self._producer.send_offsets_to_transaction(
                    positions, self._consumer.consumer_group_metadata(), CALL_SECONDS
                )
            )
            call(lambda: self._producer.commit_transaction(CALL_SECONDS))
        except KafkaException as error:
            if error.args[0].fatal():
                raise
            log.warning(
                "transaction aborted (%s); its messages are read again", error.args[0].str()
            )
            call(lambda: self._producer.abort_transaction(CALL_SECONDS))
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
                    headers=list(message.headers),
                )
                return
            except BufferError:
                self._producer.poll(0.1)  # the queue is full: serve acknowledgements

    def rewind(self, read: Sequence[Message]) -> None:
        """Read these messages again, except those of lost partitions."""
        assigned = {(p.topic, p.partition) for p in self._consumer.assignment()}
        first: dict[Partition, int] = {}
        for message in read:
            topic, partition, offset = position(message)
            first.setdefault((topic, partition), offset)
        for (topic, partition), offset in first.items():
            if (topic, partition) in assigned:
                self._consumer.seek(TopicPartition(topic, partition, offset))

    def return_to_committed(self) -> None:
        """Continue every assigned partition from its committed offset."""
        for p in self._consumer.assignment():
            committed = self._committed(p.partition).offset
            self._consumer.seek(
                TopicPartition(
                    p.topic, p.partition, committed if committed >= 0 else OFFSET_BEGINNING
                )
            )

    def offset_metadata(self, partition: int) -> str:
        """Metadata committed with the offset of a partition, empty if none; retries while the
        broker is unavailable.
        """
        return self._committed(partition).metadata or ""

    def partitions(self) -> list[int]:
        """Assigned partitions."""
        return [p.partition for p in self._consumer.assignment()]

    def lag(self) -> dict[int, int]:
        """Consumer lag by assigned partition, at most 5 s old; the last known while the broker is
        unavailable.
        """
        if time.monotonic() - self._lag_at < LAG_SECONDS:
            return self._lag
        self._lag_at = time.monotonic()
        lag = {}
        for p in self._consumer.assignment():
            try:
                low, end = self._consumer.get_watermark_offsets(p, timeout=1, cached=False)
                lag[p.partition] = max(0, end - max(low, self._start(p)))
            except KafkaException:
                return self._lag
        self._lag = lag
        return lag

    def close(self) -> None:
        self._consumer.close()

    def _committed(self, partition: int) -> TopicPartition:
        """The committed offset of a partition; retries while the broker is unavailable."""
        asked = [TopicPartition(self._topic, partition)]
        [committed] = call(lambda: self._consumer.committed(asked, timeout=CALL_SECONDS))
        return committed

    def _start(self, p: TopicPartition) -> int:
        """Offset of the next message to process."""
        key = (p.topic, p.partition)
        if key not in self._done:
            committed = self._consumer.committed([p], timeout=CALL_SECONDS)[0].offset
            self._done[key] = 0 if committed < 0 or committed == OFFSET_INVALID else committed
        return self._done[key]

    def _revoked(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._lost = True
        self.generation += 1
        for p in partitions:
            self._done.pop((p.topic, p.partition), None)


def _next_offsets(read: Sequence[Message]) -> dict[Partition, int]:
    return {(p.topic, p.partition): p.offset + 1 for p in map(position, read)}
