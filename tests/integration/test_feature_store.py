"""Feast on real servers: registry in PostgreSQL, Redis online, Parquet in S3 and in the mirror.

Isolated from the stack's features by a separate registry schema, Redis database, table and S3
prefix.
"""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from adnomaly.errors import Unavailable
from adnomaly.features import FEATURES, Feature
from adnomaly.monitoring import feature_parity
from adnomaly.pipelines import backfill_features
from adnomaly.pipelines.train_detector import take_sample
from adnomaly.stores.offline_features import OfflineFeatures
from adnomaly.stores.online_features import OnlineFeatures
from adnomaly.stores.window_arrow import as_windows, window_table
from adnomaly.stores.windows import WindowStore
from adnomaly.windows import SIZE, SLIDE, TrafficWindow

pytestmark = pytest.mark.integration

REPO = Path(__file__).parents[2] / "include" / "feature_repo"
# The online store expires rows older than its key_ttl, so tests use the current minute.
NOW = datetime.now(UTC).replace(second=0, microsecond=0)
HOUR = timedelta(hours=1)
REDIS_DB = 13


def window(
    end: datetime, geo: str = "DE", count: int = 10, ctr: float = 0.02, **more: float
) -> TrafficWindow:
    features = {"ctr_avg": ctr, "bounce_rate_avg": 0.36, "event_count": count} | more
    return TrafficWindow(
        window_start=end - SIZE, window_end=end, geo=geo, platform="web", features=features
    )


@pytest.fixture(scope="module")
def registry_url(settings):
    url = settings.postgres_url("feast")
    schema = f"test_{uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        yield f"{url}?options=-csearch_path%3D{schema}"
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture
def redis_url(settings):
    url = f"{settings.redis_url}/{REDIS_DB}"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        yield url
        client.flushdb()


@pytest.fixture
def offline(backends, tmp_path):
    prefix = f"test_features/{uuid4().hex}/"
    yield OfflineFeatures(backends.objects, tmp_path / "features", prefix=prefix)
    for key in backends.objects.etags(prefix):
        backends.objects.delete(key)


@pytest.fixture
def online(registry_url, redis_url, offline):
    store = OnlineFeatures(
        REPO, registry_url=registry_url, redis_url=redis_url, mirror=offline.mirror
    )
    store.apply()
    return store


@pytest.fixture
def stream(backends):
    table = f"test_windows_{uuid4().hex[:8]}"
    with backends.postgres.connection() as connection:
        connection.execute(f"CREATE TABLE {table} (LIKE feature_aggregates INCLUDING ALL)")
    yield WindowStore(backends.postgres, table=table)
    with backends.postgres.connection() as connection:
        connection.execute(f"DROP TABLE {table}")


def test_a_written_window_is_read_back_and_an_unknown_entity_is_none(online):
    windows = [window(NOW, "DE", ctr=0.1 + 0.2), window(NOW, "US", count=2**40)]
    online.write(windows)
    assert online.read([("DE", "web"), ("US", "web"), ("XX", "web")]) == [*windows, None]


def test_only_the_newest_window_of_a_write_stays(online):
    online.write([window(NOW - SLIDE), window(NOW, count=7), window(NOW - 2 * SLIDE)])
    assert online.read([("DE", "web")]) == [window(NOW, count=7)]


def test_older_never_replaces_newer(online):
    online.write([window(NOW)])
    online.write([window(NOW - SLIDE, count=99)])
    assert online.correct([window(NOW - SLIDE, count=99)]) == []
    assert online.read([("DE", "web")]) == [window(NOW)]


def test_random_order_and_repeats_end_with_the_newest(online):
    order = random.Random(5).choices(range(20), k=60)
    for minute in order:
        online.write([window(NOW - minute * SLIDE, count=minute + 1)])
    assert online.read([("DE", "web")]) == [window(NOW - min(order) * SLIDE, count=min(order) + 1)]


def test_a_correction_overwrites_and_the_next_window_overwrites_it(online):
    online.write([window(NOW)])
    online.write([window(NOW, count=11)])
    assert online.read([("DE", "web")]) == [window(NOW)], "a plain write is no correction"
    for count in (11, 12, 9):
        assert online.correct([window(NOW, count=count)]) == [window(NOW, count=count)]
        assert online.read([("DE", "web")]) == [window(NOW, count=count)]
    assert online.correct([window(NOW, count=9)]) == []
    online.write([window(NOW + SLIDE)])
    assert online.read([("DE", "web")]) == [window(NOW + SLIDE)]


