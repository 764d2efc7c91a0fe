"""From the topic `features` to alerts and results: real Kafka, PostgreSQL and HTTP; the scorer killed, scoring away.

Each test has topics, a consumer group and a model version of its own, so it can run beside a live stack.
"""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import uvicorn
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from adnomaly.settings import ROOT, Settings, load_settings
from adnomaly.windows import SIZE, SLIDE, time_text
from serving.api import create_api
from serving.metrics import Metrics
from serving.slot import ModelSlot

pytestmark = pytest.mark.integration

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
ENTITIES = [(geo, platform) for geo in ("BR", "DE", "US") for platform in ("android", "ios", "web")]
POISON = [b"not json", b"{}", b"[]", b'{"window_start":5}', b"\xff\xfe", b"x" * 100_000]


class RuleScorer:
    """The score is the bounce rate, the threshold 0.5. The folder's name is the version."""

    def __init__(self, folder: Path) -> None:
        self.version, self.card, self.features = folder.name, {}, ("ctr_avg", "bounce_rate_avg", "event_count")

    def score_rows(self, rows: Sequence[Mapping[str, Any]]) -> list[SimpleNamespace]:
        return [self._score(row["bounce_rate_avg"]) for row in rows]

    def _score(self, bounce: float) -> SimpleNamespace:
        reasons = {"expected": {"bounce_rate_avg": 0.36}, "z": {"bounce_rate_avg": (bounce - 0.36) / 0.02}}
        return SimpleNamespace(anomaly_score=bounce, is_anomaly=bounce >= 0.5, threshold=0.5, baseline="entity", **reasons)

    def check_sentinels(self) -> None:
        """There are none."""


class Scoring:
    """The scoring API on a port of its own, which can go away and come back."""

    def __init__(self, version: str) -> None:
        self._version, self.port = version, _free_port()
        self.up()

    def up(self) -> None:
        slot = ModelSlot(RuleScorer)
        slot.offer(Path(self._version))
        self._server = uvicorn.Server(uvicorn.Config(create_api(slot, Metrics()), port=self.port, log_level="warning"))
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        _until(lambda: self._server.started, "scoring listens")

    def down(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()


class World:
    """Topics, group and model version of one test, and what came out at the end."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.id = settings, uuid4().hex[:8]
        self.topics = {name: f"test_serving_{name}_{self.id}" for name in ("features", "alerts", "dead")}
        admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
        for future in admin.create_topics([NewTopic(topic, 3, 1) for topic in self.topics.values()]).values():
            future.result(30)
        self.scoring = Scoring(f"test-{self.id}")
        self.metrics_port = _free_port()
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        names = ("--group", f"test_serving_{self.id}", "--source", self.topics["features"], "--alerts", self.topics["alerts"])
        environment = os.environ | {"SERVING_URL": f"http://127.0.0.1:{self.scoring.port}", "SCORER_METRICS_PORT": str(self.metrics_port)}
        command = [sys.executable, str(ROOT / "streaming" / "score_windows.py"), *names, "--dead", self.topics["dead"]]
        self._process = subprocess.Popen(command, env=environment)

    def stop(self, how: signal.Signals) -> int:
        self._process.send_signal(how)
        return self._process.wait(30)

    def feed(self, values: Sequence[tuple[str, bytes]]) -> None:
        producer = Producer({"bootstrap.servers": self.settings.kafka_bootstrap, "enable.idempotence": True})
        for key, value in values:
            producer.produce(self.topics["features"], value, key)
        assert producer.flush(30) == 0

    def read(self, name: str) -> list[Any]:
        """Every committed message of a topic."""
        config = {"bootstrap.servers": self.settings.kafka_bootstrap, "group.id": uuid4().hex, "auto.offset.reset": "earliest"}
        consumer = Consumer(config | {"enable.auto.commit": False, "isolation.level": "read_committed", "enable.partition.eof": True})
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
            query = "SELECT geo, platform, window_end, is_anomaly, alert_id, anomaly_score, explanation FROM anomaly_results WHERE model_version = %s"
            return connection.execute(query, (f"test-{self.id}",)).fetchall()

    def metric(self, name: str) -> float:
        """Sum over the labels of one metric; -1 when the program does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=2) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return -1
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))

    def close(self) -> None:
        if self._process and self._process.poll() is None:
            self.stop(signal.SIGKILL)
        self.scoring.down()
        AdminClient({"bootstrap.servers": self.settings.kafka_bootstrap}).delete_topics(list(self.topics.values()))
        with psycopg.connect(self.settings.postgres_url()) as connection:
            connection.execute("DELETE FROM anomaly_results WHERE model_version = %s", (f"test-{self.id}",))


@pytest.fixture
def world() -> Iterator[World]:
    with contextlib.closing(World(load_settings())) as world:
        yield world


