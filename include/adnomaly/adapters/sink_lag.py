"""How far the sinks are behind: the ends of their topics against the offsets they have stored."""

from collections import Counter
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from adnomaly.adapters.kafka import CALL_SECONDS, topic_id
from adnomaly.errors import Unavailable

if TYPE_CHECKING:
    from adnomaly.adapters.postgres import Postgres

_STORED = "SELECT sink, topic, topic_id, partition, next_offset FROM sink_offsets"


class SinkLag:
    """Lag as the data has it, not as a consumer group reports it. Markers of transactions count as messages: a few at most."""

    def __init__(self, bootstrap: str, postgres: "Postgres") -> None:
        self._bootstrap, self._postgres = bootstrap, postgres

    def lags(self) -> dict[str, int]:
        """Messages that each sink has still to store, over the partitions it has claimed.

        Raises:
            Unavailable: the broker or PostgreSQL does not answer.
        """
        with self._postgres.connection() as connection:
            rows = connection.execute(_STORED).fetchall()
        now = {topic: topic_id(self._bootstrap, topic) for topic in {row[1] for row in rows}}
        # Offsets of a topic that was made anew since belong to the topic before.
        stored = [(sink, TopicPartition(topic, partition), offset) for sink, topic, of, partition, offset in rows if of == now[topic]]
        ends = self._ends({partition for _, partition, _ in stored})
        lag: Counter[str] = Counter()
        for sink, partition, offset in stored:
            lag[sink] += max(0, ends[partition] - offset)
        return dict(lag)

    def _ends(self, partitions: set[TopicPartition]) -> dict[TopicPartition, int]:
        if not partitions:
            return {}
        admin = AdminClient({"bootstrap.servers": self._bootstrap, "log_level": 2})
        asked = admin.list_offsets(dict.fromkeys(partitions, OffsetSpec.latest()), request_timeout=CALL_SECONDS)
        try:
            return {partition: future.result().offset for partition, future in asked.items()}
        except KafkaException as error:
            raise Unavailable(f"ends of {sorted({p.topic for p in partitions})}: {error.args[0].str()}") from error
