"""Where topics end and how far groups are, asked of the broker all at once."""

from collections.abc import Iterable, Sequence
from functools import cached_property

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from adnomaly.errors import Unavailable
from adnomaly.topics import Topic

CALL_SECONDS = 3.0


class KafkaOffsets:
    """One client for many questions. Every method raises `Unavailable` while the broker does not answer."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    @cached_property
    def _admin(self) -> AdminClient:
        """Made with the first question: its threads do not survive a fork."""
        return AdminClient({"bootstrap.servers": self._bootstrap, "log_level": 2})

    def watermarks(self, topics: Iterable[Topic]) -> dict[str, dict[int, int]]:
        """By topic and partition, the offset that comes next."""
        wanted = [TopicPartition(t.name, n) for t in topics for n in range(t.partitions)]
        asked = self._admin.list_offsets(
            dict.fromkeys(wanted, OffsetSpec.latest()), request_timeout=CALL_SECONDS
        )
        found: dict[str, dict[int, int]] = {}
        try:
            for partition, future in asked.items():
                found.setdefault(partition.topic, {})[partition.partition] = future.result().offset
        except KafkaException as error:
            raise Unavailable(f"Kafka: {error.args[0].str()}") from error
        return found

    def committed(self, group: str) -> dict[tuple[str, int], tuple[int, str]]:
        """By topic and partition, the offset that a group has committed, and the text beside it; nothing of an unknown group."""
        asked = self._admin.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group)], request_timeout=CALL_SECONDS
        )
        try:
            parts: Sequence[TopicPartition] = asked[group].result().topic_partitions
        except KafkaException as error:
            raise Unavailable(f"Kafka, group {group}: {error.args[0].str()}") from error
        return {
            (p.topic, p.partition): (p.offset, p.metadata or "")
            for p in parts
            if p.error is None and p.offset >= 0
        }
