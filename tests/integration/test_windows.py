"""Stream = batch = oracle, on real Kafka and Flink, for one scenario run through the window job.

The scenario: traffic out of order on two of three partitions, clicks dated far ahead, a killed
TaskManager, late clicks, a killed JobManager, a restart, and an added feature. The clicks are of a
day long past and in separate topics, so a live stack is not affected.
"""

import io
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

import window_oracle as oracle
from adnomaly.arrow import CLICK_SCHEMA
from adnomaly.clients.flink import Flink
from adnomaly.clients.flink_job import JobReconciler
from adnomaly.clients.flink_tables import IDLE_SECONDS, Topics
from adnomaly.clients.kafka.admin import create_topics
from adnomaly.features import FEATURES, Feature
from adnomaly.settings import ROOT, load_settings
from adnomaly.stores.lake_batch import LakeBatch
from adnomaly.topics import Topic
from adnomaly.windows import SIZE
from adnomaly.wiring import connect
from window_oracle import Sent, Window

pytestmark = [pytest.mark.integration, pytest.mark.kills, pytest.mark.timeout(900)]

ENTITIES = [(geo, platform) for geo in ("DE", "IN", "US") for platform in ("android", "web")]
MINUTE = timedelta(minutes=1)
OUT_OF_ORDER_S = 29.0
PATIENCE_S = 240.0
COST = Feature("cpc_avg", "float64", "money", 0, None, "AVG(cpc)")


@dataclass
class Stage:
    """Separate topics and a separate job, and the clicks sent to them."""

    settings: object
    backends: object
    name: str
    start: datetime
    rng: random.Random
    sent: list[Sent] = field(default_factory=list)
    newest: dict[int, datetime] = field(default_factory=dict)
    process: subprocess.Popen | None = None

    @property
    def topics(self) -> Topics:
        return Topics(
            self.settings.kafka_bootstrap,
            *(f"{self.name}.{end}" for end in ("valid", "features", "late")),
        )

    @property
    def watermark(self) -> datetime:
        """Watermark once every click is read and the silent partition is idle.

        Flink counts milliseconds.
        """
        slowest = min(self.newest.values())
        return slowest.replace(microsecond=slowest.microsecond // 1000 * 1000) - timedelta(
            seconds=30
        )

    def clicks(self, first: int, minutes: int, per_minute: int = 240) -> list[Sent]:
        """Clicks from a minute of the scenario on, in the order of their event times."""
        span_us = minutes * 60_000_000
        moments = sorted(self.rng.randrange(span_us) for _ in range(minutes * per_minute))
        return [
            self.click(self.start + first * MINUTE + timedelta(microseconds=us)) for us in moments
        ]

    def click(self, at: datetime) -> Sent:
        geo, platform = self.rng.choice(ENTITIES)
        ctr, bounce_rate, cpc = self.rng.random() / 10, self.rng.random(), self.rng.random()
        user, campaign = f"{self.rng.randrange(60):032x}", f"camp_{self.rng.randrange(8)}"
        return Sent(
            str(UUID(int=self.rng.getrandbits(128))),
            at,
            geo,
            platform,
            ctr,
            bounce_rate,
            cpc,
            user,
            campaign,
        )

    def send(self, clicks: Sequence[Sent], *, seconds: float = 0, ahead: bool = False) -> None:
        """Send in this order, evenly over some seconds, to two of the three partitions, by geo."""
        producer, began = (
            Producer({"bootstrap.servers": self.topics.bootstrap, "linger.ms": 5}),
            time.monotonic(),
        )
        for position, click in enumerate(clicks):
            partition = 0 if click.geo < "US" else 1
            producer.produce(
                self.topics.clicks,
                message(click),
                f"{click.geo}|{click.platform}".encode(),
                partition,
            )
            if not ahead:
                self.newest[partition] = max(click.at, self.newest.get(partition, click.at))
            pause = began + seconds * position / len(clicks) - time.monotonic()
            if pause > 0.05:
                producer.flush()
                time.sleep(pause)
        assert producer.flush(30) == 0
        if not ahead:
            self.sent += clicks

    def out_of_order(self, clicks: Sequence[Sent]) -> list[Sent]:
        return sorted(
            clicks,
            key=lambda click: click.at + timedelta(seconds=self.rng.uniform(0, OUT_OF_ORDER_S)),
        )

    def start_job(self) -> None:
        options = [
            "--name",
            self.name,
            "--source",
            self.topics.clicks,
            "--sink",
            self.topics.windows,
            "--late",
            self.topics.late,
        ]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streaming.window_job", *options], cwd=ROOT
        )
        self.await_job()

    def await_job(self) -> None:
        wait_until(
            lambda: self.backends.flink.window_job_state(self.name) == "RUNNING", "the job runs"
        )

    def stop_job(self) -> None:
        """As supervisord does it."""
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(90) == 0
            self.process = None
            assert self.backends.flink.window_job_state(self.name) == "CANCELED"

    def read(self, topic: str) -> list[dict]:
        """Every committed message."""
        return [msgspec.json.decode(value) for value in messages(self.topics.bootstrap, topic)]

    def await_windows(self, last_end: int) -> None:
        """Wait for a window that ends at this minute."""
        end = f"{oracle.moment(last_end):%Y-%m-%dT%H:%M:%SZ}"
        wait_until(
            lambda: any(row["window_end"] == end for row in self.read(self.topics.windows)),
            f"windows until {end}",
        )


