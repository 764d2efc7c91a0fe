"""The Flink program: the one window SQL, as a stream over `clickstream.valid` or in batch over the lake.

Runs in Flink's client (`flink run -py`), submitted by `adnomaly.adapters.flink`. No Python runs per click.
"""

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from adnomaly.events import COLUMNS
from adnomaly.features import ENTITY, FEATURES, FLINK_TYPES, Feature
from adnomaly.windows import OUT_OF_ORDERNESS, SIZE, SLIDE, window_sql

IDLE_SECONDS = 10
TRANSACTION_MS = 600_000
MINUTE = timedelta(minutes=1)

_TIME = "'yyyy-MM-dd''T''HH:mm:ss''Z'''"
_EVENT_TIME = (
    "COALESCE(TO_TIMESTAMP(REPLACE(SUBSTRING(`timestamp`, 1, 23), 'T', ' '), 'yyyy-MM-dd HH:mm:ss.SSS'), TIMESTAMP '1970-01-01 00:00:00')"
)


def stream_statements(args: argparse.Namespace, features: Sequence[Feature] = FEATURES) -> tuple[list[str], list[str]]:
    """(tables, inserts) of the stream: windows into one topic, late clicks with the windows they missed into another."""
    since = f"WHERE window_start >= {_literal(args.since)}" if args.since else ""
    values = ", ".join(f.name for f in features)
    windows = (
        f"INSERT INTO windows SELECT geo || '|' || platform, DATE_FORMAT(window_start, {_TIME}), DATE_FORMAT(window_end, {_TIME}), "
        f"{', '.join(ENTITY)}, {values} FROM (\n{window_sql('clicks', features)}\n) {since}"
    )
    late = (
        f"INSERT INTO late SELECT geo || '|' || platform, event_id, `timestamp`, {', '.join(ENTITY)}, {_missed_windows()} FROM clicks "
        f"WHERE CURRENT_WATERMARK(event_time) IS NOT NULL AND {_closed(1)}"
    )
    return [_click_topic(args), _window_topic(args, features), _late_topic(args)], [windows, late]


def batch_statements(args: argparse.Namespace, features: Sequence[Feature] = FEATURES) -> tuple[list[str], list[str]]:
    """(tables, inserts) of the batch: the windows with from < window_end <= to, as Parquet below `output`."""
    first, last = args.begin - SIZE + SLIDE, args.end - timedelta(microseconds=1)
    spans = f"(dt > '{first:%Y-%m-%d}' OR (dt = '{first:%Y-%m-%d}' AND hr >= '{first:%H}')) AND dt <= '{last:%Y-%m-%d}'"
    span = (
        f"CREATE VIEW clicks AS SELECT * FROM lake WHERE {spans} AND event_time >= {_literal(first)} AND event_time < {_literal(args.end)}"
    )
    values = ", ".join(f.name for f in features)
    windows = (
        f"INSERT INTO windows SELECT CAST(window_start AS TIMESTAMP(6)), CAST(window_end AS TIMESTAMP(6)), {', '.join(ENTITY)}, {values} FROM (\n"
        f"{window_sql('clicks', features)}\n) WHERE window_end > {_literal(args.begin)} AND window_end <= {_literal(args.end)}"
    )
    return [_click_lake(args), span, _window_files(args, features)], [windows]


def _click_topic(args: argparse.Namespace) -> str:
    fields = [f"`{c.field}` {'STRING' if c.name == 'timestamp' else c.flink}" for c in COLUMNS]
    renamed = [f"`{c.name}` AS `{c.field}`" for c in COLUMNS if c.name != c.field]
    # A NULL leaves the watermark where it was: a click dated ahead of the clock cannot close windows.
    watermark = f"CASE WHEN event_time <= CAST(CURRENT_TIMESTAMP AS TIMESTAMP(3)) + INTERVAL '60' SECOND THEN event_time - {_seconds(OUT_OF_ORDERNESS)} END"
    columns = [*fields, *renamed, f"event_time AS {_EVENT_TIME}", f"WATERMARK FOR event_time AS {watermark}"]
    start = {"scan.startup.mode": "earliest-offset"}
    if args.since:
        # A click may be written up to a minute before its own date.
        start = {"scan.startup.mode": "timestamp", "scan.startup.timestamp-millis": str(int((args.since - MINUTE).timestamp() * 1000))}
    options = {
        "connector": "kafka",
        "topic": args.source,
        "properties.bootstrap.servers": args.bootstrap,
        "properties.group.id": args.name,
        "properties.isolation.level": "read_committed",
        "format": "json",
        **start,
    }
    return _table("clicks", columns, options)


