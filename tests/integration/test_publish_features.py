"""From the topic `features` into both stores, while servers become unavailable.

Isolated as in test_feature_store.py.
"""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
import redis
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from adnomaly.failpoints import Failpoints
from adnomaly.sinks.base import run_sink
from adnomaly.sinks.consumer import GroupConsumer
from adnomaly.stores.online_features import OnlineFeatures
from adnomaly.stores.windows import WindowStore
from adnomaly.windows import SIZE, SLIDE, TrafficWindow, time_text
from adnomaly.wiring import connect
from integration.world import a_world
from streaming.publish_features import MAX_BATCH, FeatureSink

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
NOW = datetime.now(UTC).replace(second=0, microsecond=0)
REDIS_DB = 14
ENTITIES = [(geo, platform) for geo in ("BR", "DE", "US") for platform in ("android", "ios", "web")]


class Proxy:
    """A TCP proxy to a server; shut, it breaks connections and refuses new ones."""

    def __init__(self, host: str, port: int) -> None:
        self._target, self._pairs, self._listener = (host, port), [], None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.open()

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def shut(self) -> None:
        for s in (self._listener, *self._pairs):
            hang_up(s)
        self._pairs.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            self._pairs += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=forward, args=(one, other), daemon=True).start()


def forward(one: socket.socket, other: socket.socket) -> None:
    try:
        while data := one.recv(65536):
            other.sendall(data)
    except OSError:
        pass
    hang_up(other)


def hang_up(s: socket.socket) -> None:
    try:
        s.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    s.close()


@pytest.fixture
def proxies(settings):
    address = urlsplit(settings.redis_url)
    both = {
        "redis": Proxy(address.hostname, address.port),
        "postgres": Proxy(settings.db_host, settings.db_port),
    }
    yield both
    for proxy in both.values():
        proxy.shut()


@pytest.fixture
def store(settings, backends, proxies):
    from adnomaly.clients.postgres import Postgres

    table = f"test_windows_{uuid4().hex[:8]}"
    with backends.postgres.connection() as connection:
        connection.execute(f"CREATE TABLE {table} (LIKE feature_aggregates INCLUDING ALL)")
    through = settings.model_copy(
        update={"db_host": "127.0.0.1", "db_port": proxies["postgres"].port}
    )
    yield WindowStore(Postgres(through.postgres_url()), table=table)
    with backends.postgres.connection() as connection:
        connection.execute(f"DROP TABLE {table}")


@pytest.fixture
def online(settings, proxies, tmp_path):
    schema = f"test_{uuid4().hex[:8]}"
    url = settings.postgres_url("feast")
    with (
        psycopg.connect(url, autocommit=True) as connection,
        redis.Redis.from_url(f"{settings.redis_url}/{REDIS_DB}") as client,
    ):
        connection.execute(f"CREATE SCHEMA {schema}")
        client.flushdb()
        store = OnlineFeatures(
            ROOT / "include" / "feature_repo",
            registry_url=f"{url}?options=-csearch_path%3D{schema}",
            redis_url=f"redis://127.0.0.1:{proxies['redis'].port}/{REDIS_DB}",
            mirror=tmp_path,
        )
        store.apply()
        yield store
        client.flushdb()
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture
def topic(settings):
    name = f"test_features_{uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    admin.create_topics([NewTopic(name, 3, 1)])[name].result()
    yield name
    admin.delete_topics([name])[name].result()


@pytest.fixture
def send(settings, topic):
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap})

    def send(windows: list[TrafficWindow]) -> None:
        for w in windows:
            producer.produce(topic, valid_value(w), w.key)
        assert producer.flush(20) == 0

    return send


def valid_value(w: TrafficWindow) -> str:
    times = {"window_start": time_text(w.window_start), "window_end": time_text(w.window_end)}
    return json.dumps(times | {"geo": w.geo, "platform": w.platform} | w.features)


