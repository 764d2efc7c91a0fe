"""Traffic windows as Arrow tables and as the bytes of one day's Parquet file."""

import io
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adnomaly.features import ENTITY, FEATURES, Feature
from adnomaly.windows import TrafficWindow

KEY: Final = ("window_end", *ENTITY)
"""One row each; also the order of rows in a file."""

SUM_ORDER: Final = 1e-12
"""Flink adds up in the order in which readers deliver: the last bits of an average differ from run to run, by less than this."""

TIME: Final = pa.timestamp("us", tz="UTC")
"""Microseconds: DuckDB, which reads the files for Feast, refuses nanoseconds."""


def window_schema(features: Sequence[Feature] = FEATURES) -> pa.Schema:
    """Columns of offline windows, in order. Times are UTC, microseconds."""
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
    """Windows as columns, in the order given."""
    names = [f.name for f in features]
    fixed = ("window_start", "window_end", *ENTITY)
    rows = [
        {n: getattr(w, n) for n in fixed} | {n: w.features.get(n) for n in names} for w in windows
    ]
    return pa.Table.from_pylist(rows, schema=window_schema(features))


def as_windows(table: pa.Table, features: Sequence[Feature] = FEATURES) -> list[TrafficWindow]:
    """The rows of a window table, in their order; a feature without a value is left out."""
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
    """The columns of `schema`, in its types; times without a zone are UTC, absent features are null.

    Raises:
        ValueError: a column that every window has is missing.
    """
    columns = []
    for field in schema:
        if field.name in table.column_names:
            columns.append(table[field.name].cast(field.type))
        elif field.nullable and field.name not in ("window_start", "window_end", *ENTITY):
            columns.append(pa.nulls(table.num_rows, field.type))
        else:
            raise ValueError(
                f"windows lack the column {field.name!r}; they have {table.column_names}"
            )
    return pa.table(columns, schema=schema)


def day_bytes(day: date, windows: pa.Table, features: Sequence[Feature] = FEATURES) -> bytes:
    """The Parquet file of one day: rows in the order of KEY, `computed_at` the end of the day, fixed writer settings.

    Nothing here depends on the clock or on the order of the rows, so the same windows give the same bytes.

    Raises:
        ValueError: a window is of another day, or comes twice.
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
                f"windows of {day} end after {midnight} and not after {end}, got {span['min']} to {span['max']}"
            )
        if table.group_by(list(KEY)).aggregate([]).num_rows != table.num_rows:
            raise ValueError(f"a window of {day} comes twice")
    computed = pa.array([end] * table.num_rows, TIME)
    out = io.BytesIO()
    table = table.append_column("computed_at", computed)
    pq.write_table(
        table, out, compression="zstd", compression_level=3, version="2.6", row_group_size=1 << 20
    )
    return out.getvalue()


def same_windows(one: bytes, other: bytes) -> bool:
    """Whether two files of a day hold the same windows: times, entities and counts equal, averages but for SUM_ORDER."""
    first, second = (pq.ParquetFile(io.BytesIO(data)).read() for data in (one, other))
    if first.schema != second.schema or first.num_rows != second.num_rows:
        return False
    return all(_same_column(first[name], second[name]) for name in first.column_names)


def _same_column(one: pa.ChunkedArray, other: pa.ChunkedArray) -> bool:
    if not pa.types.is_floating(one.type) or one.equals(other):
        return one.equals(other)
    if not pc.is_null(one).equals(pc.is_null(other)):
        return False
    allowed = pc.multiply(SUM_ORDER, pc.max_element_wise(pc.abs(one), 1.0))
    return pc.all(pc.less_equal(pc.abs(pc.subtract(one, other)), allowed)).as_py() is not False