def test_two_writers_at_once_leave_the_newest(online, registry_url, redis_url, offline):
    """The newest window stays, whether the stream or the backfill writes last."""
    entities = [(f"{a}{b}", "web") for a in "ABCDE" for b in "ABCDEF"]
    other = OnlineFeatures(
        REPO, registry_url=registry_url, redis_url=redis_url, mirror=offline.mirror
    )
    together = threading.Barrier(2)

    def write(store: OnlineFeatures, minute: int) -> None:
        windows = [window(NOW + minute * SLIDE, geo) for geo, _ in entities]
        together.wait()
        store.write(windows)

    with ThreadPoolExecutor(2) as pool:
        for minute in range(0, 120, 2):
            for writing in [
                pool.submit(write, online, minute + 1),
                pool.submit(write, other, minute),
            ]:
                writing.result()
            assert online.read(entities) == [
                window(NOW + (minute + 1) * SLIDE, geo) for geo, _ in entities
            ]


def test_an_unreachable_redis_is_unavailable_and_recovers(registry_url, redis_url, offline):
    nowhere = OnlineFeatures(
        REPO, registry_url=registry_url, redis_url="redis://localhost:1", mirror=offline.mirror
    )
    nowhere.apply()
    with pytest.raises(Unavailable, match="feature store"):
        nowhere.write([window(NOW)])
    with pytest.raises(Unavailable, match="feature store"):
        nowhere.read([("DE", "web")])


def two_days(step: int = 1) -> list[TrafficWindow]:
    start = (NOW - timedelta(days=3)).replace(hour=0, minute=0)
    ends = [start + minute * SLIDE for minute in range(1, 2881, step)]
    return [
        window(end, geo, count=i + 1, ctr=(i % 97) / 1000)
        for i, end in enumerate(ends)
        for geo in ("DE", "US", "FR")
    ]


def by_day(windows):
    days = {}
    for w in windows:
        days.setdefault(backfill_features.day_of(w.window_end), []).append(w)
    return days


def test_writing_a_day_again_gives_the_same_bytes_in_s3_and_mirror(offline, backends):
    windows = two_days(step=3)
    (day, of_day), *_ = by_day(windows).items()
    first = offline.write_day(day, window_table(of_day))
    before = backends.objects.etags(offline.prefix)
    assert (
        offline.write_day(day, window_table(random.Random(3).sample(of_day, len(of_day)))) == first
    )
    assert backends.objects.etags(offline.prefix) == before
    assert offline.sync() == []


def test_reading_back_is_half_open_and_ordered(offline):
    windows = two_days()
    for day, of_day in by_day(windows).items():
        offline.write_day(day, window_table(of_day))
    start, end = windows[0].window_end, windows[-1].window_end - SLIDE
    expected = sorted(
        (w for w in windows if start < w.window_end <= end), key=lambda w: (w.window_end, w.geo)
    )
    assert offline.windows(start, end) == expected
    assert offline.windows(end + timedelta(days=9), end + timedelta(days=10)) == []


def test_the_mirror_follows_s3(offline, backends, tmp_path):
    for day, of_day in by_day(two_days(step=60)).items():
        offline.write_day(day, window_table(of_day))
    other = OfflineFeatures(
        backends.objects, tmp_path / "elsewhere" / "features", prefix=offline.prefix
    )
    assert other.sync() == offline.days()
    day = offline.days()[0]
    offline.write_day(day, window_table(by_day(two_days(step=90))[day]))
    assert other.sync() == [day]
    backends.objects.delete(offline._key(day))
    assert other.sync() == [day]
    assert other.days() == offline.days()[1:]
    assert not list((tmp_path / "elsewhere").glob("*.part"))


def test_online_equals_offline_after_materializing_and_correcting(online, offline, stream):
    windows = two_days(step=5)
    late = [w for w in windows if w.geo == "US"][-1]
    online.write([window(late.window_end, "US", count=1), window(NOW, "FR", count=3)])
    stream.save([window(NOW, "FR", count=3)], [NOW])
    for day, of_day in by_day(windows).items():
        offline.write_day(day, window_table(of_day))
    span = backfill_features.span_of(offline.days()[0], offline.days()[-1], now=NOW)
    assert backfill_features.load_online(offline, online, span) == 1
    assert online.read([("US", "web"), ("FR", "web")]) == [late, window(NOW, "FR", count=3)]
    checks = feature_parity.run(online, offline, stream, now=NOW)
    assert {c.entity: c.verdict for c in checks} == {
        "DE|web": "equals offline",
        "US|web": "equals offline",
        "FR|web": "equals the stream",
    }


