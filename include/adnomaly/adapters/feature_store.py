"""Features as Feast keeps them: the newest window of each entity online, all windows offline, one Parquet file a day."""

import hashlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast import FeatureStore
from redis.exceptions import RedisError
from sqlalchemy.exc import InterfaceError, OperationalError

from adnomaly.adapters.feast import TTL, VIEW, definitions, open_store, variables
from adnomaly.adapters.s3 import ObjectStore
from adnomaly.adapters.window_tables import TIME, as_windows, day_bytes, in_schema, window_schema, window_table
from adnomaly.errors import Unavailable
from adnomaly.features import ENTITY, FEATURES, Feature
from adnomaly.windows import SIZE, TrafficWindow, day_of

_PREFIX = "features/"
_FILE = "windows.parquet"

class OnlineFeatures:
    """The newest window of each entity, in Redis. Never goes back in time: an older window is ignored.

    Every method raises `Unavailable` while Redis or the registry cannot be reached; then nothing or a part was written,
    and the same call may be repeated.
    """

    def __init__(self, repo: Path, *, registry_url: str, redis_url: str, mirror: Path, features: Sequence[Feature] = FEATURES) -> None:
        self._repo, self._mirror, self._features = repo, mirror, features
        self._values = variables(registry_url, redis_url, mirror)

    def apply(self) -> None:
        """Put the definitions into the registry. Idempotent."""
        with _reachable():
            self._store.apply(list(definitions(self._mirror, self._features)))

    def write(self, windows: Sequence[TrafficWindow]) -> None:
        """Write the newest of these windows per entity, in one call; one already stored with the same window_end stays."""
        if windows:
            with _reachable():
                self._write([(w, w.window_end) for w in _newest(windows)])

    def correct(self, windows: Sequence[TrafficWindow]) -> list[TrafficWindow]:
        """Like `write`, but new values of a stored window replace it; returns the windows that did.

        Feast's Redis store ignores a row whose moment equals the stored one, so a correction is written with the stored
        moment plus one microsecond: above the window it corrects, below the next one.
        """
        newest = _newest(windows)
        if not newest:
            return []
        with _reachable():
            stored = self._read([(w.geo, w.platform) for w in newest])
            rows, corrected = [], []
            for window, found in zip(newest, stored, strict=True):
                old, moment = found or (None, None)
                if old is not None and old.window_end == window.window_end:
                    if old.features != window.features:
                        rows.append((window, moment + timedelta(microseconds=1)))
                        corrected.append(window)
                else:
                    rows.append((window, window.window_end))
            if rows:
                self._write(rows)
        return corrected

    def read(self, entities: Sequence[tuple[str, str]]) -> list[TrafficWindow | None]:
        """The stored window of each (geo, platform); None where there is none."""
        with _reachable():
            return [found and found[0] for found in self._read(entities)]

    def materialize(self, start: datetime, end: datetime) -> None:
        """Load the newest offline window of each entity with start <= window_end <= end, unless a newer one is stored."""
        with _reachable():
            self._store.materialize(start, end, feature_views=[VIEW])

    def historical(self, rows: pa.Table) -> pa.Table:
        """Feast's own point-in-time join: the window of each (geo, platform, event_timestamp) as it was then.

        Slow on many rows of few entities; `OfflineFeatures.as_of` gives the same for training.
        """
        references = [f"{VIEW}:{f.name}" for f in self._features]
        with _reachable():
            frame = self._store.get_historical_features(entity_df=rows.to_pandas(), features=references).to_df()
        return pa.Table.from_pandas(frame, preserve_index=False)

    @cached_property
    def _store(self) -> FeatureStore:
        return open_store(self._repo, self._values)

    def _write(self, rows: Sequence[tuple[TrafficWindow, datetime]]) -> None:
        table = window_table([w for w, _ in rows], self._features).drop_columns(["window_start", "window_end"])
        moments = pa.array([moment for _, moment in rows], TIME)
        frame = table.append_column("window_end", moments).append_column("computed_at", moments).to_pandas()
        self._store.write_to_online_store(VIEW, df=frame)

    def _read(self, entities: Sequence[tuple[str, str]]) -> list[tuple[TrafficWindow, datetime] | None]:
        """Each stored window with the moment it is stored under: window_end plus its corrections in microseconds."""
        if not entities:
            return []
        names = [f.name for f in self._features]
        asked = [{"geo": geo, "platform": platform} for geo, platform in entities]
        answer = self._store.get_online_features(features=[f"{VIEW}:{n}" for n in names], entity_rows=asked)
        values = answer.to_dict()
        vectors = dict(zip(answer.proto.metadata.feature_names.val, answer.proto.results, strict=True))
        found = []
        for row, (geo, platform) in enumerate(entities):
            features = {n: values[n][row] for n in names if values[n][row] is not None}
            if not features:
                found.append(None)
                continue
            moment = max(vectors[n].event_timestamps[row].ToDatetime(UTC) for n in names)
            end = moment.replace(microsecond=0)
            found.append((TrafficWindow(window_start=end - SIZE, window_end=end, geo=geo, platform=platform, features=features), moment))
        return found


