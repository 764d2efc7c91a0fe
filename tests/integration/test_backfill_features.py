"""The backfill on real Flink and real lake objects, against windows computed in plain Python.

The clicks are of days long past and of a separate source, so a live stack is not affected.
"""

import hashlib
import random
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pyarrow as pa
import pytest
import redis

from adnomaly.arrow import CLICK_SCHEMA
from adnomaly.errors import JobFailed
from adnomaly.pipelines import backfill_features as pipeline
from adnomaly.stores.offline_features import OfflineFeatures
from adnomaly.stores.online_features import OnlineFeatures
from adnomaly.windows import SIZE, TrafficWindow
from window_oracle import windows_of

# Alone, because `maintain_stores` of test_dags.py deletes clicks as old as these.
pytestmark = [pytest.mark.integration, pytest.mark.kills]

REPO = Path(__file__).parents[2] / "include" / "feature_repo"
DAY = date(2003, 3, 3)
MIDNIGHT = datetime(2003, 3, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)
# Across midnight, and with hours without any click between.
HOURS = [MIDNIGHT + n * HOUR for n in (0, 1, 22, 23, 24, 30)]
REDIS_DB = 15


def clicks_of(hour: datetime, rng: random.Random, count: int = 3000) -> list[dict]:
    """Clicks of one hour in random order; the first and the last instant of the hour among them."""
    micros = [0, 3_600_000_000 - 1, *(rng.randrange(3_600_000_000) for _ in range(count - 2))]
    return [
        {
            "event_id": str(uuid4()),
            "timestamp": hour + timedelta(microseconds=m),
            "user_id_hash": f"{rng.randrange(500):016x}",
            "ad_id": "ad_1",
            "campaign_id": f"camp_{rng.randrange(9)}",
            "geo": rng.choice(["DE", "US"]),
            "platform": rng.choice(["web", "ios"]),
            "user_agent": "test",
            "cpc": rng.random(),
            "ctr": rng.random() / 10,
            "conversion": 0,
            "bounce_rate": rng.random(),
        }
        for m in micros
    ]


def oracle(clicks: list[dict], start: datetime, end: datetime) -> list[TrafficWindow]:
    """Every window with start < window_end <= end, by hand."""
    cells = defaultdict(list)
    for click in clicks:
        for span in windows_of(click["timestamp"]):
            cells[(span[1], click["geo"], click["platform"])].append(click)
    windows = []
    for (window_end, geo, platform), inside in sorted(cells.items()):
        if start < window_end <= end:
            count = len(inside)
            values = {
                "ctr_avg": sum(c["ctr"] for c in inside) / count,
                "bounce_rate_avg": sum(c["bounce_rate"] for c in inside) / count,
            }
            values["event_count"] = count
            values["unique_user_ratio"] = len({c["user_id_hash"] for c in inside}) / count
            values["campaign_top_share"] = (
                max(Counter(c["campaign_id"] for c in inside).values()) / count
            )
            windows.append(
                TrafficWindow(
                    window_start=window_end - SIZE,
                    window_end=window_end,
                    geo=geo,
                    platform=platform,
                    features=values,
                )
            )
    return windows


@pytest.fixture(scope="module")
def clicks(backends):
    rng, source = random.Random(7), f"test-{uuid4().hex[:8]}"
    by_hour = {hour: clicks_of(hour, rng) for hour in HOURS}
    written = [
        backends.lake.write_history(hour, pa.Table.from_pylist(rows, schema=CLICK_SCHEMA), source)
        for hour, rows in by_hour.items()
    ]
    yield [click for rows in by_hour.values() for click in rows]
    with backends.postgres.connection() as connection:
        connection.execute("DELETE FROM lake_objects WHERE topic_id = %s", (source,))
    for item in written:
        backends.objects.delete(item.object_key)


@pytest.fixture
def offline(backends, tmp_path):
    prefix = f"test_features/{uuid4().hex}/"
    yield OfflineFeatures(backends.objects, tmp_path / "features", prefix=prefix)
    for key in backends.objects.etags(prefix):
        backends.objects.delete(key)


@pytest.fixture
def online(settings, offline):
    schema, url = f"test_{uuid4().hex[:8]}", settings.postgres_url("feast")
    redis_url = f"{settings.redis_url}/{REDIS_DB}"
    with (
        psycopg.connect(url, autocommit=True) as connection,
        redis.Redis.from_url(redis_url) as client,
    ):
        connection.execute(f"CREATE SCHEMA {schema}")
        client.flushdb()
        yield OnlineFeatures(
            REPO,
            registry_url=f"{url}?options=-csearch_path%3D{schema}",
            redis_url=redis_url,
            mirror=offline.mirror,
        )
        client.flushdb()
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


def assert_same(found: list[TrafficWindow], expected: list[TrafficWindow]) -> None:
    """The same windows, counts equal, averages to 1e-9."""
    assert [(w.window_end, w.key, w.features["event_count"]) for w in found] == [
        (w.window_end, w.key, w.features["event_count"]) for w in expected
    ]
    for one, other in zip(found, expected, strict=True):
        assert one.features == pytest.approx(other.features, abs=1e-9)


def test_flinks_batch_is_the_oracle_and_a_rewritten_day_has_the_same_bytes(
    backends, clicks, offline, online
):
    span = pipeline.span_of(
        DAY, DAY + timedelta(days=1), now=datetime.now(UTC), until=MIDNIGHT + 31 * HOUR
    )
    first = pipeline.run(backends.lake_batch, offline, online, span)
    assert list(first) == ["2003-03-03", "2003-03-04"]
    expected = oracle(clicks, span.start, span.end)
    assert_same(offline.windows(span.start, span.end), expected)
    assert offline.newest(span.start, span.end)[0].window_end == span.end
    entities = [("DE", "ios"), ("DE", "web"), ("US", "ios"), ("US", "web")]
    assert online.read(entities) == [
        w
        for key in entities
        for w in offline.newest(span.start, span.end)
        if (w.geo, w.platform) == key
    ]
    files = {
        path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in offline.mirror.glob("*/*.parquet")
    }
    assert files == {f"dt={day}": sha256 for day, sha256 in first.items()}
    # Once more, one day alone this time, after a run that was killed and left half a file.
    alone = pipeline.span_of(DAY, DAY, now=datetime.now(UTC))
    backends.objects.put(f"{alone.prefix}part-killed", b"half a file")
    assert pipeline.run(backends.lake_batch, offline, online, alone) == {
        "2003-03-03": first["2003-03-03"]
    }
    assert_same(offline.windows(span.start, span.end), expected)
    assert backends.objects.etags(span.prefix) == backends.objects.etags(alone.prefix) == {}


def test_an_object_that_cannot_be_read_fails_the_job_and_the_next_one_reads_the_lake_again(
    backends, clicks, offline
):
    span = pipeline.span_of(DAY, DAY, now=datetime.now(UTC))
    [key] = [k for k in backends.objects.etags("clicks/dt=2003-03-03/") if "/hr=01/" in k]
    body = backends.objects.get(key)
    backends.objects.put(key, body[:-100])
    with pytest.raises(JobFailed, match="parquet"):
        pipeline.compute_windows(backends.lake_batch, offline, span)
    backends.objects.put(key, body)
    pipeline.compute_windows(backends.lake_batch, offline, span)
    assert offline.collect(span.prefix).num_rows == len(oracle(clicks, span.start, span.end))
    offline.discard(span.prefix)