def _window_topic(args: argparse.Namespace, features: Sequence[Feature]) -> str:
    values = [f"{f.name} {FLINK_TYPES[f.dtype]}" for f in features]
    columns = ["k STRING", "window_start STRING", "window_end STRING", *(f"{name} STRING" for name in ENTITY), *values]
    return _table("windows", columns, _sink_topic(args, args.sink, "windows"))


def _late_topic(args: argparse.Namespace) -> str:
    columns = ["k STRING", "event_id STRING", "`timestamp` STRING", *(f"{name} STRING" for name in ENTITY), "missed_windows INT"]
    return _table("late", columns, _sink_topic(args, args.late, "late"))


def _sink_topic(args: argparse.Namespace, topic: str, purpose: str) -> dict[str, str]:
    return {
        "connector": "kafka",
        "topic": topic,
        "properties.bootstrap.servers": args.bootstrap,
        "properties.transaction.timeout.ms": str(TRANSACTION_MS),
        "properties.compression.type": "lz4",
        "sink.delivery-guarantee": "exactly-once",
        "sink.transactional-id-prefix": f"{args.name}-{purpose}",
        "key.format": "raw",
        "key.fields": "k",
        "value.format": "json",
        "value.fields-include": "EXCEPT_KEY",
    }


def _click_lake(args: argparse.Namespace) -> str:
    columns = [f"`{c.name}` {c.flink}" for c in COLUMNS]
    computed = ["dt STRING", "hr STRING", "event_time AS CAST(`timestamp` AS TIMESTAMP(3))", "WATERMARK FOR event_time AS event_time"]
    options = {"connector": "filesystem", "path": args.input, "format": "parquet", "parquet.utc-timezone": "true"}
    return _table("lake", [*columns, *computed], options, "PARTITIONED BY (dt, hr) ")


def _window_files(args: argparse.Namespace, features: Sequence[Feature]) -> str:
    values = [f"{f.name} {FLINK_TYPES[f.dtype]}" for f in features]
    columns = ["window_start TIMESTAMP(6)", "window_end TIMESTAMP(6)", *(f"{name} STRING" for name in ENTITY), *values]
    # Microseconds: INT96 would be read as nanoseconds, which Feast's DuckDB refuses.
    micros = {"parquet.write.int64.timestamp": "true", "parquet.timestamp.time.unit": "micros", "parquet.utc-timezone": "true"}
    return _table("windows", columns, {"connector": "filesystem", "path": args.output, "format": "parquet", **micros})


def _closed(minutes: int) -> str:
    """Whether the window that ends this many minutes after the start of the click's minute is closed already."""
    return f"CURRENT_WATERMARK(event_time) >= FLOOR(event_time TO MINUTE) + INTERVAL '{minutes * 60 - 1}.999' SECOND(3)"


def _missed_windows() -> str:
    return " + ".join(f"CASE WHEN {_closed(n)} THEN 1 ELSE 0 END" for n in range(1, SIZE // SLIDE + 1))


def _table(name: str, columns: Sequence[str], options: dict[str, str], partitioned: str = "") -> str:
    body = ",\n  ".join(columns)
    with_options = ",\n  ".join(f"'{key}' = '{value}'" for key, value in options.items())
    return f"CREATE TABLE {name} (\n  {body}\n) {partitioned}WITH (\n  {with_options}\n)"


def _literal(moment: datetime) -> str:
    return f"TIMESTAMP '{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}'"


def _seconds(duration: timedelta) -> str:
    return f"INTERVAL '{int(duration.total_seconds())}' SECOND"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Windows of clicks, as a Flink job.")
    parser.add_argument("mode", choices=("stream", "batch"))
    parser.add_argument("--name", required=True, help="of the job; also prefix of its transactions")
    for option in ("--bootstrap", "--source", "--sink", "--late", "--input", "--output"):
        parser.add_argument(option)
    parser.add_argument("--since", type=_moment, help="stream: only windows that start at or after this moment")
    parser.add_argument("--from", dest="begin", type=_moment)
    parser.add_argument("--to", dest="end", type=_moment)
    return parser.parse_args(argv)


def main() -> None:
    from pyflink.table import EnvironmentSettings, TableEnvironment

    args = arguments()
    streaming = args.mode == "stream"
    environment = TableEnvironment.create(EnvironmentSettings.in_streaming_mode() if streaming else EnvironmentSettings.in_batch_mode())
    config = environment.get_config()
    config.set("pipeline.name", args.name)
    config.set("table.exec.source.idle-timeout", f"{IDLE_SECONDS} s")
    tables, inserts = (stream_statements if streaming else batch_statements)(args)
    for statement in tables:
        environment.execute_sql(statement)
    statements = environment.create_statement_set()
    for statement in inserts:
        statements.add_insert_sql(statement)
    result = statements.execute()
    if not streaming:
        result.wait()


if __name__ == "__main__":
    main()
