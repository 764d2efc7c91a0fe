"""Valid clicks into the S3 lake as Parquet by hour of event time, effectively once.

Each flush covers one range of offsets of one partition: its objects are created, then named in the manifest in the
transaction that moves the offset. Closed by size, by a new hour, or after 60 s.

    python -m streaming.archive_clicks            start more of them to share the partitions
"""

import argparse
import logging
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa
from confluent_kafka import KafkaException, Message

from adnomaly.arrow import CLICK_SCHEMA
from adnomaly.clients.kafka.admin import await_topic_id
from adnomaly.failpoints import Failpoints
from adnomaly.process import run_process
from adnomaly.settings import Settings
from adnomaly.sinks.base import SinkConsumer
from adnomaly.sinks.offsets import Lease, SinkOffsets
from adnomaly.stores.clicks import Row, row
from adnomaly.stores.lake import Lake, hour_of
from adnomaly.topics import VALID_TOPIC
from adnomaly.wiring import connect

BATCH = 5000
WAIT_SECONDS = 0.5
REPORT_SECONDS = 10.0

log = logging.getLogger("archive_clicks")


@dataclass
class OpenFlush:
    """What was read of one partition and is in no object yet."""

    lease: Lease
    opened: float
    hours: dict[datetime, list[tuple[int, Row]]] = field(default_factory=dict)
    rows: int = 0
    first: int = -1
    following: int = -1

    def add(self, offset: int, hour: datetime, values: Row) -> None:
        if self.first < 0:
            self.first = offset
        self.hours.setdefault(hour, []).append((offset, values))
        self.rows += 1
        self.following = offset + 1

    def is_before(self, hour: datetime) -> bool:
        """Whether all of it is of earlier hours: then its objects are closed."""
        return bool(self.hours) and hour > max(self.hours)


class Archiver:
    """Collects clicks per partition, and closes what is due."""

    def __init__(
        self,
        lake: Lake,
        offsets: SinkOffsets,
        reader: SinkConsumer,
        settings: Settings,
        args: argparse.Namespace,
    ) -> None:
        self._lake, self._offsets, self._reader = lake, offsets, reader
        self._postgres = connect(settings).postgres
        self._failpoints = Failpoints(settings.failpoint)
        self._most_rows, self._most_seconds = args.max_rows, args.max_seconds
        self._open: dict[int, OpenFlush] = {}
        self.objects = self.rows = 0

    def take(self, messages: list[Message], now: float) -> None:
        """Add messages to what is open; closes on the way what must not grow further."""
        for message in messages:
            lease = self._reader.leases.get(message.partition())
            if lease is None or message.offset() < lease.next_offset:
                continue
            values = row(message.value())
            hour = hour_of(values[1])
            part = self._part(lease, now)
            if part.rows >= self._most_rows or part.is_before(hour):
                self.close(part)
                part = self._part(lease, now)
            part.add(message.offset(), hour, values)

    def close_due(self, now: float) -> None:
        """Close what is old enough, and forget what belongs to partitions that were taken away."""
        for number, part in list(self._open.items()):
            if self._reader.leases.get(number) != part.lease:
                del self._open[number]
            elif part.rows and now - part.opened >= self._most_seconds:
                self.close(part)

    def close(self, part: OpenFlush) -> None:
        """Upload, then record with the offsets; repeated while S3 or PostgreSQL are away."""
        written = self._reader.retry_unavailable(lambda: self._write(part))
        if written is None:
            return
        self._open.pop(part.lease.partition, None)
        self.objects, self.rows = self.objects + written, self.rows + part.rows
        self._reader.report_lag({part.lease.partition: part.following})

    def _write(self, part: OpenFlush) -> int:
        lease, items = part.lease, []
        for hour, rows in sorted(part.hours.items()):
            span = (rows[0][0], rows[-1][0])
            table = _table([values for _, values in rows])
            items.append(
                self._lake.put(
                    hour,
                    table,
                    topic_id=self._offsets.topic_id,
                    partition=lease.partition,
                    offsets=span,
                    epoch=lease.epoch,
                )
            )
            self._failpoints.reach("after_put")
        with self._postgres.connection() as connection:
            self._lake.record(connection, items)
            self._offsets.advance(
                connection, lease, first=part.first, following=part.following, records=part.rows
            )
            self._failpoints.reach("before_commit")
        self._failpoints.reach("after_commit")
        return len(items)

    def _part(self, lease: Lease, now: float) -> OpenFlush:
        part = self._open.get(lease.partition)
        if part is None or part.lease != lease:
            part = self._open[lease.partition] = OpenFlush(lease, opened=now)
        return part


def _table(rows: list[Row]) -> pa.Table:
    columns = list(zip(*rows, strict=True))
    columns[0] = [str(event_id) for event_id in columns[0]]
    return pa.table(
        [pa.array(values, f.type) for values, f in zip(columns, CLICK_SCHEMA, strict=True)],
        schema=CLICK_SCHEMA,
    )


def run(settings: Settings, args: argparse.Namespace, stop: threading.Event) -> None:
    """Read, collect, close, until asked to stop; what is open then is read again by the next run."""
    backends = connect(settings)
    offsets = SinkOffsets(
        backends.postgres,
        args.sink,
        args.topic,
        await_topic_id(settings.kafka_bootstrap, args.topic, stop),
    )
    reader = SinkConsumer(settings.kafka_bootstrap, args.topic, args.sink, offsets, stop)
    reader.retry_unavailable(backends.objects.check_conditional_writes)
    archiver = Archiver(backends.lake, offsets, reader, settings, args)
    reported = time.monotonic()
    reader.open()
    try:
        while not stop.is_set():
            archiver.take(reader.read(BATCH, WAIT_SECONDS), time.monotonic())
            archiver.close_due(time.monotonic())
            if time.monotonic() - reported >= REPORT_SECONDS:
                log.info(
                    "archived %s clicks in %s objects",
                    f"{archiver.rows:,}",
                    f"{archiver.objects:,}",
                )
                reported = time.monotonic()
    finally:
        reader.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Valid clicks into the S3 lake.")
    parser.add_argument("--topic", default=VALID_TOPIC.name)
    parser.add_argument(
        "--sink",
        default="archive_clicks",
        help="name of the consumer group and of its stored offsets",
    )
    parser.add_argument(
        "--max-rows", type=int, default=100_000, help="rows of one flush of one partition"
    )
    parser.add_argument(
        "--max-seconds", type=float, default=60.0, help="age at which a flush is closed"
    )
    return parser.parse_args()


def main() -> int:
    args = _arguments()
    return run_process(lambda settings, stop: run(settings, args, stop), ends_on=KafkaException)


if __name__ == "__main__":
    sys.exit(main())