def test_feasts_point_in_time_join_equals_ours(online, offline):
    for day, of_day in by_day(two_days(step=7)).items():
        offline.write_day(day, window_table(of_day))
    rng = random.Random(11)
    first = offline.windows(NOW - timedelta(days=5), NOW)[0].window_end
    # Before the first window, between windows, exactly at one, beyond the feature view's ttl, and
    # an unknown entity.
    moments = [
        first + timedelta(seconds=s)
        for s in (-1, 0, 1, 420, *(rng.randrange(-7200, 200_000) for _ in range(300)), 12 * 86_400)
    ]
    entities = [rng.choice(["DE", "US", "FR", "XX"]) for _ in moments]
    times = pa.array(moments, pa.timestamp("us", tz="UTC"))
    rows = pa.table({"geo": entities, "platform": ["web"] * len(moments), "event_timestamp": times})
    ours, feasts = offline.as_of(rows), online.historical(rows)
    assert ours.select(rows.column_names).to_pylist() == rows.to_pylist()
    assert answers(ours) == answers(feasts)
    counts = [dict(zip(ANSWER, a, strict=True))["event_count"] for a in answers(ours)]
    assert any(c is None for c in counts) and sum(c is not None for c in counts) > 150


ANSWER = ["event_timestamp", "geo", "platform", *(f.name for f in FEATURES)]


def answers(table: pa.Table) -> list[tuple]:
    """Rows in one order, for comparison. Feast returns integers as floats next to a null."""
    frame = table.to_pandas()
    frame = (
        frame.astype({f.name: "Float64" for f in FEATURES})
        .astype(object)
        .where(frame.notna(), None)
    )
    return sorted(frame[ANSWER].itertuples(index=False, name=None), key=lambda row: row[:3])


def test_a_new_feature_reaches_the_registry_both_stores_and_the_training_set(
    registry_url, redis_url, backends, tmp_path
):
    features = (*FEATURES, Feature("cpc_avg", "float64", "currency", 0, None, "AVG(cpc)"))
    offline = OfflineFeatures(
        backends.objects,
        tmp_path / "features",
        prefix=f"test_features/{uuid4().hex}/",
        features=features,
    )
    online = OnlineFeatures(
        REPO,
        registry_url=registry_url,
        redis_url=redis_url,
        mirror=offline.mirror,
        features=features,
    )
    online.apply()
    windows = [window(NOW, "DE", cpc_avg=0.7), window(NOW, "US")]
    online.write(windows)
    assert online.read([("DE", "web"), ("US", "web")]) == windows
    before = [window(NOW - HOUR, "DE", cpc_avg=0.6)]
    for day in {backfill_features.day_of(w.window_end) for w in before + windows}:
        offline.write_day(
            day,
            window_table(
                [w for w in before + windows if backfill_features.day_of(w.window_end) == day],
                features,
            ),
        )
    rows = pa.table(
        {
            "geo": ["DE"],
            "platform": ["web"],
            "event_timestamp": pa.array([NOW], pa.timestamp("us", tz="UTC")),
        }
    )
    assert (
        online.historical(rows)["cpc_avg"].to_pylist()
        == offline.as_of(rows)["cpc_avg"].to_pylist()
        == [0.7]
    )
    sample = take_sample(
        offline, tmp_path / "work", seed=1, budget_per_day=1.0, until=NOW, train_days=1 / 12
    )
    assert pq.read_table(f"{sample}/windows.parquet")["cpc_avg"].to_pylist() == [0.6, 0.7, None]
    offline.discard(offline.prefix)


def test_stored_windows_change_only_when_recomputed(stream):
    old, new = window(NOW, count=10), window(NOW, count=11)
    assert stream.save([old, window(NOW, "US")], [NOW, NOW]) == 2
    assert stream.corrected([old, new], [NOW + SLIDE] * 2) == [new]
    assert stream.save([old], [NOW + SLIDE]) == 0, "the same values again change nothing"
    assert stream.save([new], [NOW + SLIDE]) == 1
    assert (stream.corrected([old], [NOW]), stream.save([old], [NOW])) == ([], 0), (
        "a replay of the first values is no correction"
    )
    assert stream.windows(NOW - SLIDE, NOW) == [new, window(NOW, "US")]
    assert stream.span() == (NOW, NOW)


def test_a_batch_result_is_collected_and_discarded(offline, backends):
    import io

    import pyarrow.parquet as pq

    prefix = f"{offline.prefix}batch/"
    windows = [window(NOW - i * SLIDE, geo) for i in range(3) for geo in ("DE", "US")]
    for part in range(2):
        out = io.BytesIO()
        pq.write_table(window_table(windows[part::2]), out)
        backends.objects.put(f"{prefix}part-{part}.parquet", out.getvalue())
    assert sorted(as_windows(offline.collect(prefix)), key=windows.index) == windows
    offline.discard(prefix)
    assert offline.collect(prefix).num_rows == 0
