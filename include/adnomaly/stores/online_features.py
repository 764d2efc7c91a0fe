"""The newest window of each entity, online in Redis through Feast."""

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

from adnomaly.clients.feast import VIEW, definitions, open_store, variables
from adnomaly.errors import Unavailable
from adnomaly.features import FEATURES, Feature
from adnomaly.stores.window_arrow import TIME, window_table
from adnomaly.windows import SIZE, TrafficWindow

_LOCK = "adnomaly:online-features"
_LOCK_SECONDS = 30
"""A writer that was killed holds the others up for no longer."""


class OnlineFeatures:
    """The newest window of each entity, in Redis. Never goes back in time: an older window is ignored.

    Feast compares, then writes; so that no other writer (a backfill beside the stream) comes in between, they take turns.

    Every method raises `Unavailable` while Redis or the registry cannot be reached; then nothing or a part was written,
    and the same call may be repeated.
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
        """Put the definitions into the registry. Idempotent."""
        with _reachable():
            self._store.apply(list(definitions(self._mirror, self._features)))

    def write(self, windows: Sequence[TrafficWindow]) -> None:
        """Write the newest of these windows per entity, in one call; one already stored with the same window_end stays."""
        if windows:
            with _reachable(), self._turn():
                self._write([(w, w.window_end) for w in _newest(windows)])

    def correct(self, windows: Sequence[TrafficWindow]) -> list[TrafficWindow]:
        """Like `write`, but new values of a stored window replace it; returns the windows that did.

        Feast's Redis store ignores a row whose moment equals the stored one, so a correction is written with the stored
        moment plus one microsecond: above the window it corrects, below the next one.
        """
        newest = _newest(windows)
        if not newest:
            return []
        with _reachable(), self._turn():
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
        with _reachable(), self._turn():
            self._store.materialize(start, end, feature_views=[VIEW])

    def historical(self, rows: pa.Table) -> pa.Table:
        """Feast's own point-in-time join: the window of each (geo, platform, event_timestamp) as it was then.

        Slow on many rows of few entities; `OfflineFeatures.as_of` gives the same for training.
        """
        references = [f"{VIEW}:{f.name}" for f in self._features]
        with _reachable():
            frame = self._store.get_historical_features(
                entity_df=rows.to_pandas(), features=references
            ).to_df()
        return pa.Table.from_pandas(frame, preserve_index=False)

    def _turn(self) -> Lock:
        return self._redis.lock(
            _LOCK, timeout=_LOCK_SECONDS, blocking_timeout=2 * _LOCK_SECONDS, sleep=0.01
        )

    @cached_property
    def _store(self) -> FeatureStore:
        return open_store(self._repo, self._values)

    def _write(self, rows: Sequence[tuple[TrafficWindow, datetime]]) -> None:
        table = window_table([w for w, _ in rows], self._features).drop_columns(
            ["window_start", "window_end"]
        )
        moments = pa.array([moment for _, moment in rows], TIME)
        frame = (
            table.append_column("window_end", moments)
            .append_column("computed_at", moments)
            .to_pandas()
        )
        self._store.write_to_online_store(VIEW, df=frame)

    def _read(
        self, entities: Sequence[tuple[str, str]]
    ) -> list[tuple[TrafficWindow, datetime] | None]:
        """Each stored window with the moment it is stored under: window_end plus its corrections in microseconds."""
        if not entities:
            return []
        names = [f.name for f in self._features]
        asked = [{"geo": geo, "platform": platform} for geo, platform in entities]
        answer = self._store.get_online_features(
            features=[f"{VIEW}:{n}" for n in names], entity_rows=asked
        )
        values = answer.to_dict()
        vectors = dict(
            zip(answer.proto.metadata.feature_names.val, answer.proto.results, strict=True)
        )
        found = []
        for row, (geo, platform) in enumerate(entities):
            features = {n: values[n][row] for n in names if values[n][row] is not None}
            if not features:
                found.append(None)
                continue
            moment = max(vectors[n].event_timestamps[row].ToDatetime(UTC) for n in names)
            end = moment.replace(microsecond=0)
            found.append(
                (
                    TrafficWindow(
                        window_start=end - SIZE,
                        window_end=end,
                        geo=geo,
                        platform=platform,
                        features=features,
                    ),
                    moment,
                )
            )
        return found


def _newest(windows: Sequence[TrafficWindow]) -> list[TrafficWindow]:
    """The newest window of each entity; of equal ones the last."""
    newest: dict[str, TrafficWindow] = {}
    for window in windows:
        if window.key not in newest or window.window_end >= newest[window.key].window_end:
            newest[window.key] = window
    return list(newest.values())


@contextmanager
def _reachable() -> Iterator[None]:
    """Redis or the registry's PostgreSQL out of reach, under one name."""
    try:
        yield
    except (redis.RedisError, OperationalError, InterfaceError) as error:
        raise Unavailable(f"the feature store cannot be reached: {error}") from error
