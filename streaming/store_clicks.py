"""Valid clicks into PostgreSQL, effectively once: rows and offsets commit together, a replaced writer is fenced.

python -m streaming.store_clicks            start more of them to share the partitions
"""

import argparse
import logging
import sys
import threading
import time
from functools import partial

from confluent_kafka import KafkaException, Message

from adnomaly.clients.kafka.admin import await_topic_id
from adnomaly.failpoints import Failpoints
from adnomaly.process import run_process
from adnomaly.settings import Settings
from adnomaly.sinks.base import SinkConsumer
from adnomaly.sinks.offsets import Lease, SinkOffsets
from adnomaly.stores.clicks import TABLE, ClickStore
from adnomaly.topics import VALID_TOPIC
from adnomaly.wiring import connect

BATCH = 5000
WAIT_SECONDS = 1.0
REPORT_SECONDS = 10.0

log = logging.getLogger("store_clicks")


def run(settings: Settings, args: argparse.Namespace, stop: threading.Event) -> None:
    """Read, store, and go on, until asked to stop."""
    postgres, failpoints = connect(settings).postgres, Failpoints(settings.failpoint)
    offsets = SinkOffsets(
        postgres, args.sink, args.topic, await_topic_id(settings.kafka_bootstrap, args.topic, stop)
    )
    reader, store = (
        SinkConsumer(settings.kafka_bootstrap, args.topic, args.sink, offsets, stop),
        ClickStore(postgres, offsets, table=args.table),
    )
    stored = new = 0
    reported = time.monotonic()
    reader.open()
    try:
        while not stop.is_set():
            messages = reader.read(BATCH, WAIT_SECONDS)
            if messages:
                failpoints.reach("before_commit")
                count = reader.retry_unavailable(partial(_write, store, reader, messages))
                failpoints.reach("after_commit")
                if count is not None:
                    stored, new = stored + len(messages), new + count
                    reader.report_lag({m.partition(): m.offset() + 1 for m in messages})
            if time.monotonic() - reported >= REPORT_SECONDS:
                log.info("read %s, new rows %s", f"{stored:,}", f"{new:,}")
                reported = time.monotonic()
    finally:
        store.close()
        reader.close()


def _write(store: ClickStore, reader: SinkConsumer, messages: list[Message]) -> int:
    return store.write(_ours(reader, messages))


def _ours(reader: SinkConsumer, messages: list[Message]) -> dict[Lease, list[Message]]:
    """The messages by claim, without those of partitions that were taken away since they were read."""
    batch: dict[Lease, list[Message]] = {}
    for message in messages:
        lease = reader.leases.get(message.partition())
        # A partition that went and came back was claimed anew, and is read again from its stored offset.
        if lease is not None and message.offset() >= lease.next_offset:
            batch.setdefault(lease, []).append(message)
    return batch


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Valid clicks into PostgreSQL.")
    parser.add_argument("--topic", default=VALID_TOPIC.name)
    parser.add_argument(
        "--sink",
        default="store_clicks",
        help="name of the consumer group and of its stored offsets",
    )
    parser.add_argument("--table", default=TABLE)
    return parser.parse_args()


def main() -> int:
    args = _arguments()
    return run_process(lambda settings, stop: run(settings, args, stop), ends_on=KafkaException)


if __name__ == "__main__":
    sys.exit(main())
