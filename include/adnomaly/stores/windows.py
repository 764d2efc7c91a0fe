"""Windows of the stream: `feature_aggregates`, one row per geo, platform and window_end."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from psycopg import sql

from adnomaly.clients.postgres import one
from adnomaly.features import ENTITY, FEATURES, Feature
from adnomaly.windows import SIZE, TrafficWindow

if TYPE_CHECKING:
    from adnomaly.clients.postgres import Postgres

TABLE: Final = "feature_aggregates"
_KEY: Final = (*ENTITY, "window_end")

DISJOINT: Final = (
    f"date_bin('{SIZE // timedelta(minutes=1)} minutes', window_end, 'epoch') = window_end"
)
"""SQL condition: windows that end at multiples of their length. They do not overlap."""


class WindowStore:
    """The row with the newest `computed_at` wins, so saving a window again is idempotent."""

    def __init__(
        self, postgres: "Postgres", *, table: str = TABLE, features: Sequence[Feature] = FEATURES
    ) -> None:
        self._postgres, self._table, self._features = postgres, sql.Identifier(table), features
        self._names = ("window_start", "window_end", *ENTITY, *(f.name for f in features))

    def corrected(
        self, windows: Sequence[TrafficWindow], computed_at: Sequence[datetime]
    ) -> list[TrafficWindow]:
        """The windows that are stored with other values, computed earlier."""
        keys = [[getattr(w, name) for w in windows] for name in _KEY]
        query = self._sql(
            "SELECT {names}, computed_at FROM {table}"
            " JOIN unnest(%s::text[], %s::text[], %s::timestamptz[])"
            " AS asked (geo, platform, window_end) USING ({key})"
        )
        with self._postgres.connection() as connection:
            stored = {
                (w.key, w.window_end): (w, at)
                for w, at in map(self._window, connection.execute(query, keys))
            }
        changed = []
        for window, at in zip(windows, computed_at, strict=True):
            old, before = stored.get((window.key, window.window_end), (window, at))
            if old.features != window.features and before < at:
                changed.append(window)
        return changed

    def save(self, windows: Sequence[TrafficWindow], computed_at: Sequence[datetime]) -> int:
        """Insert windows, or replace those computed earlier with other values.

        One transaction; returns the number of rows changed.
        """
        newest = {
            (w.key, w.window_end): (w, at) for w, at in zip(windows, computed_at, strict=True)
        }
        values = [f.name for f in self._features]
        rows = [
            (w.window_start, w.window_end, w.geo, w.platform, *map(w.features.get, values), at)
            for w, at in newest.values()
        ]
        query = self._sql(
            "INSERT INTO {table} AS old ({names}, computed_at) VALUES ({values})"
            " ON CONFLICT ({key}) DO UPDATE SET {assign}"
            " WHERE old.computed_at < EXCLUDED.computed_at AND ({old}) IS DISTINCT FROM ({new})",
            values=sql.SQL(", ").join(sql.Placeholder() * (len(self._names) + 1)),
            assign=_list(f"{n} = EXCLUDED.{n}" for n in (*values, "window_start", "computed_at")),
            old=_list(f"old.{n}" for n in values),
            new=_list(f"EXCLUDED.{n}" for n in values),
        )
        with self._postgres.connection() as connection, connection.cursor() as cursor:
            cursor.executemany(query, rows)
            return cursor.rowcount

    def windows(self, start: datetime, end: datetime) -> list[TrafficWindow]:
        """The windows with start < window_end <= end, by window_end, geo, platform."""
        query = self._sql(
            "SELECT {names}, computed_at FROM {table} WHERE window_end > %s AND window_end <= %s"
            " ORDER BY window_end, geo, platform"
        )
        with self._postgres.connection() as connection:
            return [self._window(row)[0] for row in connection.execute(query, (start, end))]

    def span(self) -> tuple[datetime, datetime] | None:
        """window_end of the first and of the newest window; None without windows."""
        with self._postgres.connection() as connection:
            query = self._sql("SELECT min(window_end), max(window_end) FROM {table}")
            first, last = one(connection.execute(query))
        return None if first is None else (first, last)

    def _window(self, row: Sequence[Any]) -> tuple[TrafficWindow, datetime]:
        start, end, geo, platform, *values, computed_at = row
        features = {f.name: v for f, v in zip(self._features, values, strict=True) if v is not None}
        return TrafficWindow(
            window_start=start, window_end=end, geo=geo, platform=platform, features=features
        ), computed_at

    def _sql(self, text: str, **parts: sql.Composable) -> sql.Composed:
        return sql.SQL(text).format(
            table=self._table, names=_list(self._names), key=_list(_KEY), **parts
        )


def _list(names: Iterable[str]) -> sql.Composable:
    """Our own column names or expressions of them, never input."""
    return sql.SQL(", ".join(names))
