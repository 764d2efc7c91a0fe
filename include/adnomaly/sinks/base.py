"""Reading a topic into a store that keeps the offsets itself: Kafka assigns partitions, the store says where to start."""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from adnomaly.errors import OffsetGap, Unavailable
from adnomaly.sinks.offsets import Lease, SinkOffsets

CALL_SECONDS = 10.0
MIN_WAIT_S, MAX_WAIT_S = 0.1, 10.0

log = logging.getLogger("sink")
T = TypeVar("T")


class SinkConsumer:
    """One member of a consumer group whose offsets live with the data.

    On assignment each partition is claimed and read from the stored offset; what was read of a partition that is taken
    away must be dropped, since its new owner reads it again. Kafka's own offsets are committed for lag display alone.
    """

    def __init__(
        self, bootstrap: str, topic: str, group: str, offsets: SinkOffsets, stop: threading.Event
    ) -> None:
        self._topic, self._offsets, self._stop = topic, offsets, stop
        self.leases: dict[int, Lease] = {}
        """The partitions that are ours now."""
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "client.id": group,
                "group.id": group,
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                # An offset that the broker does not have is an error here, never a reason to skip.
                "auto.offset.reset": "error",
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": 15_000,
                "max.poll.interval.ms": 600_000,
                "fetch.wait.max.ms": 200,
            }
        )

    def open(self) -> None:
        self._consumer.subscribe(
            [self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    def read(self, most: int, wait_seconds: float) -> list[Message]:
        """The next messages of our partitions.

        Raises:
            OffsetGap: the broker no longer has what comes next.
        """
        messages = []
        for message in self._consumer.consume(most, wait_seconds):
            error = message.error()
            if error is None:
                if message.partition() in self.leases:
                    messages.append(message)
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                raise OffsetGap(
                    f"{self._topic} partition {message.partition()}: {error.str()}; the topic was cut or made anew"
                )
            elif error.fatal():
                raise KafkaException(error)
            else:
                log.warning("Kafka: %s", error.str())
        return messages

    def retry_unavailable(self, call: Callable[[], T]) -> T | None:
        """Repeat a write while its store is away, and stay a member of the group meanwhile.

        None when it was given up because we must stop; the same is read again then.
        """
        wait = MIN_WAIT_S
        while not self._stop.is_set():
            try:
                return call()
            except Unavailable as error:
                log.warning("%s; again in %.1f s", error, wait)
                self.hold(wait * random.uniform(0.5, 1.0))  # noqa: S311 (jitter)
                wait = min(wait * 2, MAX_WAIT_S)
        return None

    def hold(self, seconds: float) -> None:
        """Wait without reading."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stop.is_set():
            self._consumer.pause(self._consumer.assignment())
            self._consumer.poll(min(left, 0.5))
        self._consumer.resume(self._consumer.assignment())

    def report_lag(self, following: dict[int, int]) -> None:
        """Tell Kafka how far we are, so that its tools show the lag. Nothing depends on it."""
        offsets = [
            TopicPartition(self._topic, p, offset)
            for p, offset in following.items()
            if p in self.leases
        ]
        if offsets:
            self._consumer.commit(offsets=offsets, asynchronous=True)

    def close(self) -> None:
        self._consumer.close()

    def _assigned(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        starts = []
        for p in partitions:
            lease = self._acquire(p)
            if lease is None:
                return
            self.leases[p.partition] = lease
            starts.append(TopicPartition(p.topic, p.partition, lease.next_offset))
            log.info(
                "partition %d is ours from offset %d (claim %d)",
                p.partition,
                lease.next_offset,
                lease.epoch,
            )
        consumer.incremental_assign(starts)

    def _acquire(self, p: TopicPartition) -> Lease | None:
        """Patient: nothing can be read before it succeeds."""
        wait = MIN_WAIT_S
        while not self._stop.is_set():
            try:
                low, high = self._consumer.get_watermark_offsets(
                    TopicPartition(p.topic, p.partition), timeout=CALL_SECONDS
                )
                return self._offsets.acquire(p.partition, low, high)
            except (Unavailable, KafkaException) as error:
                log.warning("cannot claim partition %d yet: %s", p.partition, error)
                self._stop.wait(wait)
                wait = min(wait * 2, MAX_WAIT_S)
        return None

    def _revoked(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        for p in partitions:
            self.leases.pop(p.partition, None)