class OfflineFeatures:
    """Every window, computed from the lake: `features/dt=YYYY-MM-DD/windows.parquet` in S3, and a local mirror of it.

    A day holds the windows that end after its midnight and not after the next one. S3 is the truth; Feast and training
    read the mirror.
    """

    def __init__(self, objects: ObjectStore, mirror: Path, features: Sequence[Feature] = FEATURES) -> None:
        self.mirror, self._objects, self._features = mirror, objects, features

    def write_day(self, day: date, windows: pa.Table) -> str:
        """Replace one day, in S3 and then in the mirror; returns the sha256 of the file.

        The same windows give the same bytes, in whatever order they come.

        Raises:
            ValueError: a window is of another day, or comes twice.
        """
        data = day_bytes(day, windows, self._features)
        self._objects.put(_key(day), data)
        self._replace(day, data)
        return hashlib.sha256(data).hexdigest()

    def sync(self) -> list[date]:
        """Make the mirror equal to S3; returns the days that had to be copied or removed."""
        there = {_day_of_key(key): tag for key, tag in self._objects.tags(_PREFIX).items() if key.endswith("/" + _FILE)}
        here = {day: hashlib.md5(self._path(day).read_bytes(), usedforsecurity=False).hexdigest() for day in self.days()}
        changed = sorted(day for day in there.keys() | here.keys() if there.get(day) != here.get(day))
        for day in changed:
            if day in there:
                self._replace(day, self._objects.get(_key(day)))
            else:
                self._path(day).unlink()
        return changed

    def days(self) -> list[date]:
        """The days in the mirror, oldest first."""
        return sorted(_day_of_key(path.relative_to(self.mirror).as_posix()) for path in self.mirror.glob(f"dt=*/{_FILE}"))

    def between(self, start: datetime, end: datetime) -> pa.Table:
        """The windows with start < window_end <= end, by window_end, geo, platform; an empty table when there are none."""
        first, last = day_of(start + timedelta(microseconds=1)), day_of(end)
        parts = [pq.ParquetFile(self._path(day)).read() for day in self.days() if first <= day <= last]
        if not parts:
            return window_schema(self._features).append(pa.field("computed_at", TIME)).empty_table()
        table = pa.concat_tables(parts, promote_options="default")
        ends = table["window_end"]
        inside = pc.and_(pc.greater(ends, pa.scalar(start, TIME)), pc.less_equal(ends, pa.scalar(end, TIME)))
        return table.filter(inside)

    def windows(self, start: datetime, end: datetime) -> list[TrafficWindow]:
        """The rows of `between`."""
        return as_windows(self.between(start, end), self._features)

    def newest(self, start: datetime, end: datetime) -> list[TrafficWindow]:
        """The newest window of each entity with start < window_end <= end."""
        table = self.between(start, end)
        last = pl.from_arrow(table).unique(list(ENTITY), keep="last", maintain_order=True)
        return as_windows(last.to_arrow(), self._features)

    def as_of(self, rows: pa.Table) -> pa.Table:
        """The newest window of each (geo, platform, event_timestamp) that had ended by then and is not older than the view's ttl.

        The same as Feast's point-in-time join (a test compares them), in a fraction of its time. Rows keep their order;
        features without such a window are null.
        """
        asked = pl.from_arrow(rows).with_row_index("_row")
        oldest, newest = asked["event_timestamp"].min(), asked["event_timestamp"].max()
        windows = pl.from_arrow(self.between(oldest - TTL - timedelta(microseconds=1), newest)).sort("window_end")
        joined = asked.sort("event_timestamp").join_asof(
            windows.drop("window_start", "computed_at"),
            left_on="event_timestamp",
            right_on="window_end",
            by=list(ENTITY),
            tolerance=TTL,
            check_sortedness=False,
        )
        return joined.sort("_row").drop("_row").to_arrow()

    def url(self, prefix: str) -> str:
        """Where a batch run writes below this prefix: `s3://bucket/prefix`."""
        return f"s3://{self._objects.bucket}/{prefix}"

    def collect(self, prefix: str) -> pa.Table:
        """The windows that a batch run left below this S3 prefix."""
        schema = window_schema(self._features)
        parts = [pq.read_table(io.BytesIO(self._objects.get(key))) for key in sorted(self._objects.tags(prefix))]
        return pa.concat_tables([in_schema(part, schema) for part in parts if part.num_rows] or [schema.empty_table()])

    def discard(self, prefix: str) -> None:
        """Delete what a batch run left below this S3 prefix."""
        for key in self._objects.tags(prefix):
            self._objects.delete(key)

    def _replace(self, day: date, data: bytes) -> None:
        """Replace a file in one step, so that a reader sees the old or the new day, never half of one."""
        path, part = self._path(day), self.mirror.parent / f".{day}.{os.getpid()}.part"
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)

    def _path(self, day: date) -> Path:
        return self.mirror / f"dt={day}" / _FILE


def _newest(windows: Sequence[TrafficWindow]) -> list[TrafficWindow]:
    """The newest window of each entity; of equal ones the last."""
    newest: dict[str, TrafficWindow] = {}
    for window in windows:
        if window.key not in newest or window.window_end >= newest[window.key].window_end:
            newest[window.key] = window
    return list(newest.values())


def _key(day: date) -> str:
    return f"{_PREFIX}dt={day}/{_FILE}"


def _day_of_key(key: str) -> date:
    return date.fromisoformat(re.search(r"dt=(\d{4}-\d{2}-\d{2})/", key)[1])


@contextmanager
def _reachable() -> Iterator[None]:
    """Redis or the registry's PostgreSQL out of reach, under one name."""
    try:
        yield
    except (RedisError, OperationalError, InterfaceError) as error:
        raise Unavailable(f"the feature store cannot be reached: {error}") from error
