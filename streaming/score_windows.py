"""Topic `features` -> the deployed detector -> topic `alerts` + `anomaly_results` (every scored
window).

One process scores all entities, minute by minute, with the bundle that `bundles/CURRENT` names, the
same that Ray Serve uses; a new bundle is loaded between two minutes. Effectively once: rows are
keyed by window and model version, and alerts commit together with the offsets in one Kafka
transaction. While there is no model, or PostgreSQL or Kafka is unavailable, it retries and never
skips a window. Invalid messages go to `features.dlq` with the reason. Prometheus metrics on
SCORER_METRICS_PORT (9108).
"""

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Final, TypeVar

import msgspec
import psycopg
from confluent_kafka import Message
from prometheus_client import start_http_server

from adnomaly.alerts import ScoredWindow, Silence
from adnomaly.clients.kafka.message import position
from adnomaly.clients.kafka.transactional import OutgoingMessage, TransactionalProcessor
from adnomaly.errors import Unavailable
from adnomaly.process import announce_ready, run_process
from adnomaly.retry import Stopped, retry
from adnomaly.scoring.live import LiveScorer
from adnomaly.scoring.minute_buffer import Buffered, MinuteBuffer
from adnomaly.settings import Settings
from adnomaly.stores.bundles import BundleStore
from adnomaly.stores.results import ResultStore
from adnomaly.topics import ALERTS_TOPIC, FEATURES_DEAD_TOPIC, FEATURES_TOPIC
from adnomaly.windows import TrafficWindow, parse_window
from adnomaly.wiring import connect
from streaming.scorer_metrics import ScorerMetrics

GROUP: Final = "score_windows"
MAX_BATCH: Final = 2000
MAX_BUFFERED: Final = 50_000
"""Windows read ahead: a day of 30 entities."""
WAIT_SECONDS: Final = 0.5

T = TypeVar("T")
Record = tuple[Message, TrafficWindow | OutgoingMessage]
"""A message with its window, or with its dead letter."""

log = logging.getLogger(GROUP)


class PartitionsLost(Exception):
    """The buffered windows belong to the next owner of their partitions."""