@contextmanager
def publishing(settings, topic, online, store):
    """The sink's loop in a thread; re-raises its failure."""
    stopping, failures = threading.Event(), []
    consumer = GroupConsumer(settings.kafka_bootstrap, topic, topic, stopping)
    sink = FeatureSink(online, store, Failpoints(""))

    def body() -> None:
        try:
            run_sink(consumer, sink, stopping, unit="corrections", max_batch=MAX_BATCH)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(30)
    assert not failures and not thread.is_alive()


def a_close(minute: int, count: int = 10) -> list[TrafficWindow]:
    """Windows of one window close: one per entity."""
    end = NOW + minute * SLIDE
    values = {"ctr_avg": 0.02 + minute / 1000, "bounce_rate_avg": 0.36, "event_count": count}
    return [
        TrafficWindow(window_start=end - SIZE, window_end=end, geo=g, platform=p, features=values)
        for g, p in ENTITIES
    ]


def wait_for(what, expected, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while (found := what()) != expected and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found == expected


def stored(store):
    return lambda: store.windows(NOW - timedelta(days=1), NOW + timedelta(days=1))


def test_windows_reach_both_stores_and_a_repeat_changes_nothing(
    settings, topic, send, online, store
):
    windows = [w for minute in range(4) for w in a_close(minute)]
    send(windows)
    with publishing(settings, topic, online, store):
        wait_for(stored(store), windows)
    assert online.read(ENTITIES) == a_close(3)
    send(windows)
    send(a_close(4))
    with publishing(settings, topic, online, store):
        wait_for(stored(store), windows + a_close(4))
    assert online.read(ENTITIES) == a_close(4)


def test_a_recomputed_window_replaces_the_stored_one(settings, topic, send, online, store):
    with publishing(settings, topic, online, store):
        send(a_close(0))
        wait_for(stored(store), a_close(0))
        time.sleep(0.01)  # Kafka's own timestamps have milliseconds: the correction must be later
        send(a_close(0, count=12)[:1])
        wait_for(stored(store), a_close(0, count=12)[:1] + a_close(0)[1:])
        assert online.read(ENTITIES) == a_close(0, count=12)[:1] + a_close(0)[1:]


@pytest.mark.parametrize("server", ["redis", "postgres"])
def test_no_window_is_skipped_while_a_server_is_unavailable(
    settings, topic, send, online, store, proxies, server, caplog
):
    caplog.set_level(logging.WARNING)
    with publishing(settings, topic, online, store):
        send(a_close(0))
        wait_for(stored(store), a_close(0))
        proxies[server].shut()
        send(a_close(1))
        send(a_close(2))
        wait_for(lambda: "retrying in" in caplog.text, True)
        proxies[server].open()
        wait_for(stored(store), [w for minute in range(3) for w in a_close(minute)], 60)
    assert online.read(ENTITIES) == a_close(2)


INVALID = [
    None,
    b"",
    b"not json",
    b"[]",
    b"{}",
    b"\xff\xfe",
    b"[" * 100_000,
    *(
        json.dumps(
            {
                "window_start": time_text(NOW - SIZE),
                "window_end": time_text(NOW),
                "geo": "DE",
                "platform": "web",
            }
            | values
        ).encode()
        for values in (
            {"ctr_avg": 0.1, "event_count": 1},
            {"ctr_avg": "0.1", "bounce_rate_avg": 0.1, "event_count": 1},
            {"ctr_avg": 7, "bounce_rate_avg": 0.1, "event_count": 1},
            {"ctr_avg": True, "bounce_rate_avg": 0.1, "event_count": 1},
            {"ctr_avg": 0.1, "bounce_rate_avg": None, "event_count": 1},
            {"ctr_avg": 0.1, "bounce_rate_avg": 0.1, "event_count": 1.5},
            {"ctr_avg": 0.1, "bounce_rate_avg": 0.1, "event_count": 2**70},
            {"ctr_avg": 0.1, "bounce_rate_avg": 0.1, "event_count": 1, "geo": 5},
            {"ctr_avg": 0.1, "bounce_rate_avg": 0.1, "event_count": 1, "platform": "w\0b"},
            {
                "ctr_avg": 0.1,
                "bounce_rate_avg": 0.1,
                "event_count": 1,
                "window_end": "2026-11-22T00:05:01Z",
            },
            {"ctr_avg": 0.1, "bounce_rate_avg": 0.1, "event_count": 1, "window_start": "yesterday"},
            {
                "ctr_avg": 0.1,
                "bounce_rate_avg": 0.1,
                "event_count": 1,
                "window_start": "9999-12-31T23:50:00-01:00",
                "window_end": "9999-12-31T23:55:00-01:00",
            },
        )
    ),
]


def test_invalid_messages_are_logged_and_skipped(settings, topic, send, online, store, caplog):
    caplog.set_level(logging.WARNING)
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap})
    for value in INVALID:
        producer.produce(topic, value, b"DE|web")
    assert producer.flush(20) == 0
    send(a_close(0))
    with publishing(settings, topic, online, store):
        wait_for(stored(store), a_close(0))
    assert caplog.text.count("invalid window at") == len(INVALID)
    assert online.read(ENTITIES) == a_close(0)