@dataclass
class Outcome:
    """The clicks sent in the scenario, and the output of the job."""

    sent: list[Sent]
    late: dict[str, int]
    windows: list[dict]
    late_rows: list[dict]
    last_end: int
    late_metric: int | None
    switched_at: int


def message(click: Sent) -> bytes:
    """A click as validate_clicks writes it."""
    return msgspec.json.encode(
        {
            "timestamp": f"{click.at:%Y-%m-%dT%H:%M:%S.%fZ}",
            "user_id_hash": click.user,
            "ad_id": "ad_1",
            "campaign_id": click.campaign,
            "geo": click.geo,
            "platform": click.platform,
            "user_agent": "test",
            "CPC": click.cpc,
            "CTR": click.ctr,
            "conversion": 0,
            "bounce_rate": click.bounce_rate,
            "event_id": click.event_id,
        }
    )


def messages(bootstrap: str, topic: str) -> Iterator[bytes]:
    options = {
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
    }
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test_windows", **options})
    try:
        for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
            consumer.assign([TopicPartition(topic, partition, 0)])
            while (found := consumer.poll(10)) is not None and (
                found.error() or 0
            ) != KafkaError._PARTITION_EOF:
                if found.error() is None:
                    yield found.value()
                elif found.error().code() == KafkaError._PARTITION_EOF:
                    break
    finally:
        consumer.close()


def wait_until(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:.0f} s in vain until: {what}"
        time.sleep(1)


def as_oracle(rows: Sequence[dict], **more: float) -> dict[oracle.Key, Window]:
    """Rows as windows of the oracle; `more` holds values for features that were not computed."""
    found = {}
    for row in rows:
        end = (
            row["window_end"]
            if isinstance(row["window_end"], datetime)
            else datetime.fromisoformat(row["window_end"])
        )
        values = {name: row.get(name, more.get(name)) for name in Window._fields}
        found[oracle.minute(end.replace(tzinfo=UTC)), row["geo"], row["platform"]] = Window(
            **values
        )
    return found


def whole(stage: Stage, windows: dict[oracle.Key, Window]) -> dict[oracle.Key, Window]:
    """Windows from the first full minute of clicks on; the stream omits earlier ones."""
    return {
        key: window
        for key, window in windows.items()
        if oracle.moment(key[0]) - SIZE >= stage.start
    }


def forget(windows: dict[oracle.Key, Window]) -> dict[oracle.Key, Window]:
    """Without the feature that not all of them have."""
    return {key: window._replace(cpc_avg=0) for key, window in windows.items()}


