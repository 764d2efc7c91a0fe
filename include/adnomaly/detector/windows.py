"""Read windows from files of unknown origin, strictly: errors name the column, row and fix."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from adnomaly.arrays import Bools, Floats, Ints
from adnomaly.detector.spec import END, START, Measure, Spec
from adnomaly.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

SEPARATOR: Final = "|"

log = logging.getLogger("adnomaly")


class Windows(NamedTuple):
    """Windows in the order of their file.

    Attributes:
        names: of the entities, their columns joined by `|`, sorted.
        entity: position of each window's entity in `names`, (n,).
        start_s, end_s: Unix seconds, (n,).
        values: the spec's features, (n, F); NaN where an optional one is missing.
    """

    names: tuple[str, ...]
    entity: Ints
    start_s: Ints
    end_s: Ints
    values: Floats

    def __len__(self) -> int:
        return len(self.entity)

    def take(self, index: Ints | Bools) -> "Windows":
        """The windows at these positions, or where this mask holds."""
        return Windows(
            self.names,
            self.entity[index],
            self.start_s[index],
            self.end_s[index],
            self.values[index],
        )


def read_table(
    file: Path, columns: "Sequence[str]", optional: "Sequence[str]" = ()
) -> tuple[pa.Table, list[str]]:
    """Columns of a Parquet or CSV file, and the names of the ignored ones.

    Raises:
        BadInput: it cannot be read, is empty, or lacks a column.
    """
    try:
        table = (
            pa.csv.read_csv(file)
            if file.name.endswith((".csv", ".csv.gz"))
            else pa.parquet.read_table(file)
        )
    except FileNotFoundError:
        raise BadInput(f"{file}: there is no such file") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        kind = "CSV" if ".csv" in file.name else "Parquet"
        raise BadInput(
            f"{file}: cannot be read as {kind}: {str(error).splitlines()[0][:200]}; "
            "give a .parquet or a .csv file"
        ) from None
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise BadInput(
            f"{file}: there is no column {missing[0]!r}; "
            f"it has {', '.join(table.column_names[:30])}. "
            "Rename one, or describe the columns in a SPEC.toml"
        )
    if not table.num_rows:
        raise BadInput(f"{file}: holds no rows")
    twice = [name for name in (*columns, *optional) if table.column_names.count(name) > 1]
    if twice:
        raise BadInput(f"{file}: has two columns {twice[0]!r}; keep one")
    known = [*columns, *(name for name in optional if name in table.column_names)]
    return table.select(known), [name for name in table.column_names if name not in known]


def read_windows(file: Path, spec: Spec) -> tuple[Windows, list[str]]:
    """The windows of a file, and the names of its unknown columns.

    Raises:
        BadInput: naming the column, the row (the first is 1) and the fix.
    """
    needed = [START, END, *spec.entity, *(m.name for m in spec.measures if m.required)]
    table, ignored = read_table(file, needed, [m.name for m in spec.measures if not m.required])
    start, end = (seconds(file, name, table[name]) for name in (START, END))
    _refuse(file, END, start >= end, "must be after window_start")
    names, entity = _entities(file, table, spec)
    values = np.column_stack([_measure(file, m, table) for m in spec.measures])
    windows = Windows(names, entity, start, end, values)
    _check_once(file, windows)
    return windows, ignored


def from_table(table: pa.Table, spec: Spec) -> Windows:
    """Windows of a table that Adnomaly wrote, unchecked."""
    names, entity = _entities(Path("table"), table, spec)
    start, end = (
        table[name].to_numpy().astype("datetime64[s]").astype(np.int64) for name in (START, END)
    )
    present = [
        table[n].to_numpy().astype(np.float64)
        if n in table.column_names
        else np.full(table.num_rows, np.nan)
        for n in spec.names
    ]
    return Windows(names, entity, start, end, np.column_stack(present))


def seconds(file: Path, name: str, column: pa.ChunkedArray) -> Ints:
    """Unix seconds of a column of timestamps (UTC without a zone) or ISO 8601 text.

    Raises:
        BadInput: a value is missing or not a timestamp.
    """
    try:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            texts = pc.replace_substring_regex(column, r"(Z|\+00:00)$", "")
            moments = pc.cast(texts, pa.timestamp("us"))
        elif pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
            moments = pc.cast(
                column, pa.timestamp("us", getattr(column.type, "tz", None)), safe=False
            )
        else:
            raise BadInput(
                f"{file}: column {name!r} holds {column.type}, not timestamps; "
                "write 2026-11-22T00:05:00Z or a timestamp in UTC"
            )
    except pa.ArrowInvalid as error:
        raise BadInput(
            f"{file}: column {name!r} holds an invalid timestamp: {str(error)[:160]}; "
            "write 2026-11-22T00:05:00Z"
        ) from None
    _refuse(file, name, pc.is_null(moments).to_numpy(), "is missing; give a timestamp in UTC")
    in_seconds = moments.cast(pa.timestamp("us")).to_numpy().astype("datetime64[s]")
    return np.asarray(in_seconds.astype(np.int64))


def _entities(file: Path, table: pa.Table, spec: Spec) -> tuple[tuple[str, ...], Ints]:
    """Sorted names of the entities, and the position of each row's entity."""
    for name in spec.entity:
        _refuse(
            file,
            name,
            pc.is_null(table[name]).to_numpy(),
            "is missing; every window belongs to an entity",
        )
    texts = [pc.cast(table[name], pa.string()) for name in spec.entity]
    joined = (
        (pc.binary_join_element_wise(*texts, SEPARATOR) if len(texts) > 1 else texts[0])
        .combine_chunks()
        .dictionary_encode()
    )
    names = joined.dictionary.to_pylist()
    order = np.argsort(names, kind="stable")
    position = np.empty(len(names), np.int64)
    position[order] = np.arange(len(names))
    return tuple(names[i] for i in order), position[joined.indices.to_numpy()]


