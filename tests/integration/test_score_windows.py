"""From the topic `features` to alerts and results, on real Kafka and PostgreSQL with real bundles.

Covers a killed scorer, a missing model and a new model. Each test has its own topics, consumer
group, bundles and model version, so a live stack is not affected. The expected result is the
detector's on all windows in one batch.
"""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import psycopg
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from adnomaly.attacks import Attack
from adnomaly.bundle.bundle import MANIFEST_FILE, seal
from adnomaly.scoring.live import LiveScorer
from adnomaly.settings import Settings, load_settings
from adnomaly.stores.bundles import BundleStore
from adnomaly.stores.window_arrow import as_windows
from adnomaly.synthetic.windows import simulate_windows
from adnomaly.windows import TrafficWindow, time_text

pytestmark = pytest.mark.integration

START = datetime(2026, 4, 8, tzinfo=UTC)
"""Earlier than any window of a live stack, at an hour of the week that the baselines cover."""
INVALID = [b"not json", b"{}", b"[]", b'{"window_start":5}', b"\xff\xfe", b"x" * 100_000]
ATTACK = Attack(
    kind="click_flood",
    geo="US",
    platform="web",
    start=START.replace(minute=40),
    end=START.replace(hour=1),
    strength=2,
)


class Nothing:
    """No results yet."""

    def windows(self, start: datetime, end: datetime) -> list:
        return []

    def last_incidents(self, start: datetime, end: datetime, model_version: str) -> list:
        return []


