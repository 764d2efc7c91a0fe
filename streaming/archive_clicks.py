"""Valid clicks -> S3 lake as Parquet by hour of event time, effectively once.

A flush covers one range of offsets of one partition: its objects are created, then named in the
manifest in the transaction that moves the offset. It is due by size, by a new hour, or after 60 s.

    python -m streaming.archive_clicks            start several to share the partitions
"""

import argparse
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event

import pyarrow as pa
from confluent_kafka import KafkaException, Message

from adnomaly.arrow import CLICK_SCHEMA
from adnomaly.clients.kafka.admin import await_topic_id
from adnomaly.clients.kafka.message import position
from adnomaly.clients.postgres import Postgres
from adnomaly.failpoints import Failpoints
from adnomaly.process import run_process
from adnomaly.retry import retry, until
from adnomaly.settings import Settings
from adnomaly.sinks.base import Batch, Written, run_sink
from adnomaly.sinks.consumer import SinkConsumer
from adnomaly.sinks.offsets import Lease, SinkOffsets
from adnomaly.stores.clicks import Row, event_time_of, row
from adnomaly.stores.lake import Lake, hour_of
from adnomaly.topics import VALID_TOPIC
from adnomaly.wiring import connect


@dataclass
class Flush:
    """Clicks of one partition that are in no object yet, by hour of event time."""

    next_offset: int
    opened_s: float = 0.0
    hours: dict[datetime, list[tuple[int, Row]]] = field(default_factory=dict)
    rows: int = 0
    first: int = -1

    def add(self, offset: int, hour: datetime, values: Row) -> None:
        if not self.rows:
            self.first, self.opened_s = offset, time.monotonic()
        self.hours.setdefault(hour, []).append((offset, values))
        self.rows += 1
        self.next_offset = offset + 1

    def is_before(self, hour: datetime) -> bool:
        """Whether all clicks are of earlier hours: then its objects are complete."""
        return bool(self.hours) and hour > max(self.hours)


class LakeSink:
    """Collects clicks per partition and flushes what is due.

    Messages that are collected already are skipped, so a retried batch adds only the rest.
    """

    def __init__(
        self,
        lake: Lake,
        postgres: Postgres,
        offsets: SinkOffsets,
        failpoints: Failpoints,
        *,
        max_rows: int,
        max_seconds: float,
    ) -> None:
        self._lake, self._postgres, self._offsets = lake, postgres, offsets
        self._failpoints = failpoints
        self._max_rows, self._max_seconds = max_rows, max_seconds
        self._open: dict[Lease, Flush] = {}
        self._written = Written()

    def write(self, batch: Batch) -> Written:
        """Collect the batch and flush what is due; drop what was collected under lost leases.

        Raises:
            StoreFenced: a partition was taken over; its offset did not move.
            Unavailable: S3 or PostgreSQL does not answer.
        """
        self._open = {lease: self._open.get(lease) or Flush(lease.next_offset) for lease in batch}
        for lease, messages in batch.items():
            for message in messages:
                self._collect(lease, message)
        for lease, flush in self._open.items():
            if flush.rows and time.monotonic() - flush.opened_s >= self._max_seconds:
                self._flush(lease)
        written, self._written = self._written, Written()
        return written

    def _collect(self, lease: Lease, message: Message) -> None:
        offset, value = position(message).offset, message.value()
        if offset < self._open[lease].next_offset:
            return
        values = row(value)
        hour = hour_of(event_time_of(values))
        if self._open[lease].rows >= self._max_rows or self._open[lease].is_before(hour):
            self._flush(lease)
        self._open[lease].add(offset, hour, values)

    def _flush(self, lease: Lease) -> None:
        """Upload, then record the objects together with the offset."""
        flush, objects = self._open[lease], []
        for hour, rows in sorted(flush.hours.items()):
            objects.append(
                self._lake.put(
                    hour,
                    _table([values for _, values in rows]),
                    topic_id=self._offsets.topic_id,
                    partition=lease.partition,
                    offsets=(rows[0][0], rows[-1][0]),
                    epoch=lease.epoch,
                )
            )
            self._failpoints.reach("after_put")
        first, following = flush.first, flush.next_offset
        with self._postgres.connection() as connection:
            self._lake.record(connection, objects)
            self._offsets.advance(
                connection, lease, first=first, following=following, records=flush.rows
            )
            self._failpoints.reach("before_commit")
        self._failpoints.reach("after_commit")
        self._open[lease] = Flush(following)
        self._written += Written(flush.rows, len(objects), {lease.partition: following})


def _table(rows: list[Row]) -> pa.Table:
    event_ids, *others = zip(*rows, strict=True)
    columns = [tuple(map(str, event_ids)), *others]
    return pa.table(
        [pa.array(values, f.type) for values, f in zip(columns, CLICK_SCHEMA, strict=True)],
        schema=CLICK_SCHEMA,
    )


def run(settings: Settings, args: argparse.Namespace, stop: Event) -> None:
    """Archive clicks until `stop` is set; unflushed ones are read again by the next run."""
    backends, bootstrap = connect(settings), settings.kafka_bootstrap
    topic_id = await_topic_id(bootstrap, args.topic, stop)
    offsets = SinkOffsets(backends.postgres, args.sink, args.topic, topic_id)
    retry(backends.objects.check_conditional_writes, wait=until(stop))
    sink = LakeSink(
        backends.lake,
        backends.postgres,
        offsets,
        Failpoints(settings.failpoint),
        max_rows=args.max_rows,
        max_seconds=args.max_seconds,
    )
    consumer = SinkConsumer(bootstrap, args.topic, args.sink, offsets, stop)
    run_sink(consumer, sink, stop, unit="objects")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Archive valid clicks in the S3 lake.")
    parser.add_argument("--topic", default=VALID_TOPIC.name)
    parser.add_argument(
        "--sink", default="archive_clicks", help="name of the consumer group and stored offsets"
    )
    parser.add_argument(
        "--max-rows", type=int, default=100_000, help="rows of one flush of one partition"
    )
    parser.add_argument(
        "--max-seconds", type=float, default=60.0, help="age at which a flush is due"
    )
    return parser.parse_args()


def main() -> int:
    args = _arguments()
    return run_process(lambda settings, stop: run(settings, args, stop), ends_on=KafkaException)


if __name__ == "__main__":
    sys.exit(main())