def _measure(file: Path, measure: Measure, table: pa.Table) -> Floats:
    """The checked values of one feature, (n,); NaN without its column."""
    if measure.name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    column = table[measure.name]
    if not (
        pa.types.is_integer(column.type)
        or pa.types.is_floating(column.type)
        or pa.types.is_decimal(column.type)
    ):
        raise BadInput(
            f"{file}: column {measure.name!r} holds {column.type}, not numbers; "
            "write plain numbers without quotes or units"
        )
    values = np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)
    if measure.required:
        _refuse(
            file,
            measure.name,
            np.isnan(values),
            "is missing; leave out the row, a missing window is detected as missing",
            values,
        )
    _refuse(file, measure.name, np.isinf(values), "must be finite", values)
    if measure.kind != "level":
        _refuse(
            file,
            measure.name,
            values < 0,
            "must not be below 0; features with negative values are of kind level",
            values,
        )
    if measure.high is not None:
        _refuse(
            file, measure.name, values > measure.high, f"must be at most {measure.high:g}", values
        )
    return values


def _check_once(file: Path, windows: Windows) -> None:
    """Warn of repeated rows; refuse one window with different values."""
    order = np.lexsort((windows.end_s, windows.entity))
    same = (np.diff(windows.entity[order]) == 0) & (np.diff(windows.end_s[order]) == 0)
    before, after = order[:-1][same], order[1:][same]
    differ = ~np.isclose(
        windows.values[before], windows.values[after], rtol=0, atol=0, equal_nan=True
    ).all(axis=1)
    if differ.any():
        first, again = sorted((int(before[differ][0]), int(after[differ][0])))
        name = windows.names[windows.entity[again]]
        raise BadInput(
            f"{file}: column {END!r}, row {again + 1}: repeats the window of {name} "
            f"of row {first + 1} with other values; keep one of them"
        )
    if len(before):
        log.warning(
            "%s: %d rows are exact repeats, the first is row %d",
            file,
            len(before),
            int(after.min()) + 1,
        )


def _refuse(file: Path, column: str, bad: Bools, fix: str, values: Floats | None = None) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        value = "" if values is None else f" {values[row]:g}"
        more = f" (and {int(bad.sum()) - 1} more rows)" if bad.sum() > 1 else ""
        raise BadInput(f"{file}: column {column!r}, row {row + 1}:{value} {fix}{more}")
