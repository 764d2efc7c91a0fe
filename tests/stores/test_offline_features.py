"""The feature store without servers: tables, the bytes of a day, feature definitions.

Code and command line share one configuration.
"""

import os
import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adnomaly.clients import feast as feast_adapter
from adnomaly.features import FEATURES, Feature
from adnomaly.stores.window_arrow import (
    as_windows,
    day_bytes,
    in_schema,
    same_windows,
    window_schema,
    window_table,
)
from adnomaly.windows import SIZE, TTL, TrafficWindow

REPO = Path(__file__).parents[2] / "include" / "feature_repo"
DAY = date(2026, 3, 1)
MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)
EXTRA = Feature("cpc_avg", "float64", "currency", 0, None, "AVG(cpc)")


def window(minute: int, geo: str = "DE", **features: float) -> TrafficWindow:
    end = MIDNIGHT + timedelta(minutes=minute)
    values = {"ctr_avg": 0.02, "bounce_rate_avg": 0.36, "event_count": 10} | features
    return TrafficWindow(
        window_start=end - SIZE, window_end=end, geo=geo, platform="web", features=values
    )


def test_windows_survive_the_table():
    windows = [window(1, ctr_avg=0.1 + 0.2), window(2, "US", event_count=2**40)]
    assert as_windows(window_table(windows)) == windows


def test_a_day_has_the_same_bytes_in_any_order():
    windows = [window(m, geo, ctr_avg=m / 1000) for m in range(1, 300) for geo in ("DE", "US")]
    shuffled = random.Random(1).sample(windows, len(windows))
    in_pieces = pa.concat_tables([window_table(shuffled[:7]), window_table(shuffled[7:])])
    assert day_bytes(DAY, window_table(windows)) == day_bytes(DAY, in_pieces)


def test_a_changed_value_changes_the_bytes():
    assert day_bytes(DAY, window_table([window(1)])) != day_bytes(
        DAY, window_table([window(1, event_count=11)])
    )


def test_the_order_of_a_sum_is_no_change_and_anything_else_is():
    def of(**features: float) -> bytes:
        return day_bytes(DAY, window_table([window(1), window(2, **features)]))

    assert of(ctr_avg=0.1 + 0.2) != of(ctr_avg=0.3)
    assert same_windows(of(ctr_avg=0.1 + 0.2), of(ctr_avg=0.3))
    assert not same_windows(of(ctr_avg=0.3), of(ctr_avg=0.3 + 1e-11))
    assert not same_windows(of(event_count=10), of(event_count=11))
    assert not same_windows(of(), day_bytes(DAY, window_table([window(1), window(3)])))
    assert not same_windows(of(), day_bytes(DAY, window_table([window(1)])))
    with_null = (*FEATURES, EXTRA)
    some, none = (
        day_bytes(DAY, window_table([window(1, **more)], with_null), with_null)
        for more in ({"cpc_avg": 1e-13}, {})
    )
    assert not same_windows(some, none)
    assert same_windows(none, none)


def test_a_file_has_microseconds_and_the_end_of_its_day(tmp_path):
    (tmp_path / "windows.parquet").write_bytes(
        day_bytes(DAY, window_table([window(1440), window(1)]))
    )
    table = pq.ParquetFile(tmp_path / "windows.parquet").read()
    assert table.schema.field("window_end").type == pa.timestamp("us", tz="UTC")
    assert table["window_end"].to_pylist() == [
        MIDNIGHT + timedelta(minutes=1),
        MIDNIGHT + timedelta(days=1),
    ]
    assert set(table["computed_at"].to_pylist()) == {MIDNIGHT + timedelta(days=1)}


@pytest.mark.parametrize("minute", [0, 1441, -5])
def test_a_window_of_another_day_is_refused(minute):
    with pytest.raises(ValueError, match="2026-03-01 end after"):
        day_bytes(DAY, window_table([window(1), window(minute)]))


