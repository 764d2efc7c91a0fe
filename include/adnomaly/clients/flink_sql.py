"""Flink SQL around the window SELECT: sources and sinks of the stream and of the batch.

A script is data: `streaming/window_program.py` runs it in Flink's client, and its fingerprint tells
whether a checkpoint fits.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final

import msgspec

from adnomaly.events import COLUMNS, MAX_FUTURE_SECONDS
from adnomaly.features import ENTITY, FEATURES, FLINK_TYPES, Feature
from adnomaly.windows import OUT_OF_ORDERNESS, SIZE, SLIDE, window_sql

IDLE_SECONDS: Final = 60
"""An idle partition does not hold back the watermark after this time. Longer than any server
restart: otherwise, after a pause, the clicks of other partitions would close windows before the
backlog of this one is read.
"""

TRANSACTION_MS: Final = 600_000
"""Longer than any checkpoint or recovery; the broker allows at most 15 minutes."""

_MICROSECOND: Final = timedelta(microseconds=1)
_TEXT: Final = "'yyyy-MM-dd''T''HH:mm:ss''Z'''"
_MOMENT: Final = (
    "TO_TIMESTAMP(REPLACE(SUBSTRING(`timestamp`, 1, 23), 'T', ' '), 'yyyy-MM-dd HH:mm:ss.SSS')"
)


class Script(msgspec.Struct, frozen=True):
    """One Flink job: tables and views in order, then its inserts."""

    name: str
    streaming: bool
    tables: list[str]
    inserts: list[str]

    @property
    def fingerprint(self) -> str:
        """Scripts with equal fingerprints can resume from each other's checkpoints."""
        return sha256(msgspec.json.encode(self)).hexdigest()


class Topics(msgspec.Struct, frozen=True):
    """Source and sinks of the stream."""

    bootstrap: str
    clicks: str
    windows: str
    late: str


def stream_script(
    name: str,
    topics: Topics,
    *,
    since: datetime | None = None,
    features: Sequence[Feature] = FEATURES,
) -> Script:
    """Windows of valid clicks into one topic; late clicks, with the number of windows they missed,
    into another.

    Args:
        name: of the job, and prefix of its Kafka transactions.
        since: read clicks written since then, and emit only windows that start at or after it,
            which are complete; None reads from the first click of the topic.
    """
    complete = f" WHERE window_start >= {_literal(since)}" if since else ""
    windows = (
        f"INSERT INTO windows SELECT geo || '|' || platform, DATE_FORMAT(window_start, {_TEXT}), DATE_FORMAT(window_end, {_TEXT}), "
        f"{', '.join(ENTITY)}, {_names(features)} FROM (\n{window_sql('clicks', features)}\n){complete}"
    )
    late = (
        f"INSERT INTO late SELECT geo || '|' || platform, event_id, `timestamp`, {', '.join(ENTITY)}, {_missed_windows()} FROM clicks "
        f"WHERE CURRENT_WATERMARK(event_time) IS NOT NULL AND {_closed(1)}"
    )
    tables = [
        _click_topic(name, topics, since),
        _window_topic(name, topics, features),
        _late_topic(name, topics),
    ]
    return Script(name, True, tables, [windows, late])


def batch_script(
    name: str,
    start: datetime,
    end: datetime,
    *,
    lake: str,
    outputs: Sequence[str],
    features: Sequence[Feature] = FEATURES,
) -> Script:
    """The windows with start < window_end <= end of the clicks below `lake`, as Parquet.

    The span is divided into one part per output, computed in parallel. Within a part clicks have
    the order of the lake, so the same objects give the same bits.
    """
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    minutes = (end - start) // SLIDE
    edges = [start + minutes * i // len(outputs) * SLIDE for i in range(len(outputs))] + [end]
    tables, inserts = [_click_lake(lake)], []
    for number, output in enumerate(outputs):
        begin, stop = edges[number], edges[number + 1]
        tables += [
            _clicks_between(f"clicks_{number}", begin - SIZE + SLIDE, stop),
            _window_files(f"windows_{number}", output, features),
        ]
        inserts.append(
            f"INSERT INTO windows_{number} SELECT CAST(window_start AS TIMESTAMP(6)), CAST(window_end AS TIMESTAMP(6)), "
            f"{', '.join(ENTITY)}, {_names(features)} FROM (\n{window_sql(f'clicks_{number}', features)}\n) "
            f"WHERE window_end > {_literal(begin)} AND window_end <= {_literal(stop)}"
        )
    return Script(name, False, tables, inserts)


def _click_topic(name: str, topics: Topics, since: datetime | None) -> str:
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


def _window_topic(name: str, topics: Topics, features: Sequence[Feature]) -> str:
    columns = [
        "k STRING",
        "window_start STRING",
        "window_end STRING",
        *_entity(),
        *_typed(features),
    ]
    return _table("windows", columns, _sink(name, topics.bootstrap, topics.windows, "windows"))


def _late_topic(name: str, topics: Topics) -> str:
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


def _click_lake(lake: str) -> str:
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


def _clicks_between(name: str, first: datetime, end: datetime) -> str:
    """A view of the clicks with first <= event time < end that reads only the folders of their
    hours.
    """
    last = end - _MICROSECOND
    folders = (
        f"(dt > '{first:%Y-%m-%d}' OR (dt = '{first:%Y-%m-%d}' AND hr >= '{first:%H}')) "
        f"AND (dt < '{last:%Y-%m-%d}' OR (dt = '{last:%Y-%m-%d}' AND hr <= '{last:%H}'))"
    )
    return f"CREATE VIEW {name} AS SELECT * FROM lake WHERE {folders} AND event_time >= {_literal(first)} AND event_time < {_literal(end)}"


def _window_files(name: str, output: str, features: Sequence[Feature]) -> str:
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


def _closed(minutes: int) -> str:
    """SQL: whether the window that ends this many minutes after the start of the click's minute is
    closed.
    """
    return f"CURRENT_WATERMARK(event_time) >= FLOOR(event_time TO MINUTE) + INTERVAL '{minutes * 60 - 1}.999' SECOND(3)"


def _missed_windows() -> str:
    return " + ".join(
        f"CASE WHEN {_closed(n)} THEN 1 ELSE 0 END" for n in range(1, SIZE // SLIDE + 1)
    )


def _entity() -> list[str]:
    return [f"{name} STRING" for name in ENTITY]


def _typed(features: Sequence[Feature]) -> list[str]:
    return [f"{f.name} {FLINK_TYPES[f.dtype]}" for f in features]


def _names(features: Sequence[Feature]) -> str:
    return ", ".join(f.name for f in features)


def _table(
    name: str, columns: Sequence[str], options: dict[str, str], partitioned: str = ""
) -> str:
    body = ",\n  ".join(columns)
    with_options = ",\n  ".join(f"'{key}' = '{value}'" for key, value in options.items())
    return f"CREATE TABLE {name} (\n  {body}\n) {partitioned}WITH (\n  {with_options}\n)"


def _literal(moment: datetime) -> str:
    return f"TIMESTAMP '{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}'"
