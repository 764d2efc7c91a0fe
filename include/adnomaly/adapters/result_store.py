"""Every scored window: the table `anomaly_results`, one row per geo, platform, window_end and model version."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec
from psycopg import sql
from psycopg.types.json import Jsonb

from adnomaly.alerts import ScoredWindow
from adnomaly.features import FEATURES

if TYPE_CHECKING:
    from adnomaly.adapters.postgres import Postgres

TABLE: Final = "anomaly_results"
_COLUMNS: Final = ("anomaly_score", "threshold", "is_anomaly", "model_version", "alert_id", "explanation")


class ResultStore:
    """Saving the same window of the same model again changes nothing."""

    def __init__(self, postgres: "Postgres", *, table: str = TABLE) -> None:
        self._postgres = postgres
        names = ("window_start", "window_end", "geo", "platform", *(f.name for f in FEATURES), *_COLUMNS)
        self._insert = sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING").format(
            sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, names)), sql.SQL(", ").join(sql.Placeholder() * len(names))
        )

    def save(self, results: Sequence[ScoredWindow]) -> int:
        """Insert what is not there yet, in one transaction; returns how many rows are new."""
        with self._postgres.connection() as connection, connection.cursor() as cursor:
            cursor.executemany(self._insert, [_row(result) for result in results])
            return cursor.rowcount


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
        Jsonb(msgspec.to_builtins(result.explanation)),
    )