def _windows(count: int, seed: int) -> list[tuple[str, bytes]]:
    """`count` window closes of all entities as (key, message), one in twenty anomalous."""
    rng = random.Random(seed)
    messages = []
    for n in range(count):
        start = NOON + n * SLIDE
        for geo, platform in ENTITIES:
            bounce = 0.9 if rng.random() < 0.05 else round(rng.uniform(0.3, 0.4), 6)
            window = {"window_start": time_text(start), "window_end": time_text(start + SIZE), "geo": geo, "platform": platform}
            features = {"ctr_avg": 0.022, "bounce_rate_avg": bounce, "event_count": rng.randint(1, 900)}
            messages.append((f"{geo}|{platform}", json.dumps(window | features).encode()))
    return messages


def _key(window: Mapping[str, Any]) -> tuple[str, str, str]:
    return window["geo"], window["platform"], window["window_end"]


def test_killed_again_and_again_each_window_has_one_result_and_each_anomaly_one_alert(world: World):
    windows = _windows(120, seed=7)
    expected = {_key(w): w for w in (json.loads(value) for _, value in windows)}
    anomalous = {key for key, w in expected.items() if w["bounce_rate_avg"] >= 0.5}
    assert len(anomalous) > 20
    rng = random.Random(11)
    world.start()
    for part in range(6):
        world.feed(windows[part * 180 : (part + 1) * 180] + [("DE|ios", POISON[part])])
        time.sleep(rng.uniform(0.5, 4))
        world.stop(signal.SIGKILL)
        world.start()
    _until(lambda: len(world.rows()) == len(expected) and world.metric("adnomaly_scorer_lag") == 0, "everything is scored", 90)
    assert world.stop(signal.SIGTERM) == 0

    alerts = [json.loads(message.value()) for message in world.read("alerts")]
    assert sorted(map(_key, alerts)) == sorted(anomalous), "one alert per anomalous window, no other"
    rows = {(geo, platform, time_text(end)): (anomaly, alert_id) for geo, platform, end, anomaly, alert_id, *_ in world.rows()}
    assert set(rows) == set(expected)
    assert {key for key, (anomaly, _) in rows.items() if anomaly} == anomalous
    assert {alert["alert_id"] for alert in alerts} == {alert_id for anomaly, alert_id in rows.values() if anomaly}
    assert sorted(message.value() for message in world.read("dead")) == sorted(POISON), "poison is kept to the byte"


def test_an_alert_says_what_was_expected(world: World):
    window = json.loads(_windows(1, seed=1)[0][1]) | {"bounce_rate_avg": 0.9}
    world.feed([("BR|android", json.dumps(window).encode())])
    world.start()
    _until(lambda: world.metric("adnomaly_scorer_alerts_total") == 1, "the alert is sent")
    (message,) = world.read("alerts")
    alert = json.loads(message.value())
    assert message.key() == b"BR|android"
    assert {name: alert[name] for name in window} == window
    assert (alert["anomaly_score"], alert["threshold"], alert["model_version"]) == (0.9, 0.5, f"test-{world.id}")
    assert alert["explanation"]["z"] == {"bounce_rate_avg": pytest.approx(27)}
    assert alert["explanation"]["summary"] == "BR android: bounce_rate_avg 0.9 instead of 0.36 (z +27.0)"


def test_a_window_that_the_contract_refuses_does_not_hold_up_the_others(world: World):
    windows = [(key, value) for key, value in _windows(2, seed=3)]
    impossible = json.loads(windows[4][1]) | {"ctr_avg": 1.5}
    windows[4] = (windows[4][0], json.dumps(impossible).encode())
    world.feed(windows)
    world.start()
    _until(lambda: len(world.rows()) == len(windows) - 1, "the others are scored")
    _until(lambda: world.metric("adnomaly_scorer_dead_letters_total") == 1, "it is put aside")
    (dead,) = world.read("dead")
    assert json.loads(dead.value()) == impossible
    assert "ctr_avg" in dict(dead.headers())["error.rule"].decode()


def test_while_scoring_is_away_nothing_is_passed_and_the_lag_is_true(world: World):
    world.scoring.down()
    windows = _windows(10, seed=5)
    world.feed(windows)
    world.start()
    _until(lambda: world.metric("adnomaly_scorer_failures_total") >= 2, "it tries")
    _until(lambda: world.metric("adnomaly_scorer_lag") == len(windows), "the lag is known")
    assert world.rows() == []
    assert world.metric("adnomaly_scorer_heartbeat_seconds") > time.time() - 15
    world.scoring.up()
    _until(lambda: len(world.rows()) == len(windows), "it goes on by itself")
    _until(lambda: world.metric("adnomaly_scorer_lag") == 0, "the lag is gone")


def _until(condition, what: str, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain until {what}"
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
