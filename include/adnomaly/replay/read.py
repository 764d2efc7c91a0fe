"""Rows of a click log, streamed: CSV, JSON lines or Parquet, plain or gzipped.

A malformed row is reported, not skipped.
"""

import gzip
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from adnomaly.errors import BadInput

ROWS: Final = 20_000
CHUNK: Final = 1 << 20


class LogLine(NamedTuple):
    """One row: its number in the file (from 1) and its values by column, or why it is malformed."""

    number: int
    values: dict[str, Any] | None
    error: str = ""


def digest(file: Path) -> bytes:
    """SHA-256 of the content: a renamed file is the same log.

    Raises:
        BadInput: it cannot be read.
    """
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").digest()
    except OSError as error:
        raise BadInput(f"{file}: {error.strerror}; give the path of a click log") from None


def lines(file: Path, columns: Sequence[str]) -> Iterator[LogLine]:
    """The rows of a file, limited to some columns.

    Raises:
        BadInput: the file cannot be read, or lacks a column.
    """
    name = file.name.removesuffix(".gz")
    try:
        if name.endswith((".csv", ".tsv")):
            yield from _csv(file, columns, "\t" if name.endswith(".tsv") else ",")
        elif name.endswith((".jsonl", ".ndjson", ".json")):
            yield from _json(file, columns)
        elif name.endswith(".parquet"):
            yield from _parquet(file, columns)
        else:
            raise BadInput(f"{file}: give a .csv, .tsv, .jsonl or .parquet file (.gz is fine)")
    except (pa.ArrowException, OSError, EOFError) as error:
        raise BadInput(f"{file}: cannot be read: {str(error).splitlines()[0][:200]}") from None


def _csv(file: Path, columns: Sequence[str], delimiter: str) -> Iterator[LogLine]:
    malformed: list[tuple[int, str]] = []

    def skip(row: pa.csv.InvalidRow) -> str:
        malformed.append(
            (row.number or 0, f"has {row.actual_columns} columns instead of {row.expected_columns}")
        )
        return "skip"

    with pa.input_stream(str(file), compression="detect") as stream:
        parse = pa.csv.ParseOptions(delimiter=delimiter, invalid_row_handler=skip)
        # Arrow numbers malformed rows only when it reads with one thread.
        read = pa.csv.ReadOptions(block_size=4 * CHUNK, use_threads=False)
        convert = pa.csv.ConvertOptions(
            check_utf8=False,
            column_types=dict.fromkeys(columns, pa.binary()),
            include_columns=list(columns),
        )
        try:
            reader = pa.csv.open_csv(
                stream, read_options=read, parse_options=parse, convert_options=convert
            )
        except KeyError as error:
            raise BadInput(
                f"{file}: there is no column {str(error).split(chr(39))[1]!r}; "
                f"{_header(file, delimiter)}"
            ) from None
        number = 0
        for batch in reader:
            values = [batch.column(name).to_pylist() for name in columns]
            for row in zip(*values, strict=True):
                number += 1
                try:
                    yield LogLine(
                        number,
                        {name: value.decode() for name, value in zip(columns, row, strict=True)},
                    )
                except UnicodeDecodeError:
                    yield LogLine(number, None, "is not UTF-8")
            yield from (LogLine(at, None, why) for at, why in malformed)
            malformed.clear()


def _header(file: Path, delimiter: str) -> str:
    opened = gzip.open if file.name.endswith(".gz") else Path.open
    with opened(file, "rt", encoding="utf-8-sig", errors="replace") as text:
        return "it has " + ", ".join(text.readline().strip().split(delimiter)[:40])


def _json(file: Path, columns: Sequence[str]) -> Iterator[LogLine]:
    decode = msgspec.json.Decoder().decode
    opened = gzip.open if file.name.endswith(".gz") else Path.open
    with opened(file, "rb") as text:
        for number, line in enumerate(text, 1):
            if not line.strip():
                continue
            try:
                row = decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                yield LogLine(number, None, "is not a JSON object")
                continue
            if isinstance(row, dict):
                yield LogLine(number, {name: row.get(name) for name in columns})
            else:
                yield LogLine(number, None, "is not a JSON object")


def _parquet(file: Path, columns: Sequence[str]) -> Iterator[LogLine]:
    opened = pa.parquet.ParquetFile(file)
    missing = [name for name in columns if name not in opened.schema_arrow.names]
    if missing:
        raise BadInput(
            f"{file}: there is no column {missing[0]!r}; "
            f"it has {', '.join(opened.schema_arrow.names[:40])}"
        )
    number = 0
    for batch in opened.iter_batches(ROWS, columns=list(columns)):
        for row in batch.to_pylist():
            number += 1
            yield LogLine(number, row)
