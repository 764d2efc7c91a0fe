"""Topic `features` -> scoring over HTTP -> topic `alerts` + `anomaly_results` (every scored window).

Each window gives one alert effect: rows are keyed by window and model version, and alerts move together with the offsets in
one Kafka transaction, so a crash at any point leaves neither a gap nor a second alert. While scoring, PostgreSQL or Kafka is
away it waits and repeats, and never goes past a window that failed. A window that cannot be one, or that the scoring
contract refuses, goes to `features.dlq` with its reason. Metrics on SCORER_METRICS_PORT (9108).
"""

import argparse
import logging
import random
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec
import psycopg
from confluent_kafka import Message
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from adnomaly.adapters.kafka_relay import Out, Relay
from adnomaly.adapters.result_store import ResultStore
from adnomaly.adapters.scoring_api import Busy, ScoringApi, WindowRefused
from adnomaly.alerts import ScoredWindow
from adnomaly.errors import Unavailable
from adnomaly.process import run_process
from adnomaly.settings import Settings
from adnomaly.topics import ALERTS, FEATURES, FEATURES_DEAD
from adnomaly.windows import TrafficWindow, decode_window
from adnomaly.wiring import connect

GROUP: Final = "score_windows"
BATCH: Final = 500
"""Windows per request: a window close of 30 entities fits many times, a catch-up is not slowed down."""
LARGEST_BYTES: Final = 2000
"""A window has a few hundred; so a full batch stays within the 1 MiB that scoring reads."""

WAIT_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 10.0

T = TypeVar("T")
log = logging.getLogger(GROUP)


