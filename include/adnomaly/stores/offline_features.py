"""Offline features: one Parquet file per day in S3, and the mirror for Feast and training."""

import hashlib
import io
import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adnomaly.arrow import TIME
from adnomaly.clients.s3 import ObjectStore
from adnomaly.features import ENTITY, FEATURES, Feature
from adnomaly.files import write_atomic
from adnomaly.stores.window_arrow import (
    as_windows,
    day_bytes,
    in_schema,
    same_windows,
    window_schema,
)
from adnomaly.windows import TTL, TrafficWindow, day_of

_FILE = "windows.parquet"


class OfflineFeatures:
    """Windows computed from the lake: `features/dt=YYYY-MM-DD/windows.parquet` in S3, mirrored.

    A day has the windows that end after its midnight and not after the next one. S3 is the source
    of truth; Feast and training read the mirror.
    """

    def __init__(
        self,
        objects: ObjectStore,
        mirror: Path,
        *,
        prefix: str = "features/",
        features: Sequence[Feature] = FEATURES,
    ) -> None:
        self.mirror, self._objects, self.prefix, self._features = mirror, objects, prefix, features

    def write_day(self, day: date, windows: pa.Table) -> str:
        """Replace one day, in S3 and then in the mirror; returns the sha256 of the file.

        Equal windows give equal bytes, in any order. A stored day is kept if its averages differ
        only by the order of summation.

        Raises:
            ValueError: a window is of another day or a duplicate.
        """
        data = day_bytes(day, windows, self._features)
        stored = self._stored(day)
        if stored is not None and same_windows(stored, data):
            data = stored
        else:
            self._objects.put(self._key(day), data)
        self._write_mirror(day, data)
        return hashlib.sha256(data).hexdigest()

    def sync(self) -> list[date]:
        """Make the mirror equal to S3; returns the copied and removed days."""
        stored = {
            _day_of_key(key): tag
            for key, tag in self._objects.etags(self.prefix).items()
            if key.endswith("/" + _FILE)
        }
        mirrored = {
            day: hashlib.md5(self._path(day).read_bytes(), usedforsecurity=False).hexdigest()
            for day in self.days()
        }
        changed = sorted(
            day for day in stored.keys() | mirrored.keys() if stored.get(day) != mirrored.get(day)
        )
        for day in changed:
            if day in stored:
                self._write_mirror(day, self._objects.get(self._key(day)))
            else:
                self._path(day).unlink()
        return changed

    def remove(self, day: date) -> None:
        """Delete one day, in S3 and in the mirror. Idempotent."""
        self._objects.delete(self._key(day))
        self._path(day).unlink(missing_ok=True)

    def days(self) -> list[date]:
        """The days in the mirror, oldest first."""
        return sorted(
            _day_of_key(path.relative_to(self.mirror).as_posix())
            for path in self.mirror.glob(f"dt=*/{_FILE}")
        )

    def between(self, start: datetime, end: datetime) -> pa.Table:
        """The windows with start < window_end <= end, by window_end, geo, platform."""
        first, last = day_of(start + timedelta(microseconds=1)), day_of(end)
        parts = [
            pq.ParquetFile(self._path(day)).read() for day in self.days() if first <= day <= last
        ]
        if not parts:
            return window_schema(self._features).append(pa.field("computed_at", TIME)).empty_table()
        table = pa.concat_tables(parts, promote_options="default")
        ends = table["window_end"]
        inside = pc.and_(
            pc.greater(ends, pa.scalar(start, TIME)), pc.less_equal(ends, pa.scalar(end, TIME))
        )
        return table.filter(inside)

    def windows(self, start: datetime, end: datetime) -> list[TrafficWindow]:
        """The rows of `between`."""
        return as_windows(self.between(start, end), self._features)

    def newest(self, start: datetime, end: datetime) -> list[TrafficWindow]:
        """The newest window of each entity with start < window_end <= end."""
        table = self.between(start, end)
        last = _frame(table).unique(list(ENTITY), keep="last", maintain_order=True)
        return as_windows(last.to_arrow(), self._features)

    def as_of(self, rows: pa.Table) -> pa.Table:
        """Join each (geo, platform, event_timestamp) with its newest window, not older than TTL.

        Equals Feast's point-in-time join (a test compares them) in a fraction of the time. Rows
        keep their order; features without a window are null.
        """
        wanted = _frame(rows).with_row_index("_row")
        span = pc.min_max(rows["event_timestamp"]).as_py()
        since = span["min"] - TTL - timedelta(microseconds=1)
        windows = _frame(self.between(since, span["max"])).sort("window_end")
        joined = wanted.sort("event_timestamp").join_asof(
            windows.drop("window_start", "computed_at"),
            left_on="event_timestamp",
            right_on="window_end",
            by=list(ENTITY),
            tolerance=TTL,
            check_sortedness=False,
        )
        return joined.sort("_row").drop("_row").to_arrow()

    def url(self, prefix: str) -> str:
        """`s3://bucket/prefix`, where a batch run writes."""
        return f"s3://{self._objects.bucket}/{prefix}"

    def collect(self, prefix: str) -> pa.Table:
        """The windows that a batch run wrote below an S3 prefix."""
        schema = window_schema(self._features)
        parts = [
            pq.read_table(io.BytesIO(self._objects.get(key)))
            for key in sorted(self._objects.etags(prefix))
        ]
        return pa.concat_tables(
            [in_schema(part, schema) for part in parts if part.num_rows] or [schema.empty_table()]
        )

    def discard(self, prefix: str) -> None:
        """Delete the output of a batch run below an S3 prefix."""
        for key in self._objects.etags(prefix):
            self._objects.delete(key)

    def _stored(self, day: date) -> bytes | None:
        try:
            return self._objects.get(self._key(day))
        except KeyError:
            return None

    def _write_mirror(self, day: date, data: bytes) -> None:
        write_atomic(self._path(day), data)

    def _key(self, day: date) -> str:
        return f"{self.prefix}dt={day}/{_FILE}"

    def _path(self, day: date) -> Path:
        return self.mirror / f"dt={day}" / _FILE


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _day_of_key(key: str) -> date:
    match = re.search(r"dt=(\d{4}-\d{2}-\d{2})/", key)
    if match is None:
        raise ValueError(f"{key!r} has no dt=YYYY-MM-DD/; delete the object")
    return date.fromisoformat(match[1])
