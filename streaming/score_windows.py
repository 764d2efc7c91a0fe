"""Topic `features` -> the deployed detector -> topic `alerts` + `anomaly_results` (every scored window).

One process judges the whole platform, window by window with its past: the bundle that `bundles/CURRENT` names, the same that Ray
Serve answers with; a new one is taken up between two minutes. Each window gives one alert effect: rows are keyed by window and
model version, and alerts move together with the offsets in one Kafka transaction, so a crash at any point leaves neither a gap nor a
second alert. While there is no model, or PostgreSQL or Kafka is away, it waits and repeats, and never goes past a window that failed.
What cannot be a window goes to `features.dlq` with its reason. Metrics on SCORER_METRICS_PORT (9108).
"""

import argparse
import logging
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import psycopg
from confluent_kafka import Message
from prometheus_client import start_http_server

from adnomaly.alerts import ScoredWindow, Silence
from adnomaly.clients.kafka.transactional import OutgoingMessage, TransactionalProcessor
from adnomaly.errors import Unavailable
from adnomaly.process import run_process
from adnomaly.scoring.live import LiveScorer
from adnomaly.scoring.minute_buffer import Buffered, MinuteBuffer
from adnomaly.settings import Settings
from adnomaly.stores.bundles import BundleStore
from adnomaly.stores.results import ResultStore
from adnomaly.topics import ALERTS_TOPIC, FEATURES_DEAD_TOPIC, FEATURES_TOPIC
from adnomaly.windows import TrafficWindow, check_window, decode_window
from adnomaly.wiring import connect
from streaming.scorer_metrics import ScorerMetrics

GROUP: Final = "score_windows"
BATCH: Final = 2000
MAX_HELD: Final = 50_000
"""More windows than this are not read ahead: a day of 30 entities."""
MAX_BYTES: Final = 2000
"""A window has a few hundred."""
AHEAD: Final = timedelta(hours=1)

WAIT_SECONDS: Final = 0.5
MAX_PAUSE_SECONDS: Final = 10.0

T = TypeVar("T")
Read = tuple[Message, TrafficWindow | OutgoingMessage]
log = logging.getLogger(GROUP)


class GivenUp(Exception):
    """The held windows are no longer ours, or we are asked to stop: leave them to whoever reads them next."""


