"""Topic `features` -> Feast's online store and `feature_aggregates`.

At least once from the topic, effectively once in the stores: offsets are committed after both
writes, and writing a window again changes nothing. While Redis, PostgreSQL or Kafka is unavailable
it retries; no window is skipped. A recomputed window (same entity and window_end, other values,
later) replaces the stored one in both. An invalid message is logged and skipped; `score_windows`
writes it to `features.dlq`.
"""

import argparse
import logging
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from threading import Event
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaException, Message

from adnomaly.clients.kafka.message import record_time
from adnomaly.failpoints import Failpoints
from adnomaly.process import run_process
from adnomaly.retry import retry, until
from adnomaly.settings import Settings
from adnomaly.sinks.base import Batch, Written, run_sink
from adnomaly.sinks.consumer import GroupConsumer
from adnomaly.topics import FEATURES_TOPIC
from adnomaly.windows import TrafficWindow, parse_window
from adnomaly.wiring import connect

if TYPE_CHECKING:
    from adnomaly.stores.online_features import OnlineFeatures
    from adnomaly.stores.windows import WindowStore

GROUP: Final = "publish_features"
MAX_BATCH: Final = 500
"""Windows per write: many times a window close of 30 entities, and fast enough to catch up."""

log = logging.getLogger(GROUP)


class FeatureSink:
    """Writes windows to the online store, then to the table."""

    def __init__(
        self, online: "OnlineFeatures", store: "WindowStore", failpoints: Failpoints
    ) -> None:
        self._online, self._store, self._failpoints = online, store, failpoints

    def write(self, batch: Batch) -> Written:
        """Write the windows of a batch, in the order of their partitions. Idempotent.

        Online first: a window in `feature_aggregates` is online too, so a repeat after a crash
        still detects a correction.

        Raises:
            Unavailable: Redis or PostgreSQL does not answer.
        """
        if not any(batch.values()):
            return Written()
        corrected = self._publish(message for messages in batch.values() for message in messages)
        self._failpoints.reach("before_commit")
        return Written.all_of(batch, corrected)

    def _publish(self, messages: Iterable[Message]) -> int:
        """Write valid windows; returns the number of corrections."""
        valid = [record for m in messages if (record := _parse(m)) is not None]
        windows, computed_at = [window for window, _ in valid], [time for _, time in valid]
        corrected = self._store.corrected(windows, computed_at)
        self._online.write(windows)
        self._online.correct(corrected)
        self._failpoints.reach("between_stores")
        self._store.save(windows, computed_at)
        return len(corrected)


def _parse(message: Message) -> tuple[TrafficWindow, datetime] | None:
    """A window and the time it was computed; None, and a log line, for an invalid message."""
    try:
        return parse_window(message.value(), now=datetime.now(UTC)), record_time(message)
    except ValueError as error:
        log.warning(
            "invalid window at %s/%s@%s: %s",
            message.topic(),
            message.partition(),
            message.offset(),
            str(error)[:200],
        )
        return None


def run(settings: Settings, args: argparse.Namespace, stop: Event) -> None:
    """Update the schema of both stores, then publish until `stop` is set."""
    backends = connect(settings)
    online, store = backends.online_features, backends.window_store
    retry(online.apply, wait=until(stop))
    retry(backends.postgres.migrate, wait=until(stop))
    consumer = GroupConsumer(settings.kafka_bootstrap, args.source, args.group, stop)
    sink = FeatureSink(online, store, Failpoints(settings.failpoint))
    log.info("publishing the topic %s", args.source)
    run_sink(consumer, sink, stop, unit="corrections", max_batch=MAX_BATCH)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Publish windows to Feast and PostgreSQL.")
    parser.add_argument("--source", default=FEATURES_TOPIC.name)
    parser.add_argument("--group", default=GROUP)
    return parser.parse_args()


def main() -> int:
    args = _arguments()
    return run_process(lambda settings, stop: run(settings, args, stop), ends_on=KafkaException)


if __name__ == "__main__":
    sys.exit(main())
