"""Watermarks of topics and committed offsets of groups, requested in one call each."""

import threading
from collections.abc import Iterable
from functools import cached_property
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without __all__
    AdminClient,
    OffsetSpec,
)

from adnomaly.errors import Unavailable
from adnomaly.topics import Topic

CALL_SECONDS: Final = 3.0


class KafkaOffsets:
    """Clients that are reused; thread-safe. Methods raise `Unavailable` if the broker is silent."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._consumers: dict[str, Consumer] = {}
        self._lock = threading.Lock()

    @cached_property
    def _admin(self) -> AdminClient:
        """Created on first use: its threads do not survive a fork."""
        return AdminClient({"bootstrap.servers": self._bootstrap, "log_level": 2})

    def watermarks(self, topics: Iterable[Topic]) -> dict[str, dict[int, int]]:
        """High watermark by topic and partition: the offset of the next message."""
        wanted = [TopicPartition(t.name, n) for t in topics for n in range(t.partitions)]
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # not annotated
        futures = self._admin.list_offsets(
            dict.fromkeys(wanted, latest), request_timeout=CALL_SECONDS
        )
        ends: dict[str, dict[int, int]] = {}
        try:
            for partition, future in futures.items():
                ends.setdefault(partition.topic, {})[partition.partition] = future.result().offset
        except KafkaException as error:
            raise Unavailable(f"Kafka: {error.args[0].str()}") from error
        return ends

    def committed(self, group: str, topic: Topic) -> dict[int, tuple[int, str]]:
        """Offset and metadata that a group has committed, by partition; empty for an unknown group.

        Asks as a consumer that never joins the group. librdkafka's admin client ends the process
        with SIGSEGV when a broker that has just started answers NOT_COORDINATOR.
        """
        wanted = [TopicPartition(topic.name, n) for n in range(topic.partitions)]
        try:
            found = self._consumer(group).committed(wanted, timeout=CALL_SECONDS)
        except KafkaException as error:
            raise Unavailable(f"Kafka, group {group}: {error.args[0].str()}") from error
        return {
            p.partition: (p.offset, p.metadata or "")
            for p in found
            if p.error is None and p.offset >= 0
        }

    def _consumer(self, group: str) -> Consumer:
        """Created on first use and reused, as the admin client."""
        with self._lock:
            if group not in self._consumers:
                self._consumers[group] = Consumer(
                    {
                        "bootstrap.servers": self._bootstrap,
                        "group.id": group,
                        "enable.auto.commit": False,
                        "log_level": 2,
                    }
                )
            return self._consumers[group]
