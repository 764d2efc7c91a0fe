"""Sources and sinks of the Flink jobs, as SQL: Kafka topics, the lake, Parquet files."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from adnomaly.events import COLUMNS, MAX_FUTURE_SECONDS
from adnomaly.features import ENTITY, FLINK_TYPES, Feature
from adnomaly.windows import OUT_OF_ORDERNESS, SIZE, SLIDE

IDLE_SECONDS: Final = 60
"""An idle partition does not hold back the watermark after this time. Longer than any server
restart: otherwise, after a pause, the clicks of other partitions would close windows before the
backlog of this one is read.
"""

TRANSACTION_MS: Final = 600_000
"""Longer than any checkpoint or recovery; the broker allows at most 15 minutes."""

_MICROSECOND: Final = timedelta(microseconds=1)
_MOMENT: Final = (
    "TO_TIMESTAMP(REPLACE(SUBSTRING(`timestamp`, 1, 23), 'T', ' '), 'yyyy-MM-dd HH:mm:ss.SSS')"
)


class Topics(msgspec.Struct, frozen=True):
    """Source and sinks of the stream."""

    bootstrap: str
    clicks: str
    windows: str
    late: str


def click_topic(name: str, topics: Topics, since: datetime | None) -> str:
    """Source: valid clicks, with event time and watermark."""
    fields = [f"`{c.field}` {'STRING' if c.name == 'timestamp' else c.flink}" for c in COLUMNS]
    renamed = [f"`{c.name}` AS `{c.field}`" for c in COLUMNS if c.name != c.field]
    event_time = f"event_time AS COALESCE({_MOMENT}, TIMESTAMP '1970-01-01 00:00:00')"
    # NULL leaves the watermark unchanged: a click dated in the future cannot close windows.
    not_ahead = f"event_time <= CAST(CURRENT_TIMESTAMP AS TIMESTAMP(3)) + INTERVAL '{MAX_FUTURE_SECONDS}' SECOND"
    watermark = (
        f"CASE WHEN {not_ahead} THEN event_time - INTERVAL '{OUT_OF_ORDERNESS.seconds}' SECOND END"
    )
    options = {
        "connector": "kafka",
        "topic": topics.clicks,
        "properties.bootstrap.servers": topics.bootstrap,
        "properties.group.id": name,
        "properties.isolation.level": "read_committed",
        "scan.startup.mode": "earliest-offset",
        "scan.watermark.idle-timeout": f"{IDLE_SECONDS} s",
        "format": "json",
    }
    if since:
        # A click may be written up to a minute before its event time.
        written = since - timedelta(seconds=MAX_FUTURE_SECONDS)
        options |= {
            "scan.startup.mode": "timestamp",
            "scan.startup.timestamp-millis": str(int(written.timestamp() * 1000)),
        }
    return _table(
        "clicks",
        [*fields, *renamed, event_time, f"WATERMARK FOR event_time AS {watermark}"],
        options,
    )


def window_topic(name: str, topics: Topics, features: Sequence[Feature]) -> str:
    """Sink of the windows."""
    columns = [
        "k STRING",
        "window_start STRING",
        "window_end STRING",
        *_entity(),
        *_typed(features),
    ]
    return _table("windows", columns, _sink(name, topics.bootstrap, topics.windows, "windows"))


def late_topic(name: str, topics: Topics) -> str:
    """Sink of late clicks."""
    columns = [
        "k STRING",
        "event_id STRING",
        "`timestamp` STRING",
        *_entity(),
        "missed_windows INT",
    ]
    return _table("late", columns, _sink(name, topics.bootstrap, topics.late, "late"))


def _sink(name: str, bootstrap: str, topic: str, purpose: str) -> dict[str, str]:
    """A topic written exactly once: messages become visible with their checkpoint."""
    return {
        "connector": "kafka",
        "topic": topic,
        "properties.bootstrap.servers": bootstrap,
        "properties.transaction.timeout.ms": str(TRANSACTION_MS),
        "properties.compression.type": "lz4",
        "sink.delivery-guarantee": "exactly-once",
        "sink.transactional-id-prefix": f"{name}-{purpose}",
        # Reuses few ids; the other strategy leaves one at the broker per checkpoint.
        "sink.transaction-naming-strategy": "POOLING",
        "key.format": "raw",
        "key.fields": "k",
        "value.format": "json",
        "value.fields-include": "EXCEPT_KEY",
    }


def click_lake(lake: str) -> str:
    """Source: the clicks of the lake, by day and hour."""
    columns = [f"`{c.name}` {c.flink}" for c in COLUMNS]
    computed = [
        "dt STRING",
        "hr STRING",
        "event_time AS CAST(`timestamp` AS TIMESTAMP(3))",
        "WATERMARK FOR event_time AS event_time",
    ]
    options = {
        "connector": "filesystem",
        "path": lake,
        "format": "parquet",
        "parquet.utc-timezone": "true",
    }
    return _table("lake", [*columns, *computed], options, "PARTITIONED BY (dt, hr) ")


def clicks_between(name: str, first: datetime, end: datetime) -> str:
    """A view of the clicks with first <= event time < end that reads only the folders of their
    hours.
    """
    last = end - _MICROSECOND
    folders = (
        f"(dt > '{first:%Y-%m-%d}' OR (dt = '{first:%Y-%m-%d}' AND hr >= '{first:%H}')) "
        f"AND (dt < '{last:%Y-%m-%d}' OR (dt = '{last:%Y-%m-%d}' AND hr <= '{last:%H}'))"
    )
    return f"CREATE VIEW {name} AS SELECT * FROM lake WHERE {folders} AND event_time >= {literal(first)} AND event_time < {literal(end)}"


def window_files(name: str, output: str, features: Sequence[Feature]) -> str:
    """Sink of the windows as Parquet."""
    columns = [
        "window_start TIMESTAMP(6)",
        "window_end TIMESTAMP(6)",
        *_entity(),
        *_typed(features),
    ]
    # Microseconds: INT96 would be read as nanoseconds, which DuckDB (Feast) refuses.
    micros = {
        "parquet.write.int64.timestamp": "true",
        "parquet.timestamp.time.unit": "micros",
        "parquet.utc-timezone": "true",
    }
    return _table(
        name, columns, {"connector": "filesystem", "path": output, "format": "parquet", **micros}
    )


def closed_window(minutes: int) -> str:
    """SQL: whether the window that ends this many minutes after the start of the click's minute is
    closed.
    """
    return f"CURRENT_WATERMARK(event_time) >= FLOOR(event_time TO MINUTE) + INTERVAL '{minutes * 60 - 1}.999' SECOND(3)"


def missed_windows() -> str:
    """SQL: how many windows a late click missed."""
    return " + ".join(
        f"CASE WHEN {closed_window(n)} THEN 1 ELSE 0 END" for n in range(1, SIZE // SLIDE + 1)
    )


def _entity() -> list[str]:
    return [f"{name} STRING" for name in ENTITY]


def _typed(features: Sequence[Feature]) -> list[str]:
    return [f"{f.name} {FLINK_TYPES[f.dtype]}" for f in features]


def feature_names(features: Sequence[Feature]) -> str:
    """Columns of the features."""
    return ", ".join(f.name for f in features)


def _table(
    name: str, columns: Sequence[str], options: dict[str, str], partitioned: str = ""
) -> str:
    body = ",\n  ".join(columns)
    with_options = ",\n  ".join(f"'{key}' = '{value}'" for key, value in options.items())
    return f"CREATE TABLE {name} (\n  {body}\n) {partitioned}WITH (\n  {with_options}\n)"


def without_options(table: str) -> str:
    """The SQL of a table up to its options: name and columns."""
    return table.partition("WITH (\n")[0]


def literal(moment: datetime) -> str:
    """A timestamp in SQL, to the second."""
    return f"TIMESTAMP '{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}'"
