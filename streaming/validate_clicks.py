"""Click validation: each message of `clickstream` goes to `clickstream.valid` or `clickstream.dlq`.

Exactly once: verdicts, offsets and verdict counts commit in one Kafka transaction. A click whose
event_id was seen within the last 15 minutes on its partition is dropped and counted; the ids are
rebuilt from the end of `clickstream.valid` after a restart. Dead letters keep key and value byte
for byte; their headers name field, rule, value and source.

The members of a group share the partitions, one process per member:

    python -m streaming.validate_clicks [--member N]
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from threading import Event
from typing import Final
from uuid import UUID

import msgspec
from confluent_kafka import KafkaException, Message

from adnomaly.clients.kafka.admin import await_topic_id
from adnomaly.clients.kafka.message import headers_of, position
from adnomaly.clients.kafka.reader import values_since
from adnomaly.clients.kafka.transactional import OutgoingMessage, TransactionalProcessor
from adnomaly.failpoints import Failpoints
from adnomaly.process import announce_ready, run_process
from adnomaly.retry import retry, until
from adnomaly.settings import Settings
from adnomaly.topics import CLICKS_TOPIC, DEAD_LETTER_TOPIC, VALID_TOPIC
from adnomaly.validation import (
    MEMORY,
    Arrival,
    Duplicate,
    RecentIds,
    Rejected,
    Valid,
    Verdict,
    VerdictCounts,
    validate_batch,
)

MAX_BATCH: Final = 5000
WAIT_SECONDS: Final = 0.2
REPORT_SECONDS: Final = 10.0

log = logging.getLogger("validate_clicks")


class _EventId(msgspec.Struct, gc=False):
    event_id: str


_decode_id = msgspec.json.Decoder(_EventId).decode


class Validator:
    """Reads, validates and writes batch after batch."""

    def __init__(self, settings: Settings, args: argparse.Namespace, stop: Event) -> None:
        self._bootstrap, self._stop = settings.kafka_bootstrap, stop
        self._max_age_hours = settings.max_event_age_hours
        self._source, self._valid, self._dead = args.source, args.valid, args.dead
        self._topic_id = ""
        self._processor = TransactionalProcessor(
            self._bootstrap, self._source, args.group, member=args.member
        )
        self._failpoints = Failpoints(settings.failpoint)
        self._recent_ids: dict[int, RecentIds] = {}
        self._generation = 0
        self._counts: dict[int, VerdictCounts] = {}
        self._version = version("adnomaly").encode()
        self._reported = time.monotonic()

    def run(self) -> None:
        """Validate until asked to stop."""
        self._topic_id = await_topic_id(self._bootstrap, self._source, self._stop)
        self._processor.open()
        try:
            while not self._stop.is_set():
                messages = self._processor.read(MAX_BATCH, WAIT_SECONDS)
                if self._processor.partitions():
                    announce_ready()
                if messages:
                    self._handle(messages)
                self._report()
        finally:
            self._processor.close()

    def _handle(self, messages: Sequence[Message]) -> None:
        now = datetime.now(UTC)
        by_partition: dict[int, list[Message]] = {}
        for message in messages:
            by_partition.setdefault(position(message).partition, []).append(message)
        out: list[OutgoingMessage] = []
        new_ids: dict[int, list[UUID]] = {}
        counts: dict[int, VerdictCounts] = {}
        for partition, group in by_partition.items():
            recent = self._recent(partition, now)
            verdicts, new_ids[partition] = validate_batch(
                [self._arrival(m) for m in group],
                recent,
                now=now,
                max_age_hours=self._max_age_hours,
            )
            out += [o for m, v in zip(group, verdicts, strict=True) if (o := self._outgoing(m, v))]
            counts[partition] = self._counts[partition].add(verdicts)
        self._failpoints.reach("before_commit")
        metadata = {partition: count.text() for partition, count in counts.items()}
        if not self._processor.commit(messages, out, metadata):
            self._recent_ids.clear()
            return
        self._failpoints.reach("after_commit")
        self._counts |= counts
        for partition, ids in new_ids.items():
            self._recent_ids[partition].add(ids, now)

    def _arrival(self, message: Message) -> Arrival:
        _, partition, offset = position(message)
        return Arrival(self._topic_id, partition, offset, message.value())

    def _outgoing(self, message: Message, verdict: Verdict) -> OutgoingMessage | None:
        key, partition = message.key(), position(message).partition
        match verdict:
            case Valid(value):
                return OutgoingMessage(self._valid, key, value, partition=partition)
            case Rejected():
                headers = self._headers(message, verdict)
                return OutgoingMessage(self._dead, key, message.value(), headers, partition)
            case Duplicate():
                return None

    def _headers(self, message: Message, rejected: Rejected) -> list[tuple[str, bytes | None]]:
        topic, partition, offset = position(message)
        facts = {
            "error.field": rejected.field,
            "error.rule": rejected.rule,
            "error.value": rejected.value,
            "source.topic": topic,
            "source.partition": str(partition),
            "source.offset": str(offset),
        }
        added = [(name, text.encode("utf-8", "backslashreplace")) for name, text in facts.items()]
        return [*headers_of(message), *added, ("app.version", self._version)]

    def _recent(self, partition: int, now: datetime) -> RecentIds:
        """The recent ids of a partition; rebuilt when the partition was just assigned."""
        if self._generation != self._processor.generation:
            self._recent_ids.clear()
            self._generation = self._processor.generation
        if partition not in self._recent_ids:
            self._recent_ids[partition] = recent = retry(
                lambda: self._rebuild(partition, now),
                wait=until(self._stop),
                errors=(KafkaException,),
                max_delay_s=2.0,
            )
            self._counts[partition] = VerdictCounts.of(self._processor.offset_metadata(partition))
            log.info("partition %d: %d ids of the last 15 minutes", partition, len(recent))
        return self._recent_ids[partition]

    def _rebuild(self, partition: int, now: datetime) -> RecentIds:
        """The ids of the valid clicks of the last 15 minutes.

        Raises:
            KafkaException: the broker does not answer.
        """
        recent = RecentIds()
        for written, value in values_since(self._bootstrap, self._valid, partition, now - MEMORY):
            recent.add([UUID(_decode_id(value).event_id)], written)
        return recent

    def _report(self) -> None:
        if time.monotonic() - self._reported < REPORT_SECONDS:
            return
        self._reported = time.monotonic()
        total = VerdictCounts.total(self._counts[partition] for partition in self._recent_ids)
        log.info(
            "valid %d, rejected %d, duplicates %d so far; consumer lag %s",
            total.valid,
            total.rejected,
            total.duplicate,
            self._processor.lag(),
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Validate each click once.")
    parser.add_argument(
        "--member", type=int, default=0, help="number of this process within the group"
    )
    parser.add_argument("--group", default="validate_clicks")
    parser.add_argument("--source", default=CLICKS_TOPIC.name)
    parser.add_argument("--valid", default=VALID_TOPIC.name)
    parser.add_argument("--dead", default=DEAD_LETTER_TOPIC.name)
    return parser.parse_args()


def main() -> int:
    args = _arguments()
    return run_process(
        lambda settings, stop: Validator(settings, args, stop).run(), ends_on=KafkaException
    )


if __name__ == "__main__":
    sys.exit(main())