def test_a_window_that_comes_twice_is_refused():
    with pytest.raises(ValueError, match="twice"):
        day_bytes(DAY, window_table([window(1), window(1, event_count=9)]))


def test_an_empty_day_has_the_schema(tmp_path):
    (tmp_path / "windows.parquet").write_bytes(day_bytes(DAY, window_table([])))
    assert (
        pq.ParquetFile(tmp_path / "windows.parquet").read().schema.names[:-1]
        == window_schema().names
    )


def test_flinks_columns_get_our_types():
    naive = pa.table(
        {
            "window_start": pa.array([MIDNIGHT.replace(tzinfo=None)], pa.timestamp("us")),
            "window_end": pa.array([MIDNIGHT.replace(tzinfo=None) + SIZE], pa.timestamp("ns")),
            "geo": ["DE"],
            "platform": ["web"],
            "ctr_avg": [0.5],
            "bounce_rate_avg": [0.25],
            "event_count": pa.array([3], pa.int32()),
        }
    )
    assert as_windows(in_schema(naive, window_schema())) == [
        window(5, ctr_avg=0.5, bounce_rate_avg=0.25, event_count=3)
    ]


def test_a_missing_contract_column_is_refused_and_a_missing_further_feature_is_null():
    table = window_table([window(1)])
    with pytest.raises(ValueError, match="'ctr_avg'"):
        in_schema(table.drop_columns(["ctr_avg"]), window_schema())
    assert in_schema(table, window_schema((*FEATURES, EXTRA)))["cpc_avg"].to_pylist() == [None]


def test_a_new_feature_reaches_table_file_and_view(tmp_path):
    features = (*FEATURES, EXTRA)
    windows = [window(1, cpc_avg=0.7)]
    (tmp_path / "windows.parquet").write_bytes(
        day_bytes(DAY, window_table(windows, features), features)
    )
    assert as_windows(pq.ParquetFile(tmp_path / "windows.parquet").read(), features) == windows
    view = feast_adapter.definitions(tmp_path, features).windows
    assert [f.name for f in view.features] == [f.name for f in features]


GROUPED = ("unique_user_ratio", "campaign_top_share")


def test_the_view_is_the_feature_list(tmp_path):
    d = feast_adapter.definitions(tmp_path)
    types = {f.name: str(f.dtype) for f in d.windows.features}
    assert types == {
        "ctr_avg": "Float64",
        "bounce_rate_avg": "Float64",
        "event_count": "Int64",
    } | dict.fromkeys(GROUPED, "Float64")
    assert d.windows.join_keys == ["geo", "platform"]
    assert (d.source.timestamp_field, d.source.created_timestamp_column) == (
        "window_end",
        "computed_at",
    )


def test_feast_reads_the_same_configuration_from_the_shell(tmp_path, monkeypatch):
    from feast.repo_config import load_repo_config

    values = feast_adapter.variables(
        "postgresql://u:p@localhost:5433/feast", "redis://localhost:6390", tmp_path
    )
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert os.environ["FEAST_REDIS"] == "localhost:6390"
    shell, code = (
        load_repo_config(REPO, REPO / "feature_store.yaml"),
        feast_adapter.repo_config(REPO, values),
    )
    assert code == shell
    assert code.registry.path == "postgresql+psycopg://u:p@localhost:5433/feast"
    assert code.registry.serve_features_while_materializing
    assert code.online_store.key_ttl_seconds == TTL.total_seconds()


@pytest.mark.parametrize(
    ("url", "connection"),
    [
        ("redis://localhost:6390", "localhost:6390"),
        ("redis://:s%40cret@redis:6379/2", "redis:6379,db=2,password=s@cret"),
        ("rediss://me:pw@h:1", "h:1,username=me,password=pw,ssl=true"),
    ],
)
def test_redis_addresses(url, connection, tmp_path):
    assert feast_adapter.variables("postgresql://x", url, tmp_path)["FEAST_REDIS"] == connection
