"""How far a sink has read, kept in PostgreSQL in the transaction that stores the data; and the claim that fences a replaced writer."""

from typing import NamedTuple

import psycopg

from adnomaly.clients.postgres import Postgres
from adnomaly.errors import OffsetGap, StoreFenced

_CLAIM = """
INSERT INTO sink_offsets AS old (sink, topic, topic_id, partition, next_offset, epoch) VALUES (%(sink)s, %(topic)s, %(id)s, %(partition)s, %(low)s, 1)
ON CONFLICT (sink, topic_id, partition) DO UPDATE SET epoch = old.epoch + 1, updated_at = now()
RETURNING next_offset, epoch
"""
_ADVANCE = """
UPDATE sink_offsets SET next_offset = %(next)s, records = records + %(records)s, updated_at = now()
WHERE sink = %(sink)s AND topic_id = %(id)s AND partition = %(partition)s AND epoch = %(epoch)s AND next_offset <= %(first)s
"""


class Lease(NamedTuple):
    """The right to write one partition, until somebody claims it after us."""

    partition: int
    epoch: int
    next_offset: int


class SinkOffsets:
    """Stored offsets of one sink on one topic, told apart from earlier topics of the same name by Kafka's id."""

    def __init__(self, postgres: Postgres, sink: str, topic: str, topic_id: str) -> None:
        self._postgres, self._sink, self._topic, self.topic_id = postgres, sink, topic, topic_id

    def acquire(self, partition: int, low: int, high: int) -> Lease:
        """Take a partition over; an earlier writer's next transaction is refused.

        Args:
            low, high: the first offset the broker still has, and the one it will give next.

        Raises:
            OffsetGap: what comes next is no longer, or not yet, in the topic.
            Unavailable: PostgreSQL does not answer.
        """
        with self._postgres.connection() as connection:
            values = {
                "sink": self._sink,
                "topic": self._topic,
                "id": self.topic_id,
                "partition": partition,
                "low": low,
            }
            next_offset, epoch = connection.execute(_CLAIM, values).fetchone()
            if not low <= next_offset <= high:
                raise OffsetGap(
                    f"{self._sink}: {self._topic} partition {partition} holds offsets {low} to {high}, but {next_offset} comes next. Clicks would be skipped: "
                    "raise the topic's retention, and set sink_offsets.next_offset by hand once the loss is accepted"
                )
        return Lease(partition, epoch, next_offset)

    def advance(
        self,
        connection: psycopg.Connection,
        lease: Lease,
        *,
        first: int,
        following: int,
        records: int,
    ) -> None:
        """Move on from `first` to `following`, in the caller's transaction and as its last statement.

        Args:
            records: how many messages these are; offsets between them may belong to markers.

        Raises:
            StoreFenced: somebody else has claimed the partition, or stored these offsets already. Roll back and stop.
        """
        values = {
            "sink": self._sink,
            "id": self.topic_id,
            "partition": lease.partition,
            "epoch": lease.epoch,
            "first": first,
            "next": following,
            "records": records,
        }
        if connection.execute(_ADVANCE, values).rowcount != 1:
            raise StoreFenced(
                f"{self._sink}: {self._topic} partition {lease.partition} was taken over (our claim was number {lease.epoch})"
            )