class World:
    """Topics, group and bundles of one test, and the scorer's output."""

    def __init__(self, settings: Settings, bundle: Path, folder: Path) -> None:
        self.settings, self.id, self._bundle, self.bundles = (
            settings,
            uuid4().hex[:8],
            bundle,
            folder,
        )
        self.topics = {
            name: f"test_serving_{name}_{self.id}" for name in ("features", "alerts", "dead")
        }
        admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
        for future in admin.create_topics(
            [NewTopic(topic, 3, 1) for topic in self.topics.values()]
        ).values():
            future.result(30)
        self.versions: list[str] = []
        self.metrics_port = _free_port()
        self._process: subprocess.Popen | None = None

    def deploy(self) -> str:
        """Deploy the bundle as a new model without history, so only fed windows are its context."""
        files = {
            f.name: f.read_bytes()
            for f in self._bundle.iterdir()
            if f.name not in (MANIFEST_FILE, "history.parquet")
        }
        card = json.loads(files["card.json"]) | {"test": f"{self.id} {len(self.versions)}"}
        version = seal(self.bundles, files | {"card.json": json.dumps(card).encode()}).name
        self.versions.append(version)
        BundleStore(self.bundles).set_current(version)
        return version

    def expected(self, windows: Sequence[TrafficWindow]) -> dict[tuple, str | None]:
        """The incident of each window, scored in one batch."""
        scorer = LiveScorer(Nothing(), BundleStore(self.bundles), self.settings)
        scorer.load_current()
        return {_key(r.window): r.incident_id for r in scorer.score(windows).scored}

    def start(self) -> None:
        names = (
            "--group",
            f"test_serving_{self.id}",
            "--source",
            self.topics["features"],
            "--alerts",
            self.topics["alerts"],
        )
        environment = os.environ | {"SCORER_METRICS_PORT": str(self.metrics_port)}
        command = [sys.executable, "-m", "streaming.score_windows", *names]
        self._process = subprocess.Popen(
            [*command, "--dead", self.topics["dead"], "--bundles", str(self.bundles)],
            env=environment,
        )

    def stop(self, how: signal.Signals) -> int:
        self._process.send_signal(how)
        return self._process.wait(30)

    def feed(self, values: Sequence[tuple[str, bytes]]) -> None:
        producer = Producer(
            {"bootstrap.servers": self.settings.kafka_bootstrap, "enable.idempotence": True}
        )
        for key, value in values:
            producer.produce(self.topics["features"], value, key)
        assert producer.flush(30) == 0

    def read(self, name: str) -> list[Any]:
        """Every committed message of a topic."""
        config = {
            "bootstrap.servers": self.settings.kafka_bootstrap,
            "group.id": uuid4().hex,
            "auto.offset.reset": "earliest",
        }
        consumer = Consumer(
            config
            | {
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
            }
        )
        consumer.subscribe([self.topics[name]])
        messages, ended = [], set()
        while len(ended) < 3:
            message = consumer.poll(10)
            assert message is not None, f"{name}: end of topic not reached"
            if message.error():
                ended.add(message.partition())
            else:
                messages.append(message)
        consumer.close()
        return messages

    def rows(self) -> list[tuple]:
        with psycopg.connect(self.settings.postgres_url()) as connection:
            query = "SELECT geo, platform, window_end, incident_id, alert_id, model_version FROM anomaly_results WHERE model_version = ANY(%s)"
            return connection.execute(query, (self.versions,)).fetchall()

    def metric(self, name: str) -> float:
        """Sum over the labels of one metric; -1 when the program does not answer."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=2
            ) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return -1
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith((f"{name} ", f"{name}{{"))
        )

    def close(self) -> None:
        if self._process and self._process.poll() is None:
            self.stop(signal.SIGKILL)
        AdminClient({"bootstrap.servers": self.settings.kafka_bootstrap}).delete_topics(
            list(self.topics.values())
        )
        with psycopg.connect(self.settings.postgres_url()) as connection:
            connection.execute(
                "DELETE FROM anomaly_results WHERE model_version = ANY(%s)", (self.versions,)
            )


@pytest.fixture
def world(bundle, tmp_path) -> Iterator[World]:
    with contextlib.closing(World(load_settings(), bundle, tmp_path / "bundles")) as world:
        yield world


@pytest.fixture(scope="module")
def windows(small_traffic) -> list[TrafficWindow]:
    """An hour and a half of six entities, one of them attacked for twenty minutes."""
    return as_windows(simulate_windows(small_traffic, START, 95 / 1440, 1, [ATTACK]))


def _messages(windows: Sequence[TrafficWindow]) -> list[tuple[str, bytes]]:
    fields = [
        (w, {"window_start": time_text(w.window_start), "window_end": time_text(w.window_end)})
        for w in windows
    ]
    return [
        (w.key, json.dumps({**times, "geo": w.geo, "platform": w.platform, **w.features}).encode())
        for w, times in fields
    ]


def _key(window: TrafficWindow) -> tuple[str, str, datetime]:
    return window.geo, window.platform, window.window_end


def test_killed_again_and_again_each_window_has_one_result_and_each_anomaly_one_alert(
    world: World, windows
):
    world.deploy()
    expected = world.expected(windows)
    anomalous = {key for key, incident in expected.items() if incident}
    assert 15 < len(anomalous) < 40
    messages, rng, part = _messages(windows), random.Random(11), len(windows) // 6 + 1
    world.start()
    for number in range(6):
        world.feed([*messages[number * part : (number + 1) * part], ("DE|web", INVALID[number])])
        time.sleep(rng.uniform(2, 9))
        world.stop(signal.SIGKILL)
        world.start()
    _until(
        lambda: len(world.rows()) == len(expected) and world.metric("adnomaly_scorer_lag") == 0,
        "everything is scored",
        90,
    )
    assert world.stop(signal.SIGTERM) == 0

    alerts = [json.loads(message.value()) for message in world.read("alerts")]
    found = [(a["geo"], a["platform"], datetime.fromisoformat(a["window_end"])) for a in alerts]
    assert sorted(found) == sorted(anomalous), "one alert per anomalous window, no other"
    rows = {
        (geo, platform, end.astimezone(UTC)): (incident, alert_id)
        for geo, platform, end, incident, alert_id, _ in world.rows()
    }
    assert {key: incident for key, (incident, _) in rows.items()} == expected, (
        "as scored in one batch, in the same incidents"
    )
    assert {alert["alert_id"] for alert in alerts} == {
        alert_id for _, alert_id in rows.values() if alert_id
    }
    assert sorted(message.value() for message in world.read("dead")) == sorted(INVALID), (
        "dead letters are kept byte for byte"
    )


def test_an_alert_says_why(world: World, windows):
    version = world.deploy()
    world.feed(_messages(windows))
    world.start()
    _until(lambda: len(world.rows()) == len(windows), "all is scored")
    first, *_ = world.read("alerts")
    alert = json.loads(first.value())
    assert first.key() == b"US|web"
    assert (alert["kind"], alert["threshold"], alert["model_version"]) == ("anomaly", 0.5, version)
    assert alert["anomaly_score"] >= 0.5
    assert alert["incident_id"] == f"US|web@{alert['window_end']}"
    assert alert["explanation"]["summary"].startswith("US web: ")
    assert sum(map(abs, alert["explanation"]["share"].values())) == pytest.approx(1)


def test_an_invalid_window_does_not_block_the_others(world: World, windows):
    world.deploy()
    some = windows[:60]
    messages = _messages(some)
    impossible = json.loads(messages[4][1]) | {"ctr_avg": 1.5}
    world.feed([*messages[:4], (messages[4][0], json.dumps(impossible).encode()), *messages[5:]])
    world.start()
    _until(lambda: len(world.rows()) == len(some) - 1, "the others are scored")
    _until(lambda: world.metric("adnomaly_scorer_dead_letters_total") == 1, "it is a dead letter")
    (dead,) = world.read("dead")
    assert json.loads(dead.value()) == impossible
    assert (
        dict(dead.headers())["error.rule"].decode()
        == "ctr_avg: must be a number from 0 to 1, got 1.5"
    )


def test_before_a_model_is_deployed_nothing_is_passed_and_the_lag_is_true(world: World, windows):
    world.feed(_messages(windows[:60]))
    world.start()
    _until(lambda: world.metric("adnomaly_scorer_failures_total") >= 2, "it tries")
    _until(lambda: world.metric("adnomaly_scorer_lag") == 60, "the lag is known")
    assert world.metric("adnomaly_scorer_heartbeat_seconds") > time.time() - 15
    version = world.deploy()
    _until(lambda: len(world.rows()) == 60, "it goes on by itself")
    _until(lambda: world.metric("adnomaly_scorer_lag") == 0, "the lag is gone")
    assert {row[-1] for row in world.rows()} == {version}


def test_a_new_model_takes_over_between_two_minutes(world: World, windows):
    first = world.deploy()
    world.feed(_messages([w for w in windows if w.window_end < START + timedelta(minutes=50)]))
    world.start()
    _until(
        lambda: world.metric("adnomaly_scorer_lag") == 0 and world.rows(),
        "the first part is scored",
    )
    second = world.deploy()
    world.feed(_messages([w for w in windows if w.window_end >= START + timedelta(minutes=50)]))
    _until(lambda: len(world.rows()) == len(windows), "the second part is scored")
    by_model: dict[str, list[datetime]] = {}
    for *_, end, _incident, _alert, version in world.rows():
        by_model.setdefault(version, []).append(end)
    assert max(by_model[first]) < min(by_model[second])


def test_a_silent_entity_is_an_alert_of_its_own(world: World, windows):
    world.deploy()
    quiet = [
        w
        for w in windows
        if not (w.key == "DE|web" and w.window_end > START + timedelta(minutes=20))
    ]
    calm = [
        msgspec.structs.replace(w) for w in quiet if w.window_end < START + timedelta(minutes=40)
    ]
    parts = (
        [w for w in calm if w.window_end < START + timedelta(minutes=15)],
        [w for w in calm if w.window_end >= START + timedelta(minutes=15)],
    )
    world.feed(_messages(parts[0]))
    world.start()
    _until(lambda: len(world.rows()) == len(parts[0]), "the first minutes are scored")
    world.feed(_messages(parts[1]))
    _until(lambda: len(world.rows()) == len(calm), "the others are scored", 60)
    alerts = [json.loads(message.value()) for message in world.read("alerts")]
    assert [(a["kind"], a["geo"], a["platform"]) for a in alerts] == [("silence", "DE", "web")]


def _until(condition, what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain until {what}"
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
