"""Traffic windows as Arrow tables and as the bytes of one day's Parquet file."""

import io
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adnomaly.arrow import TIME
from adnomaly.features import ENTITY, FEATURES, Feature
from adnomaly.windows import TrafficWindow

KEY: Final = ("window_end", *ENTITY)
"""Primary key of a window, and sort order of a file."""

SUM_ORDER: Final = 1e-12
"""Largest relative difference of averages between runs: Flink sums in order of delivery."""


def window_schema(features: Sequence[Feature] = FEATURES) -> pa.Schema:
    """Columns of offline windows, in order."""
    values = [
        pa.field(
            f.name, pa.int64() if f.dtype == "int64" else pa.float64(), nullable=not f.required
        )
        for f in features
    ]
    return pa.schema(
        [
            ("window_start", TIME),
            ("window_end", TIME),
            *((name, pa.string()) for name in ENTITY),
            *values,
        ]
    )


def window_table(
    windows: Sequence[TrafficWindow], features: Sequence[Feature] = FEATURES
) -> pa.Table:
    """Windows as an Arrow table, in the given order."""
    names = [f.name for f in features]
    fixed = ("window_start", "window_end", *ENTITY)
    rows = [
        {n: getattr(w, n) for n in fixed} | {n: w.features.get(n) for n in names} for w in windows
    ]
    return pa.Table.from_pylist(rows, schema=window_schema(features))


def as_windows(table: pa.Table, features: Sequence[Feature] = FEATURES) -> list[TrafficWindow]:
    """The rows of a window table, in order, without null features."""
    names = [f.name for f in features if f.name in table.column_names]
    return [
        TrafficWindow(
            window_start=row["window_start"],
            window_end=row["window_end"],
            geo=row["geo"],
            platform=row["platform"],
            features={n: row[n] for n in names if row[n] is not None},
        )
        for row in table.to_pylist()
    ]


def in_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Cast to a schema. Times without a zone are UTC, missing optional features are null.

    Raises:
        ValueError: a required column is missing.
    """
    columns = []
    for field in schema:
        if field.name in table.column_names:
            columns.append(table[field.name].cast(field.type))
        elif field.nullable and field.name not in ("window_start", "window_end", *ENTITY):
            columns.append(pa.nulls(table.num_rows, field.type))
        else:
            raise ValueError(
                f"windows have no column {field.name!r}, only {table.column_names};"
                " compute them again"
            )
    return pa.table(columns, schema=schema)


def day_bytes(day: date, windows: pa.Table, features: Sequence[Feature] = FEATURES) -> bytes:
    """The Parquet file of one day: sorted by KEY, `computed_at` is the end of the day.

    Independent of the clock and the order of rows, so equal windows give equal bytes.

    Raises:
        ValueError: a window is of another day or a duplicate.
    """
    midnight = datetime.combine(day, datetime.min.time(), UTC)
    end = midnight + timedelta(days=1)
    table = (
        in_schema(windows, window_schema(features))
        .sort_by([(name, "ascending") for name in KEY])
        .combine_chunks()
    )
    if table.num_rows:
        span = pc.min_max(table["window_end"]).as_py()
        if not (midnight < span["min"] and span["max"] <= end):
            raise ValueError(
                f"windows of {day} end after {midnight} and not after {end},"
                f" got {span['min']} to {span['max']}"
            )
        if table.group_by(list(KEY)).aggregate([]).num_rows != table.num_rows:
            raise ValueError(f"{day} has a window twice: same window_end, geo and platform")
    computed = pa.array([end] * table.num_rows, TIME)
    out = io.BytesIO()
    table = table.append_column("computed_at", computed)
    pq.write_table(
        table, out, compression="zstd", compression_level=3, version="2.6", row_group_size=1 << 20
    )
    return out.getvalue()


def same_windows(one: bytes, other: bytes) -> bool:
    """Whether two files of a day have equal windows; averages may differ by SUM_ORDER."""
    first, second = (pq.ParquetFile(io.BytesIO(data)).read() for data in (one, other))
    if first.schema != second.schema or first.num_rows != second.num_rows:
        return False
    return all(_same_column(first[name], second[name]) for name in first.column_names)


def _same_column(one: pa.ChunkedArray, other: pa.ChunkedArray) -> bool:
    equal = bool(one.equals(other))
    if not pa.types.is_floating(one.type) or equal:
        return equal
    if not pc.is_null(one).equals(pc.is_null(other)):
        return False
    allowed = pc.multiply(SUM_ORDER, pc.max_element_wise(pc.abs(one), 1.0))
    close = pc.less_equal(pc.abs(pc.subtract(one, other)), allowed)
    close_or_null: bool | None = pc.all(close).as_py()
    return close_or_null is not False