class WindowScorer:
    """Reads windows, scores complete minutes, stores results and produces alerts."""

    def __init__(
        self,
        processor: TransactionalProcessor,
        scorer: LiveScorer,
        store: ResultStore,
        metrics: ScorerMetrics,
        stop: Event,
        *,
        alerts: str,
        dead: str,
    ) -> None:
        self._processor, self._scorer, self._store = processor, scorer, store
        self._metrics, self._stop = metrics, stop
        self._alerts, self._dead = alerts, dead
        self._buffer: MinuteBuffer[Record] = MinuteBuffer()
        self._generation = -1

    def run(self) -> None:
        """Score until asked to stop."""
        while not self._stop.is_set():
            try:
                self._read()
                if due := self._buffer.complete(time.monotonic()):
                    self._handle([buffered.item for buffered in due])
            except (Stopped, PartitionsLost):
                log.info("leaving %d buffered windows to their next reader", len(self._buffer))
                self._processor.return_to_committed()
                self._start_over()

    def _read(self) -> None:
        self._retry("model", self._scorer.load_current)
        has_room = len(self._buffer) < MAX_BUFFERED
        messages = self._processor.read(MAX_BATCH, WAIT_SECONDS) if has_room else []
        self._metrics.beat(self._processor.lag())
        if self._generation != self._processor.generation:
            self._start_over()
        if self._processor.partitions():
            announce_ready()
        self._buffer.hold(
            [self._buffered(message) for message in messages],
            self._processor.partitions(),
            time.monotonic(),
        )

    def _start_over(self) -> None:
        """Discard the buffer and the scorer's state: partitions were revoked, or are read again."""
        self._generation = self._processor.generation
        self._buffer = MinuteBuffer()
        self._scorer.reset()

    def _buffered(self, message: Message) -> Buffered[Record]:
        partition = position(message).partition
        try:
            window = parse_window(message.value(), now=datetime.now(UTC))
        except ValueError as error:
            dead_letter = self._dead_letter(message, str(error))
            return Buffered((message, dead_letter), partition, None, None)
        end_s = int(window.window_end.timestamp())
        return Buffered((message, window), partition, end_s, window.key)

    def _handle(self, records: Sequence[Record]) -> None:
        windows: list[TrafficWindow] = []
        dead: list[OutgoingMessage] = []
        for message, content in records:
            if isinstance(content, OutgoingMessage):
                dead.append(content)
            elif self._scorer.is_too_late(content):
                reason = "window_end: more than a day before windows that are already scored"
                dead.append(self._dead_letter(message, reason))
            else:
                windows.append(content)
        batch = self._retry("postgres", lambda: self._scorer.score(windows))
        if batch.scored:
            self._retry("postgres", lambda: self._store.save(batch.scored))
        alerts = [self._alert(r.window.key, r.alert()) for r in batch.scored if r.is_anomaly]
        alerts += [self._alert(s.key, s.alert()) for s in batch.silences]
        if not self._processor.commit([message for message, _ in records], [*alerts, *dead]):
            raise PartitionsLost
        self._scorer.commit(batch)
        self._count(batch.scored, batch.silences, len(alerts), len(dead))

    def _alert(self, key: str, fields: object) -> OutgoingMessage:
        return OutgoingMessage(self._alerts, key.encode(), msgspec.json.encode(fields))

    def _retry(self, server: str, call: Callable[[], T]) -> T:
        """Retry while a server is unavailable.

        Raises:
            Stopped: asked to stop, or partitions were revoked.
        """
        return retry(
            call,
            wait=self._wait,
            errors=(Unavailable, psycopg.Error),
            on_failure=lambda _: self._metrics.failures.labels(server).inc(),
        )

    def _wait(self, seconds: float) -> bool:
        if self._stop.is_set() or not self._processor.wait(seconds):
            return False
        self._metrics.beat(self._processor.lag())
        return True

    def _dead_letter(self, message: Message, reason: str) -> OutgoingMessage:
        topic, partition, offset = position(message)
        log.error("dead letter %s/%s@%s: %s", topic, partition, offset, reason[:300])
        headers = {
            "error.rule": reason[:500],
            "source.topic": topic,
            "source.partition": partition,
            "source.offset": offset,
        }
        return OutgoingMessage(
            self._dead,
            message.key(),
            message.value(),
            [(name, str(value).encode()) for name, value in headers.items()],
        )

    def _count(
        self, scored: Sequence[ScoredWindow], silences: Sequence[Silence], alerts: int, dead: int
    ) -> None:
        for result in scored:
            status = "warming_up" if result.anomaly_score is None else "ok"
            self._metrics.scored.labels(status).inc()
            if result.is_anomaly:
                log.warning("alert %s %s", result.alert_id[:12], result.explanation.summary)
        for silence in silences:
            log.warning("%s", silence.alert()["explanation"]["summary"])
        self._metrics.alerts.inc(alerts)
        self._metrics.dead.inc(dead)
        if scored:
            newest = max(r.window.window_end for r in scored)
            self._metrics.newest.set(newest.timestamp())
            age_s = (datetime.now(UTC) - newest).total_seconds()
            log.info("scored %d windows, %d alerts, newest %.0f s old", len(scored), alerts, age_s)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Score windows; one process scores all entities.")
    parser.add_argument("--group", default=GROUP)
    parser.add_argument("--source", default=FEATURES_TOPIC.name)
    parser.add_argument("--alerts", default=ALERTS_TOPIC.name)
    parser.add_argument("--dead", default=FEATURES_DEAD_TOPIC.name)
    parser.add_argument(
        "--bundles",
        type=Path,
        help="folder of bundles with a file CURRENT; default: that of ADNOMALY_HOME",
    )
    return parser.parse_args()


def run(settings: Settings, args: argparse.Namespace, stop: Event) -> None:
    """Join the group, and score until `stop` is set."""
    metrics, backends = ScorerMetrics(), connect(settings)
    start_http_server(settings.scorer_metrics_port, addr="127.0.0.1", registry=metrics.registry)
    processor = TransactionalProcessor(settings.kafka_bootstrap, args.source, args.group)
    processor.open()
    store = ResultStore(backends.postgres)
    bundles = BundleStore(args.bundles) if args.bundles else backends.bundles
    scorer = LiveScorer(store, bundles, settings)
    log.info("scoring the windows of the topic %s", args.source)
    try:
        WindowScorer(
            processor, scorer, store, metrics, stop, alerts=args.alerts, dead=args.dead
        ).run()
    finally:
        processor.close()


def main() -> int:
    args = _arguments()
    return run_process(lambda settings, stop: run(settings, args, stop))


if __name__ == "__main__":
    sys.exit(main())
