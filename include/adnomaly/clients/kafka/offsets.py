"""Watermarks of topics and committed offsets of groups, requested in one call each."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Final

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without __all__
    AdminClient,
    OffsetSpec,
)

from adnomaly.errors import Unavailable
from adnomaly.topics import Topic

CALL_SECONDS: Final = 3.0


class KafkaOffsets:
    """One client, reused. Every method raises `Unavailable` while the broker does not answer."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

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

    def committed(self, group: str) -> dict[tuple[str, int], tuple[int, str]]:
        """Offset and metadata that a group has committed, by topic and partition; empty for an
        unknown group.
        """
        futures = self._admin.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group)], request_timeout=CALL_SECONDS
        )
        try:
            parts: Sequence[TopicPartition] = futures[group].result().topic_partitions
        except KafkaException as error:
            raise Unavailable(f"Kafka, group {group}: {error.args[0].str()}") from error
        return {
            (p.topic, p.partition): (p.offset, p.metadata or "")
            for p in parts
            if p.error is None and p.offset >= 0
        }
