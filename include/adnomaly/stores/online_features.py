"""Online features: the newest window of each entity, in Redis through Feast."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import redis
from feast import FeatureStore
from redis.lock import Lock
from sqlalchemy.exc import InterfaceError, OperationalError

from adnomaly.arrow import TIME
from adnomaly.clients.feast import VIEW, definitions, open_store, variables
from adnomaly.errors import Unavailable
from adnomaly.features import FEATURES, Feature
from adnomaly.stores.window_arrow import window_table
from adnomaly.windows import SIZE, TrafficWindow

_LOCK = "adnomaly:online-features"
_LOCK_SECONDS = 30
"""A killed writer blocks the others no longer than this."""


class OnlineFeatures:
    """The newest window of each entity, in Redis. Older windows are ignored.

    Feast compares, then writes: a lock serializes writers, such as a backfill and the stream.

    Methods raise `Unavailable` without Redis or the registry; then a write may be partial, and
    can be retried.
    """

    def __init__(
        self,
        repo: Path,
        *,
        registry_url: str,
        redis_url: str,
        mirror: Path,
        features: Sequence[Feature] = FEATURES,
    ) -> None:
        self._repo, self._mirror, self._features = repo, mirror, features
        self._redis = redis.Redis.from_url(redis_url, socket_timeout=2, socket_connect_timeout=2)
        self._values = variables(registry_url, redis_url, mirror)

    def apply(self) -> None:
        """Write the definitions to the registry. Idempotent."""
        with _reachable():
            self._store.apply(list(definitions(self._mirror, self._features)))

    def write(self, windows: Sequence[TrafficWindow]) -> None:
        """Write the newest window of each entity; a stored one with the same window_end stays."""
        if windows:
            with _reachable(), self._lock():
                self._write([(w, w.window_end) for w in _newest(windows)])

    def correct(self, windows: Sequence[TrafficWindow]) -> list[TrafficWindow]:
        """Like `write`, but replace a stored window that has other values; returns the corrections.

        Feast's Redis store ignores a row with the stored time, so a correction is written one
        microsecond later: newer than the window it corrects, older than the next one.
        """
        newest = _newest(windows)
        if not newest:
            return []
        with _reachable(), self._lock():
            stored = self._read([(w.geo, w.platform) for w in newest])
            rows, corrected = [], []
            for window, old in zip(newest, stored, strict=True):
                if old is None or old[0].window_end != window.window_end:
                    rows.append((window, window.window_end))
                elif old[0].features != window.features:
                    rows.append((window, old[1] + timedelta(microseconds=1)))
                    corrected.append(window)
            if rows:
                self._write(rows)
        return corrected

    def read(self, entities: Sequence[tuple[str, str]]) -> list[TrafficWindow | None]:
        """The stored window of each (geo, platform); None without one."""
        with _reachable():
            return [stored and stored[0] for stored in self._read(entities)]

    def materialize(self, start: datetime, end: datetime) -> None:
        """Write the newest offline window of each entity with start <= window_end <= end.

        Newer stored windows stay.
        """
        with _reachable(), self._lock():
            self._store.materialize(start, end, feature_views=[VIEW])

    def historical(self, rows: pa.Table) -> pa.Table:
        """Feast's point-in-time join of each (geo, platform, event_timestamp) with its window.

        Slow for many rows of few entities; training uses `OfflineFeatures.as_of`.
        """
        references = [f"{VIEW}:{f.name}" for f in self._features]
        with _reachable():
            frame = self._store.get_historical_features(
                entity_df=rows.to_pandas(), features=references
            ).to_df()
        return pa.Table.from_pandas(frame, preserve_index=False)

    def _lock(self) -> Lock:
        lock: Lock = self._redis.lock(
            _LOCK, timeout=_LOCK_SECONDS, blocking_timeout=2 * _LOCK_SECONDS, sleep=0.01
        )
        return lock

    @cached_property
    def _store(self) -> FeatureStore:
        return open_store(self._repo, self._values)

    def _write(self, rows: Sequence[tuple[TrafficWindow, datetime]]) -> None:
        table = window_table([w for w, _ in rows], self._features).drop_columns(
            ["window_start", "window_end"]
        )
        times = pa.array([time for _, time in rows], TIME)
        frame = (
            table.append_column("window_end", times).append_column("computed_at", times).to_pandas()
        )
        self._store.write_to_online_store(VIEW, df=frame)

    def _read(
        self, entities: Sequence[tuple[str, str]]
    ) -> list[tuple[TrafficWindow, datetime] | None]:
        """Each stored window and its time: window_end plus a microsecond per correction."""
        if not entities:
            return []
        names = [f.name for f in self._features]
        rows = [{"geo": geo, "platform": platform} for geo, platform in entities]
        answer = self._store.get_online_features(
            features=[f"{VIEW}:{n}" for n in names], entity_rows=rows
        )
        values = answer.to_dict()
        vectors = dict(
            zip(answer.proto.metadata.feature_names.val, answer.proto.results, strict=True)
        )
        windows: list[tuple[TrafficWindow, datetime] | None] = []
        for row, (geo, platform) in enumerate(entities):
            features = {n: values[n][row] for n in names if values[n][row] is not None}
            if not features:
                windows.append(None)
                continue
            time = max(vectors[n].event_timestamps[row].ToDatetime(UTC) for n in names)
            end = time.replace(microsecond=0)
            window = TrafficWindow(
                window_start=end - SIZE,
                window_end=end,
                geo=geo,
                platform=platform,
                features=features,
            )
            windows.append((window, time))
        return windows


def _newest(windows: Sequence[TrafficWindow]) -> list[TrafficWindow]:
    """The newest window of each entity; the last of equal ones."""
    newest: dict[str, TrafficWindow] = {}
    for window in windows:
        if window.key not in newest or window.window_end >= newest[window.key].window_end:
            newest[window.key] = window
    return list(newest.values())


@contextmanager
def _reachable() -> Iterator[None]:
    """Raise `Unavailable` for errors of Redis and of the registry's PostgreSQL."""
    try:
        yield
    except (redis.RedisError, OperationalError, InterfaceError) as error:
        raise Unavailable(f"the feature store does not answer: {error}") from error