class Metrics:
    """What Prometheus sees of this process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.scored = Counter("adnomaly_scorer_windows", "Windows scored", ("baseline",), registry=registry)
        self.alerts = Counter("adnomaly_scorer_alerts", "Alerts sent", registry=registry)
        self.dead = Counter("adnomaly_scorer_dead_letters", "Windows put aside with their reason", registry=registry)
        self.failures = Counter("adnomaly_scorer_failures", "Failed tries, each repeated", ("server",), registry=registry)
        self.lag = Gauge("adnomaly_scorer_lag", "Windows in the topic that are not done", ("partition",), registry=registry)
        self.heartbeat = Gauge("adnomaly_scorer_heartbeat_seconds", "Unix time of the last look at the topic", registry=registry)
        self.newest = Gauge("adnomaly_scorer_newest_window_seconds", "Unix time of the newest window_end scored", registry=registry)

    def beat(self, lag: dict[int, int]) -> None:
        self.heartbeat.set_to_current_time()
        self.lag.clear()
        for partition, count in lag.items():
            self.lag.labels(partition).set(count)


class GivenUp(Exception):
    """The held windows are no longer ours, or we are asked to stop: leave them to whoever reads them next."""


class WindowScorer:
    """Reads windows, has them scored, and hands on what came of it."""

    def __init__(
        self, relay: Relay, api: ScoringApi, store: ResultStore, metrics: Metrics, stopping: threading.Event, *, alerts: str, dead: str
    ) -> None:
        self._relay, self._api, self._store, self._metrics, self._stopping = relay, api, store, metrics, stopping
        self._alerts, self._dead = alerts, dead

    def run(self) -> None:
        """Score until asked to stop."""
        while not self._stopping.is_set():
            messages = self._relay.read(BATCH, WAIT_SECONDS)
            self._metrics.beat(self._relay.lag())
            if messages:
                try:
                    self._handle(messages)
                except GivenUp:
                    log.info("%d windows left to their next reader", len(messages))

    def _handle(self, messages: Sequence[Message]) -> None:
        windows, held, dead = self._decode(messages)
        scored = self._score(windows, held, dead)
        if scored:
            self._patiently("postgres", lambda: self._store.save(scored))
        alerts = [Out(self._alerts, r.window.key.encode(), msgspec.json.encode(r.alert())) for r in scored if r.is_anomaly]
        if not self._relay.commit(messages, [*alerts, *dead]):
            return
        self._count(scored, alerts, dead)

    def _decode(self, messages: Sequence[Message]) -> tuple[list[TrafficWindow], list[Message], list[Out]]:
        windows, held, dead = [], [], []
        for message in messages:
            try:
                windows.append(_window(message.value()))
                held.append(message)
            except (ValueError, TypeError, AttributeError, RecursionError, msgspec.MsgspecError) as error:
                dead.append(self._dead_letter(message, str(error)))
        return windows, held, dead

    def _score(self, windows: list[TrafficWindow], held: list[Message], dead: list[Out]) -> list[ScoredWindow]:
        """Score what the contract takes; what it refuses moves to `dead`."""
        while windows:
            try:
                return self._patiently("scoring", lambda: self._api.score(windows))
            except WindowRefused as refused:
                dead.append(self._dead_letter(held.pop(refused.position), str(refused)))
                del windows[refused.position]
        return []

    def _patiently(self, server: str, what: Callable[[], T]) -> T:
        """The result of `what`, repeated while the server is away, as long as the windows are ours."""
        pause = 0.1
        while True:
            try:
                return what()
            except (Unavailable, psycopg.Error) as error:
                self._metrics.failures.labels(server).inc()
                at_least = error.retry_after_seconds if isinstance(error, Busy) else 0.0
                seconds = at_least + random.uniform(pause / 2, pause)  # noqa: S311 - spreads retries, protects nothing
                log.warning("%s; again in %.1f s", str(error).splitlines()[0], seconds)
                if self._stopping.is_set() or not self._relay.wait(seconds):
                    raise GivenUp from error
                self._metrics.beat(self._relay.lag())
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _dead_letter(self, message: Message, reason: str) -> Out:
        log.error("window at %s/%s@%s put aside: %s", message.topic(), message.partition(), message.offset(), reason[:300])
        source = {
            "error.rule": reason[:500],
            "source.topic": message.topic(),
            "source.partition": message.partition(),
            "source.offset": message.offset(),
        }
        return Out(self._dead, message.key(), message.value(), [(name, str(value).encode()) for name, value in source.items()])

    def _count(self, scored: Sequence[ScoredWindow], alerts: Sequence[Out], dead: Sequence[Out]) -> None:
        for result in scored:
            self._metrics.scored.labels(result.baseline).inc()
            if result.is_anomaly:
                log.warning("alert %s %s", result.alert_id[:12], result.explanation.summary)
        self._metrics.alerts.inc(len(alerts))
        self._metrics.dead.inc(len(dead))
        if scored:
            newest = max(r.window.window_end for r in scored)
            self._metrics.newest.set(newest.timestamp())
            late = (datetime.now(UTC) - newest).total_seconds()
            log.info("%d windows scored, %d alerts, newest ended %.0f s ago", len(scored), len(alerts), late)


def _window(value: bytes | None) -> TrafficWindow:
    if value is None or len(value) > LARGEST_BYTES:
        raise ValueError(f"must hold 1 to {LARGEST_BYTES} bytes, got {'null' if value is None else len(value)}")
    return decode_window(value)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Scores windows; several members share the topic's partitions.")
    parser.add_argument("--member", type=int, default=0, help="number of this process among those of the group")
    parser.add_argument("--group", default=GROUP)
    parser.add_argument("--source", default=FEATURES.name)
    parser.add_argument("--alerts", default=ALERTS.name)
    parser.add_argument("--dead", default=FEATURES_DEAD.name)
    return parser.parse_args()


def start(settings: Settings, args: argparse.Namespace, stopping: threading.Event) -> None:
    """Join the group, and score until asked to stop."""
    metrics = Metrics()
    start_http_server(settings.scorer_metrics_port + args.member, addr="127.0.0.1", registry=metrics.registry)
    relay = Relay(settings.kafka_bootstrap, args.source, args.group, member=args.member)
    relay.open()
    api = ScoringApi(settings.serving_url)
    store = ResultStore(connect(settings).postgres)
    log.info("scoring the topic %s with %s", args.source, settings.serving_url)
    try:
        WindowScorer(relay, api, store, metrics, stopping, alerts=args.alerts, dead=args.dead).run()
    finally:
        relay.close()
        api.close()


def main() -> int:
    args = _arguments()
    return run_process(lambda settings, stop: start(settings, args, stop))


if __name__ == "__main__":
    sys.exit(main())