def test_a_redis_that_lost_everything_is_filled_by_the_next_window_close(
    settings, topic, send, online, store
):
    with publishing(settings, topic, online, store):
        send(a_close(0))
        wait_for(stored(store), a_close(0))
        with redis.Redis.from_url(f"{settings.redis_url}/{REDIS_DB}") as client:
            client.flushdb()
        assert online.read(ENTITIES) == [None] * len(ENTITIES)
        send(a_close(1))
        wait_for(lambda: online.read(ENTITIES), a_close(1))


def test_a_crash_between_online_and_table_keeps_the_correction(
    settings, topic, send, online, store
):
    """Re-processing is idempotent after a kill between the online write and the table."""
    with publishing(settings, topic, online, store):
        send(a_close(0))
        wait_for(stored(store), a_close(0))
    correction = a_close(0, count=12)
    later = [datetime.now(UTC) + timedelta(seconds=1)] * len(correction)
    online.correct(store.corrected(correction, later))
    assert store.corrected(correction, later) == correction
    send(correction)
    with publishing(settings, topic, online, store):
        wait_for(stored(store), correction)
    assert online.read(ENTITIES) == correction


def test_a_killed_publisher_skips_no_window_and_doubles_none(settings, topic, send, tmp_path):
    """SIGKILL of the real program between its two stores and before its commit, then a full run."""
    windows = [w for minute in range(4) for w in a_close(minute)]
    send(windows)
    with (
        a_world(settings, tmp_path) as world,
        redis.Redis.from_url(f"{settings.redis_url}/{REDIS_DB}") as client,
    ):
        client.flushdb()
        own = world.settings.model_copy(update={"redis_url": f"{settings.redis_url}/{REDIS_DB}"})
        environ = os.environ | {"DB_NAME": own.db_name, "REDIS_URL": own.redis_url}
        command = [
            sys.executable,
            "-m",
            "streaming.publish_features",
            "--source",
            topic,
            "--group",
            topic,
        ]
        for failpoint in ("between_stores", "before_commit"):
            killed = subprocess.run(
                command, env=environ | {"FAILPOINT": failpoint}, timeout=90, check=False
            )
            assert killed.returncode == -signal.SIGKILL
        send(a_close(4))
        backends = connect(own)
        rest = subprocess.Popen(command, env=environ)
        try:
            wait_for(stored(backends.window_store), windows + a_close(4), 60)
            assert backends.online_features.read(ENTITIES) == a_close(4)
        finally:
            rest.terminate()
            assert rest.wait(30) == 0
            client.flushdb()
