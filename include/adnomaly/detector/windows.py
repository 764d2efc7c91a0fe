"""Windows from a file that anybody may have written: read strictly, with an error that names column, row and fix."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from adnomaly.detector.spec import END, START, Measure, Spec
from adnomaly.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

TIME: Final = pa.timestamp("us", "UTC")
SEPARATOR: Final = "|"

log = logging.getLogger("adnomaly")


class Windows(NamedTuple):
    """Windows in the order of their file.

    Attributes:
        names: of each entity, its columns joined by `|`, sorted.
        entity: number of each window's entity, (n,) int64.
        start_s, end_s: Unix seconds, (n,) int64.
        values: the spec's features, (n, F) float64; NaN where an optional one is missing.
    """

    names: tuple[str, ...]
    entity: np.ndarray
    start_s: np.ndarray
    end_s: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.entity)

    def take(self, index: np.ndarray) -> "Windows":
        """The windows at these positions, or where this mask holds."""
        return Windows(self.names, *(column[index] for column in self[1:]))


def read_table(
    file: Path, columns: "Sequence[str]", optional: "Sequence[str]" = ()
) -> tuple[pa.Table, list[str]]:
    """Columns of a Parquet or CSV file, and the names of the others, which are ignored.

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
            f"{file}: cannot be read as {kind}: {str(error).splitlines()[0][:200]}; give a .parquet or a .csv file"
        ) from None
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise BadInput(
            f"{file}: there is no column {missing[0]!r}; it has {', '.join(table.column_names[:30])}. Rename one, or say so in a SPEC.toml"
        )
    if not table.num_rows:
        raise BadInput(f"{file}: holds no rows")
    twice = [name for name in (*columns, *optional) if table.column_names.count(name) > 1]
    if twice:
        raise BadInput(f"{file}: has two columns {twice[0]!r}; keep one")
    known = [*columns, *(name for name in optional if name in table.column_names)]
    return table.select(known), [name for name in table.column_names if name not in known]


def read_windows(file: Path, spec: Spec) -> tuple[Windows, list[str]]:
    """The windows of a file, and the names of the columns that nobody knows.

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
    """Windows of a table that our own code made."""
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


def seconds(file: Path, name: str, column: pa.ChunkedArray) -> np.ndarray:
    """Unix seconds of a column of moments: timestamps (UTC when they have no zone) or ISO 8601 text.

    Raises:
        BadInput: one is missing or no moment.
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
                f"{file}: column {name!r} holds {column.type}, not moments; write 2026-11-22T00:05:00Z or a timestamp in UTC"
            )
    except pa.ArrowInvalid as error:
        raise BadInput(
            f"{file}: column {name!r} holds what is no moment: {str(error)[:160]}; write 2026-11-22T00:05:00Z"
        ) from None
    _refuse(file, name, pc.is_null(moments).to_numpy(), "is missing; give a moment in UTC")
    return moments.cast(pa.timestamp("us")).to_numpy().astype("datetime64[s]").astype(np.int64)


def _entities(file: Path, table: pa.Table, spec: Spec) -> tuple[tuple[str, ...], np.ndarray]:
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
    place = np.empty(len(names), np.int64)
    place[order] = np.arange(len(names))
    return tuple(names[i] for i in order), place[joined.indices.to_numpy()]


def _measure(file: Path, measure: Measure, table: pa.Table) -> np.ndarray:
    if measure.name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    column = table[measure.name]
    if not (
        pa.types.is_integer(column.type)
        or pa.types.is_floating(column.type)
        or pa.types.is_decimal(column.type)
    ):
        raise BadInput(
            f"{file}: column {measure.name!r} holds {column.type}, not numbers; write plain numbers without quotes or units"
        )
    values = column.cast(pa.float64()).to_numpy()
    if measure.required:
        _refuse(
            file,
            measure.name,
            np.isnan(values),
            "is missing; leave out the whole row, a missing window is seen as missing",
            values,
        )
    _refuse(file, measure.name, np.isinf(values), "must be finite", values)
    if measure.kind != "level":
        _refuse(
            file,
            measure.name,
            values < 0,
            "must not be below 0; a value that may be negative is of kind level",
            values,
        )
    if measure.high is not None:
        _refuse(
            file, measure.name, values > measure.high, f"must be at most {measure.high:g}", values
        )
    return values


def _check_once(file: Path, windows: Windows) -> None:
    """A row may be there again, unchanged; one window with two values is refused."""
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
            f"{file}: column {END!r}, row {again + 1}: is the window of {name} that row {first + 1} has with other values; keep one of them"
        )
    if len(before):
        log.warning(
            "%s: %d rows come again unchanged, the first is row %d",
            file,
            len(before),
            int(after.min()) + 1,
        )


def _refuse(
    file: Path, column: str, bad: np.ndarray, fix: str, values: np.ndarray | None = None
) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        found = "" if values is None else f" {values[row]:g}"
        more = f" (and {int(bad.sum()) - 1} more rows)" if bad.sum() > 1 else ""
        raise BadInput(f"{file}: column {column!r}, row {row + 1}:{found} {fix}{more}")
