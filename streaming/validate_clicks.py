"""The gate: judges every message of `clickstream` once, into `clickstream.valid` or `clickstream.dlq`.

Exactly once: verdicts, offsets and the counts of verdicts commit in one Kafka transaction. A click that was seen within the last 15 minutes on its
partition is dropped and counted; the memory of ids is rebuilt from the tail of `clickstream.valid` after a restart.
Dead letters keep key and value to the byte; their headers say field, rule, value and where they came from.

    python -m streaming.validate_clicks [--member N]        one process per member; members share the partitions
"""

import argparse
import logging
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from uuid import UUID

import msgspec
from confluent_kafka import KafkaException, Message

from adnomaly.clients.kafka.admin import await_topic_id
from adnomaly.clients.kafka.reader import values_since
from adnomaly.clients.kafka.transactional import OutgoingMessage, TransactionalProcessor
from adnomaly.failpoints import Failpoints
from adnomaly.process import run_process
from adnomaly.settings import Settings
from adnomaly.topics import CLICKS_TOPIC, DEAD_LETTER_TOPIC, VALID_TOPIC
from adnomaly.validation import (
    MEMORY,
    Arrival,
    Duplicate,
    DuplicateMemory,
    Rejected,
    Valid,
    Verdict,
    VerdictCounts,
    validate_batch,
)

BATCH = 5000
WAIT_SECONDS = 0.2
REPORT_SECONDS = 10.0
RETRY_SECONDS = 1.0

log = logging.getLogger("validate_clicks")


class _Id(msgspec.Struct, gc=False):
    event_id: str


_id_decoder = msgspec.json.Decoder(_Id)


class Validator:
    """Reads, judges and writes batch after batch."""

    def __init__(self, settings: Settings, args: argparse.Namespace, stop: threading.Event) -> None:
        self._stop = stop
        self._bootstrap, self._max_age_hours = (
            settings.kafka_bootstrap,
            settings.max_event_age_hours,
        )
        self._source, self._valid, self._dead = args.source, args.valid, args.dead
        self._topic_id = ""
        self._relay = TransactionalProcessor(
            self._bootstrap, self._source, args.group, member=args.member
        )
        self._failpoints = Failpoints(settings.failpoint)
        self._memories: dict[int, DuplicateMemory] = {}
        self._generation = 0
        self._counts: dict[int, VerdictCounts] = {}
        self._version = version("adnomaly").encode()
        self._reported = time.monotonic()

    def run(self) -> None:
        """Until the event is set."""
        stop = self._stop
        self._topic_id = await_topic_id(self._bootstrap, self._source, stop)
        self._relay.open()
        try:
            while not stop.is_set():
                messages = self._relay.read(BATCH, WAIT_SECONDS)
                if messages:
                    self._handle(messages)
                self._report()
        finally:
            self._relay.close()

    def _handle(self, messages: Sequence[Message]) -> None:
        now = datetime.now(UTC)
        by_partition: dict[int, list[Message]] = {}
        for message in messages:
            by_partition.setdefault(message.partition(), []).append(message)
        out: list[OutgoingMessage] = []
        fresh: dict[int, list[UUID]] = {}
        tallies: dict[int, VerdictCounts] = {}
        for partition, group in by_partition.items():
            arrivals = [Arrival(self._topic_id, partition, m.offset(), m.value()) for m in group]
            verdicts, fresh[partition] = validate_batch(
                arrivals, self._memory(partition, now), now=now, max_age_hours=self._max_age_hours
            )
            out += [o for m, v in zip(group, verdicts, strict=True) if (o := self._out(m, v))]
            tallies[partition] = self._counts[partition].add(verdicts)
        self._failpoints.reach("before_commit")
        if not self._relay.commit(
            messages, out, {partition: tally.text() for partition, tally in tallies.items()}
        ):
            self._memories.clear()
            return
        self._failpoints.reach("after_commit")
        self._counts |= tallies
        for partition, ids in fresh.items():
            self._memories[partition].add(ids, now)

    def _out(self, message: Message, verdict: Verdict) -> OutgoingMessage | None:
        match verdict:
            case Valid(value):
                return OutgoingMessage(
                    self._valid, message.key(), value, partition=message.partition()
                )
            case Rejected():
                return OutgoingMessage(
                    self._dead,
                    message.key(),
                    message.value(),
                    self._headers(message, verdict),
                    message.partition(),
                )
            case Duplicate():
                return None

    def _headers(self, message: Message, rejected: Rejected) -> list[tuple[str, bytes]]:
        facts = {
            "error.field": rejected.field,
            "error.rule": rejected.rule,
            "error.value": rejected.value,
            "source.topic": message.topic(),
            "source.partition": str(message.partition()),
            "source.offset": str(message.offset()),
        }
        headers = [(name, text.encode("utf-8", "backslashreplace")) for name, text in facts.items()]
        return [*(message.headers() or []), *headers, ("app.version", self._version)]

    def _memory(self, partition: int, now: datetime) -> DuplicateMemory:
        """The ids of a partition; read back from the valid clicks when it has just come to this process."""
        if self._generation != self._relay.generation:
            self._memories.clear()
            self._generation = self._relay.generation
        if partition not in self._memories:
            self._memories[partition] = self._read_back(partition, now)
            self._counts[partition] = VerdictCounts.of(self._relay.offset_metadata(partition))
            log.info(
                "partition %d: %d ids of the last 15 minutes remembered",
                partition,
                len(self._memories[partition]),
            )
        return self._memories[partition]

    def _read_back(self, partition: int, now: datetime) -> DuplicateMemory:
        """The ids of the valid clicks of the last minutes; waits while the broker is away.

        Raises:
            KafkaException: we must stop before it is back.
        """
        while True:
            memory = DuplicateMemory()
            try:
                for written, value in values_since(
                    self._bootstrap, self._valid, partition, now - MEMORY
                ):
                    memory.add([UUID(_id_decoder.decode(value).event_id)], written)
                return memory
            except KafkaException as error:
                log.warning(
                    "partition %d: its ids cannot be read back yet: %s",
                    partition,
                    error.args[0].str(),
                )
                if self._stop.wait(RETRY_SECONDS):
                    raise

    def _report(self) -> None:
        if time.monotonic() - self._reported >= REPORT_SECONDS:
            self._reported = time.monotonic()
            t = VerdictCounts.total(self._counts[partition] for partition in self._memories)
            log.info(
                "valid %d, rejected %d, duplicates %d so far; lag %s",
                t.valid,
                t.rejected,
                t.duplicate,
                self._relay.lag(),
            )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Judges every click once.")
    parser.add_argument(
        "--member", type=int, default=0, help="number of this process among those of the group"
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
