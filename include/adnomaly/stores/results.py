"""Scored windows: `anomaly_results`, one row per geo, platform, window_end and model version."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
from psycopg import sql
from psycopg.types.json import Jsonb

from adnomaly.alerts import ScoredWindow
from adnomaly.clients.postgres import one
from adnomaly.features import ENTITY, FEATURES
from adnomaly.windows import TrafficWindow

if TYPE_CHECKING:
    from adnomaly.clients.postgres import Postgres

TABLE: Final = "anomaly_results"
_WINDOW: Final = ("window_start", "window_end", *ENTITY, *(f.name for f in FEATURES))
_SCORE: Final = (
    "anomaly_score",
    "threshold",
    "is_anomaly",
    "model_version",
    "alert_id",
    "incident_id",
    "explanation",
)


class ResultStore:
    """Saving a window of the same model again is idempotent."""

    def __init__(self, postgres: "Postgres", *, table: str = TABLE) -> None:
        self._postgres, self._table = postgres, sql.Identifier(table)
        self._columns = sql.SQL(", ").join(map(sql.Identifier, _WINDOW))
        names = (*_WINDOW, *_SCORE)
        self._insert = sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING").format(
            self._table,
            sql.SQL(", ").join(map(sql.Identifier, names)),
            sql.SQL(", ").join(sql.Placeholder() * len(names)),
        )

    def save(self, results: Sequence[ScoredWindow]) -> int:
        """Insert what is not there yet, in one transaction; returns how many rows are new."""
        with self._postgres.connection() as connection, connection.cursor() as cursor:
            cursor.executemany(self._insert, [_row(result) for result in results])
            return cursor.rowcount

    def windows(self, start: datetime, end: datetime) -> list[TrafficWindow]:
        """Windows with start < window_end <= end, scored by any model, each once, by window_end."""
        query = sql.SQL(
            "SELECT DISTINCT {} FROM {} WHERE window_end > %s AND window_end <= %s"
            " ORDER BY window_end"
        ).format(self._columns, self._table)
        with self._postgres.connection() as connection:
            return [_window(row) for row in connection.execute(query, (start, end))]

    def newest(self) -> datetime | None:
        """window_end of the newest scored window; None without one."""
        with self._postgres.connection() as connection:
            query = sql.SQL("SELECT max(window_end) FROM {}").format(self._table)
            newest: datetime | None = one(connection.execute(query))[0]
            return newest

    def last_incidents(
        self, start: datetime, end: datetime, model_version: str
    ) -> list[tuple[str, str, datetime, str]]:
        """The last anomalous window of each entity with start < window_end <= end.

        Returns:
            geo, platform, window_end and incident of each.
        """
        query = sql.SQL(
            "SELECT DISTINCT ON (geo, platform) geo, platform, window_end, incident_id FROM {}"
            " WHERE incident_id IS NOT NULL AND model_version = %s"
            " AND window_end > %s AND window_end <= %s"
            " ORDER BY geo, platform, window_end DESC"
        ).format(self._table)
        with self._postgres.connection() as connection:
            return connection.execute(query, (model_version, start, end)).fetchall()


def _window(row: Sequence[Any]) -> TrafficWindow:
    start, end, geo, platform, *values = row
    features = {
        f.name: value for f, value in zip(FEATURES, values, strict=True) if value is not None
    }
    return TrafficWindow(
        window_start=start, window_end=end, geo=geo, platform=platform, features=features
    )


def _row(result: ScoredWindow) -> tuple[object, ...]:
    w = result.window
    return (
        w.window_start,
        w.window_end,
        w.geo,
        w.platform,
        *(w.features.get(f.name) for f in FEATURES),
        result.anomaly_score,
        result.threshold,
        result.is_anomaly,
        result.model_version,
        result.alert_id if result.is_anomaly else None,
        result.incident_id,
        Jsonb(msgspec.to_builtins(result.explanation)),
    )