class WindowScorer:
    """Reads windows, has them judged minute by minute, and hands on what came of it."""

    def __init__(
        self,
        relay: TransactionalProcessor,
        judge: LiveScorer,
        store: ResultStore,
        metrics: ScorerMetrics,
        stopping: threading.Event,
        *,
        alerts: str,
        dead: str,
    ) -> None:
        self._relay, self._scorer, self._store, self._metrics, self._stopping = (
            relay,
            judge,
            store,
            metrics,
            stopping,
        )
        self._alerts, self._dead = alerts, dead
        self._closing: MinuteBuffer[Read] = MinuteBuffer()
        self._generation = -1

    def run(self) -> None:
        """Judge until asked to stop."""
        while not self._stopping.is_set():
            try:
                self._read()
                if due := self._closing.complete(time.monotonic()):
                    self._handle([held.item for held in due])
            except GivenUp:
                log.info("%d windows left to their next reader", len(self._closing))
                self._relay.return_to_committed()
                self._start_over()

    def _read(self) -> None:
        self._patiently("model", self._scorer.load_current)
        messages = self._relay.read(BATCH, WAIT_SECONDS) if len(self._closing) < MAX_HELD else []
        self._metrics.beat(self._relay.lag())
        if self._generation != self._relay.generation:
            self._start_over()
        self._closing.hold(
            [self._held(message) for message in messages],
            self._relay.partitions(),
            time.monotonic(),
        )

    def _start_over(self) -> None:
        """What was held and remembered is void: its partitions were taken away, or are read again."""
        self._generation = self._relay.generation
        self._closing = MinuteBuffer()
        self._scorer.reset()

    def _held(self, message: Message) -> Buffered[Read]:
        partition = message.partition()
        assert partition is not None
        try:
            window = _window(message.value())
        except (
            ValueError,
            TypeError,
            AttributeError,
            RecursionError,
            msgspec.MsgspecError,
        ) as error:
            return Buffered(
                (message, self._dead_letter(message, str(error))), partition, None, None
            )
        return Buffered(
            (message, window), partition, int(window.window_end.timestamp()), window.key
        )

    def _handle(self, read: Sequence[Read]) -> None:
        messages, dead, windows = (
            [m for m, _ in read],
            [w for _, w in read if isinstance(w, OutgoingMessage)],
            [],
        )
        for message, window in read:
            if isinstance(window, TrafficWindow):
                if self._scorer.is_too_late(window):
                    dead.append(
                        self._dead_letter(
                            message,
                            "window_end: more than a day before windows that are judged already",
                        )
                    )
                else:
                    windows.append(window)
        batch = self._patiently("postgres", lambda: self._scorer.score(windows))
        if batch.scored:
            self._patiently("postgres", lambda: self._store.save(batch.scored))
        alerts = [
            OutgoingMessage(self._alerts, r.window.key.encode(), msgspec.json.encode(r.alert()))
            for r in batch.scored
            if r.is_anomaly
        ]
        alerts += [
            OutgoingMessage(self._alerts, s.key.encode(), msgspec.json.encode(s.alert()))
            for s in batch.silences
        ]
        if not self._relay.commit(messages, [*alerts, *dead]):
            raise GivenUp
        self._scorer.commit(batch)
        self._count(batch.scored, batch.silences, len(alerts), len(dead))

    def _patiently(self, server: str, what: Callable[[], T]) -> T:
        """The result of `what`, repeated while the server is away, as long as the windows are ours."""
        pause = 0.1
        while True:
            try:
                return what()
            except (Unavailable, psycopg.Error) as error:
                self._metrics.failures.labels(server).inc()
                seconds = random.uniform(pause / 2, pause)  # noqa: S311 - spreads retries, protects nothing
                log.warning("%s; again in %.1f s", str(error).splitlines()[0], seconds)
                if self._stopping.is_set() or not self._relay.wait(seconds):
                    raise GivenUp from error
                self._metrics.beat(self._relay.lag())
                pause = min(2 * pause, MAX_PAUSE_SECONDS)

    def _dead_letter(self, message: Message, reason: str) -> OutgoingMessage:
        log.error(
            "window at %s/%s@%s put aside: %s",
            message.topic(),
            message.partition(),
            message.offset(),
            reason[:300],
        )
        source = {
            "error.rule": reason[:500],
            "source.topic": message.topic(),
            "source.partition": message.partition(),
            "source.offset": message.offset(),
        }
        return OutgoingMessage(
            self._dead,
            message.key(),
            message.value(),
            [(name, str(value).encode()) for name, value in source.items()],
        )

    def _count(
        self, scored: Sequence[ScoredWindow], silences: Sequence[Silence], alerts: int, dead: int
    ) -> None:
        for result in scored:
            self._metrics.scored.labels(
                "warming_up" if result.anomaly_score is None else "ok"
            ).inc()
            if result.is_anomaly:
                log.warning("alert %s %s", result.alert_id[:12], result.explanation.summary)
        for silence in silences:
            log.warning("%s", silence.alert()["explanation"]["summary"])
        self._metrics.alerts.inc(alerts)
        self._metrics.dead.inc(dead)
        if scored:
            newest = max(r.window.window_end for r in scored)
            self._metrics.newest.set(newest.timestamp())
            late = (datetime.now(UTC) - newest).total_seconds()
            log.info(
                "%d windows scored, %d alerts, newest ended %.0f s ago", len(scored), alerts, late
            )


def _window(value: bytes | None) -> TrafficWindow:
    if value is None or len(value) > MAX_BYTES:
        raise ValueError(
            f"must hold 1 to {MAX_BYTES} bytes, got {'null' if value is None else len(value)}"
        )
    window = decode_window(value)
    check_window(window)
    if window.window_end > datetime.now(UTC) + AHEAD:
        raise ValueError(
            f"window_end: must not be more than {AHEAD} ahead, got {window.window_end:%Y-%m-%dT%H:%M:%SZ}"
        )
    return window


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Judges windows; one process judges the whole platform."
    )
    parser.add_argument("--group", default=GROUP)
    parser.add_argument("--source", default=FEATURES_TOPIC.name)
    parser.add_argument("--alerts", default=ALERTS_TOPIC.name)
    parser.add_argument("--dead", default=FEATURES_DEAD_TOPIC.name)
    parser.add_argument(
        "--bundles",
        type=Path,
        help="folder of bundles, in which CURRENT names one; that of ADNOMALY_HOME by default",
    )
    return parser.parse_args()


def start(settings: Settings, args: argparse.Namespace, stopping: threading.Event) -> None:
    """Join the group, and judge until asked to stop."""
    metrics, backends = ScorerMetrics(), connect(settings)
    start_http_server(settings.scorer_metrics_port, addr="127.0.0.1", registry=metrics.registry)
    relay = TransactionalProcessor(settings.kafka_bootstrap, args.source, args.group)
    relay.open()
    store = ResultStore(backends.postgres)
    judge = LiveScorer(
        store, BundleStore(args.bundles) if args.bundles else backends.bundles, settings
    )
    log.info("judging the windows of the topic %s", args.source)
    try:
        WindowScorer(
            relay, judge, store, metrics, stopping, alerts=args.alerts, dead=args.dead
        ).run()
    finally:
        relay.close()


def main() -> int:
    args = _arguments()
    return run_process(lambda settings, stop: start(settings, args, stop))


if __name__ == "__main__":
    sys.exit(main())
