"""Offsets of a sink, stored in PostgreSQL in the transaction that stores the data; an epoch fences
replaced writers.
"""

from typing import Any, NamedTuple

import psycopg

from adnomaly.clients.postgres import Postgres
from adnomaly.errors import OffsetGap, StoreFenced

_ACQUIRE = """
INSERT INTO sink_offsets AS old (sink, topic, topic_id, partition, next_offset, epoch)
VALUES (%(sink)s, %(topic)s, %(id)s, %(partition)s, %(low)s, 1)
ON CONFLICT (sink, topic_id, partition) DO UPDATE SET epoch = old.epoch + 1, updated_at = now()
RETURNING next_offset, epoch
"""
_ADVANCE = """
UPDATE sink_offsets SET next_offset = %(next)s, records = records + %(records)s, updated_at = now()
WHERE sink = %(sink)s AND topic_id = %(id)s AND partition = %(partition)s AND epoch = %(epoch)s
AND next_offset <= %(first)s
"""


class Lease(NamedTuple):
    """The right to write one partition. `epoch` is a fencing token: a later lease revokes it."""

    partition: int
    epoch: int
    next_offset: int


class SinkOffsets:
    """Stored offsets of one sink on one topic, distinguished by Kafka's id from earlier topics of
    the same name.
    """

    def __init__(self, postgres: Postgres, sink: str, topic: str, topic_id: str) -> None:
        self._postgres, self._sink, self._topic, self.topic_id = postgres, sink, topic, topic_id

    def acquire(self, partition: int, low: int, high: int) -> Lease:
        """Take over a partition; an earlier writer's next transaction is refused.

        Args:
            low: first offset the broker still has.
            high: offset of the next message to be produced.

        Raises:
            OffsetGap: the stored offset is not between `low` and `high`.
            Unavailable: PostgreSQL does not answer.
        """
        values: dict[str, Any] = {
            "sink": self._sink,
            "topic": self._topic,
            "id": self.topic_id,
            "partition": partition,
            "low": low,
        }
        with self._postgres.connection() as connection:
            row = connection.execute(_ACQUIRE, values).fetchone()
            assert row is not None, "RETURNING gives the row that was inserted or updated"
            next_offset, epoch = row
            if not low <= next_offset <= high:
                raise OffsetGap(
                    f"{self._sink}: {self._topic} partition {partition} holds offsets {low} to {high}, but the next is "
                    f"{next_offset}: messages would be skipped. Raise the topic's retention, and set "
                    "sink_offsets.next_offset by hand once the loss is accepted"
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
        """Move the stored offset from `first` to `following`, as the last statement of the caller's
        transaction.

        Args:
            records: number of messages; other offsets between the two belong to transaction
                markers.

        Raises:
            StoreFenced: the partition was leased again, or these offsets are stored already. Roll
                back and stop.
        """
        values: dict[str, Any] = {
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
                f"{self._sink}: {self._topic} partition {lease.partition} was taken over (our epoch was {lease.epoch})"
            )
