"""Consumers of a group that lease partitions: offsets in Kafka, or stored with the data."""

import logging
import time
from collections.abc import Mapping, Sequence
from threading import Event
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from adnomaly.clients.kafka.message import is_data, position
from adnomaly.errors import OffsetGap, Unavailable
from adnomaly.retry import Stopped, retry, until
from adnomaly.sinks.offsets import Lease, SinkOffsets

CALL_SECONDS: Final = 10.0
WAIT_SECONDS: Final = 0.5

log = logging.getLogger("sink")


class GroupConsumer:
    """One member of a consumer group whose offsets are in Kafka: at least once.

    A partition is held under a lease; messages read under a lost lease are dropped, since the next
    owner reads them again.
    """

    _reset = "earliest"

    def __init__(self, bootstrap: str, topic: str, group: str, stop: Event) -> None:
        self._topic, self._stop = topic, stop
        self._assignments = 0
        self.leases: dict[int, Lease] = {}
        """By partition, those held now."""
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "client.id": group,
                "group.id": group,
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": self._reset,
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": 15_000,
                "max.poll.interval.ms": 600_000,
                "fetch.wait.max.ms": 200,
            }
        )

    def open(self) -> None:
        """Join the group."""
        self._consumer.subscribe(
            [self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    def read(self, max_messages: int, wait_s: float = WAIT_SECONDS) -> dict[Lease, list[Message]]:
        """The next messages by lease, in the order of their offsets.

        Raises:
            OffsetGap: the broker no longer has the next offset.
        """
        batch: dict[Lease, list[Message]] = {}
        for message in self._consumer.consume(max_messages, wait_s):
            error = message.error()
            if error is not None and error.code() == KafkaError._AUTO_OFFSET_RESET:
                raise OffsetGap(
                    f"{self._topic} partition {message.partition()}: {error.str()}; the topic was truncated or recreated"
                )
            if is_data(message):
                _, partition, offset = position(message)
                lease = self.leases.get(partition)
                if lease is not None and offset >= lease.next_offset:
                    batch.setdefault(lease, []).append(message)
        return batch

    def held(self, batch: Mapping[Lease, Sequence[Message]]) -> dict[Lease, Sequence[Message]]:
        """Every lease held now with its messages of the batch, without those of lost leases."""
        return {lease: batch.get(lease, ()) for lease in self.leases.values()}

    def wait(self, seconds: float) -> bool:
        """Stay a member of the group without reading; False when asked to stop."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._stop.is_set():
            self._consumer.pause(self._consumer.assignment())
            early = self._consumer.poll(min(left, 0.5))
            if early is not None and early.error() is None:
                # Of a partition assigned during this poll, so not paused yet: deliver it again
                # later.
                self._consumer.seek(TopicPartition(*position(early)))
        self._consumer.resume(self._consumer.assignment())
        return not self._stop.is_set()

    def commit(self, next_offsets: Mapping[int, int]) -> None:
        """Commit offsets of held partitions; if Kafka refuses, the same messages are read again
        after a restart.
        """
        offsets = self._positions(next_offsets)
        try:
            if offsets:
                self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            log.warning(
                "offsets not committed (%s); these messages may come again", error.args[0].str()
            )

    def close(self) -> None:
        self._consumer.close()

    def _positions(self, next_offsets: Mapping[int, int]) -> list[TopicPartition]:
        return [
            TopicPartition(self._topic, partition, offset)
            for partition, offset in next_offsets.items()
            if partition in self.leases
        ]

    def _lease(self, partition: TopicPartition) -> Lease:
        """The right to read a partition; its offset is left to Kafka."""
        self._assignments += 1
        return Lease(partition.partition, self._assignments, partition.offset)

    def _assigned(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        starts = []
        for p in partitions:
            try:
                lease = self._lease(p)
            except Stopped:
                return
            self.leases[p.partition] = lease
            starts.append(TopicPartition(p.topic, p.partition, lease.next_offset))
        consumer.incremental_assign(starts)

    def _revoked(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        for p in partitions:
            self.leases.pop(p.partition, None)


class SinkConsumer(GroupConsumer):
    """One member of a consumer group whose offsets are stored with the data: effectively once.

    On assignment each partition is leased and read from its stored offset. Kafka's own offsets only
    show the lag.
    """

    # An offset that the broker does not have is an error, never a reason to skip.
    _reset = "error"

    def __init__(
        self, bootstrap: str, topic: str, group: str, offsets: SinkOffsets, stop: Event
    ) -> None:
        super().__init__(bootstrap, topic, group, stop)
        self._offsets = offsets

    def commit(self, next_offsets: Mapping[int, int]) -> None:
        """Report the lag to Kafka. Nothing depends on it: the sink has committed its offsets with
        the data.
        """
        offsets = self._positions(next_offsets)
        if offsets:
            self._consumer.commit(offsets=offsets, asynchronous=True)

    def _lease(self, partition: TopicPartition) -> Lease:
        """Retries until it succeeds: nothing can be read before.

        Raises:
            OffsetGap: the stored offset is not in the topic.
            Stopped: asked to stop.
        """
        lease = retry(
            lambda: self._acquire(partition),
            wait=until(self._stop),
            errors=(Unavailable, KafkaException),
        )
        log.info(
            "leased partition %d from offset %d (epoch %d)",
            lease.partition,
            lease.next_offset,
            lease.epoch,
        )
        return lease

    def _acquire(self, partition: TopicPartition) -> Lease:
        low, high = self._consumer.get_watermark_offsets(
            TopicPartition(partition.topic, partition.partition), timeout=CALL_SECONDS
        )
        return self._offsets.acquire(partition.partition, low, high)