@pytest.fixture(scope="module")
def stage(tmp_path_factory) -> Iterator[Stage]:
    settings, name = load_settings(), f"test-windows-{uuid4().hex[:8]}"
    rng = random.Random(name)
    day = datetime(2004, 1, 1, tzinfo=UTC) + timedelta(days=rng.randrange(1000))
    stage = Stage(settings, connect(settings), name, day + timedelta(hours=22, minutes=50), rng)
    stage.backends.postgres.migrate()
    topics = stage.topics
    create_topics(
        topics.bootstrap, [Topic(topics.clicks, 3), Topic(topics.windows, 3), Topic(topics.late, 1)]
    )
    try:
        yield stage
    finally:
        if stage.process:
            stage.process.kill()
        flink = stage.backends.flink
        for job in flink.jobs(name):
            if job.alive:
                flink.cancel(job.id)
            flink.discard_checkpoints([job.id])
        admin = AdminClient({"bootstrap.servers": topics.bootstrap})
        for future in admin.delete_topics([topics.clicks, topics.windows, topics.late]).values():
            future.result()
        for file in (settings.adnomaly_home / "flink").glob(f"{name}.*"):
            file.unlink()


def kill(stage: Stage, server: str) -> None:
    """SIGKILL, on a stack of our own alone; elsewhere others work on it."""
    if stage.settings.port_offset:
        os.kill(stage.backends.supervisor.programs()[server].pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def outcome(stage, tmp_path_factory) -> Outcome:
    """The whole scenario, from 22:50 to 00:20: it crosses midnight."""
    # A first click just after a full minute: windows begin with the next one.
    stage.send([stage.click(stage.start - MINUTE + timedelta(microseconds=1))])
    stage.start_job()
    # Under load: a kill in the middle, and clicks dated ahead of the clock on both sides of it.
    first = stage.out_of_order(stage.clicks(0, 40))
    stage.send(first[:5000], seconds=15)
    stage.send(
        [stage.click(datetime.now(UTC) + timedelta(days=days)) for days in (1, 3650)], ahead=True
    )
    kill(stage, "taskmanager")
    stage.send(first[5000:], seconds=15)
    stage.await_windows(oracle.minute(stage.watermark))
    # Late: five windows missed, or some of them.
    old = [
        stage.click(stage.start + timedelta(seconds=stage.rng.uniform(300, 1500)))
        for _ in range(50)
    ]
    partly = [
        stage.click(stage.watermark - timedelta(seconds=stage.rng.uniform(-20, 300)))
        for _ in range(100)
    ]
    late = {click.event_id: oracle.missed(click.at, stage.watermark) for click in old + partly}
    stage.send(old + partly)
    stage.send(stage.out_of_order(stage.clicks(40, 10)))
    stage.await_windows(oracle.minute(stage.watermark))
    late_metric = stage.backends.flink.late_clicks(stage.name)
    # No traffic for longer than the idle timeout. The next clicks close complete windows from
    # before the pause.
    time.sleep(IDLE_SECONDS + 5)
    # The JobManager loses its jobs: the program resubmits ours from its newest checkpoint.
    second = stage.out_of_order(stage.clicks(50, 10))
    stage.send(second[:1200], seconds=5)
    kill(stage, "jobmanager")
    stage.send(second[1200:], seconds=5)
    stage.await_windows(oracle.minute(stage.watermark))
    # Restarted: goes on from its checkpoint.
    stage.stop_job()
    stage.send(stage.out_of_order(stage.clicks(60, 10)))
    stage.start_job()
    stage.await_windows(oracle.minute(stage.watermark))
    stage.stop_job()
    late_rows = stage.read(stage.topics.late)
    # An added feature: the old checkpoint does not fit. Late clicks are read and counted again.
    switched_at = oracle.minute(stage.watermark)
    flink = stage.backends.flink
    more = Flink(
        stage.settings.flink_url,
        flink_home=flink._home,
        checkpoints=flink.checkpoints,
        features=(*FEATURES, COST),
    )
    JobReconciler(
        more,
        stage.topics,
        stage.name,
        stage.settings.adnomaly_home / "flink" / f"{stage.name}.json",
    ).reconcile()
    stage.await_job()
    stage.send(stage.out_of_order(stage.clicks(70, 20)))
    last_end = oracle.minute(stage.watermark)
    stage.await_windows(last_end)
    windows = stage.read(stage.topics.windows)
    return Outcome(
        stage.sent,
        {i: n for i, n in late.items() if n},
        windows,
        late_rows,
        last_end,
        late_metric,
        switched_at,
    )


@pytest.fixture(scope="module")
def batch(stage, outcome) -> list[dict]:
    """The windows of the same clicks, from the lake; with the other feature."""
    source, hours = stage.name, {}
    for click in outcome.sent:
        hours.setdefault(click.at.replace(minute=0, second=0, microsecond=0), []).append(
            lake_row(click)
        )
    written = [
        stage.backends.lake.write_history(
            h, pa.Table.from_pylist(rows, schema=CLICK_SCHEMA), source
        )
        for h, rows in hours.items()
    ]
    flink, prefix, objects = stage.backends.flink, f"test_batch/{source}/", stage.backends.objects
    more = Flink(
        stage.settings.flink_url,
        flink_home=flink._home,
        checkpoints=flink.checkpoints,
        features=(*FEATURES, COST),
    )
    try:
        LakeBatch(more, stage.backends.lake, f"s3://{objects.bucket}/clicks").run(
            stage.start - MINUTE,
            oracle.moment(outcome.last_end),
            output=f"s3://{objects.bucket}/{prefix}",
            name=f"{source}-batch",
        )
        return [
            row
            for key in objects.etags(prefix)
            for row in pq.read_table(io.BytesIO(objects.get(key))).to_pylist()
        ]
    finally:
        with stage.backends.postgres.connection() as connection:
            connection.execute("DELETE FROM lake_objects WHERE topic_id = %s", (source,))
        for key in [*(item.object_key for item in written), *objects.etags(prefix)]:
            objects.delete(key)


def lake_row(click: Sent) -> dict:
    fixed = {
        "user_id_hash": click.user,
        "ad_id": "ad_1",
        "campaign_id": click.campaign,
        "user_agent": "test",
        "conversion": 0,
    }
    named = {
        "event_id": click.event_id,
        "timestamp": click.at,
        "geo": click.geo,
        "platform": click.platform,
    }
    return fixed | named | {"cpc": click.cpc, "ctr": click.ctr, "bounce_rate": click.bounce_rate}


def test_stream_is_the_oracle_but_for_late_clicks(stage, outcome):
    expected = whole(
        stage, oracle.closed_before(oracle.without(outcome.sent, outcome.late), outcome.last_end)
    )
    assert len(expected) > 500
    assert oracle.differences(forget(as_oracle(outcome.windows, cpc_avg=0)), forget(expected)) == []


def test_no_window_comes_twice(outcome):
    times = Counter((row["window_end"], row["geo"], row["platform"]) for row in outcome.windows)
    assert {key: n for key, n in times.items() if n > 1} == {}


def test_every_late_click_is_counted_with_the_windows_it_missed(outcome):
    assert set(outcome.late.values()) == {1, 2, 3, 4, 5}
    assert {row["event_id"]: row["missed_windows"] for row in outcome.late_rows} == outcome.late
    assert len(outcome.late_rows) == len(outcome.late)
    assert outcome.late_metric == len(outcome.late)


def test_batch_is_the_oracle(outcome, batch):
    expected = oracle.closed_before(oracle.windows(outcome.sent), outcome.last_end)
    assert oracle.differences(as_oracle(batch), expected) == []
    assert len(batch) == len(expected)


def test_stream_and_batch_differ_by_the_late_clicks(stage, outcome, batch):
    complete = sum(window.event_count for window in whole(stage, as_oracle(batch)).values())
    missing = complete - sum(row["event_count"] for row in outcome.windows)
    assert missing == sum(row["missed_windows"] for row in outcome.late_rows) > 0


def test_a_new_feature_comes_with_the_next_window(outcome):
    new = [row for row in outcome.windows if "cpc_avg" in row]
    assert {oracle.minute(datetime.fromisoformat(row["window_end"])) for row in new} == set(
        range(outcome.switched_at + 1, outcome.last_end + 1)
    )
    expected = oracle.closed_before(oracle.without(outcome.sent, outcome.late), outcome.last_end)
    expected = {key: window for key, window in expected.items() if key[0] > outcome.switched_at}
    assert oracle.differences(as_oracle(new), expected) == []


def test_no_program_of_the_job_is_left(stage, outcome):
    assert stage.process is None
    assert Path(stage.settings.adnomaly_home / "flink" / f"{stage.name}.json").exists()
