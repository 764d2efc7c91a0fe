"""What the database keeps, and for how long."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from psycopg import sql

if TYPE_CHECKING:
    from adnomaly.clients.postgres import Postgres

BATCH: Final = 50_000
"""Rows of one transaction: readers and writers are never kept waiting for long."""

KEPT: Final = (
    ("clickstream_events", "timestamp", 1),
    ("feature_aggregates", "window_end", 3),
    ("anomaly_results", "window_end", 3),
    ("stream_health", "at", 1),
    ("model_health", "at", 12),
)
"""Table, its moment, and how many times RETENTION_DAYS it is kept. Incidents and decisions are kept for ever."""

_OLD: Final = "SELECT count(*) FROM {table} WHERE {moment} < %s"
_DELETE: Final = "DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE {moment} < %s LIMIT %s))"


class Retention:
    """Every method raises `Unavailable` while PostgreSQL is away."""

    def __init__(self, postgres: "Postgres") -> None:
        self._postgres = postgres

    def old(self, now: datetime, days: int) -> dict[str, int]:
        """Rows of each table that are older than it keeps them."""
        with self._postgres.connection() as connection:
            return {
                t: connection.execute(
                    _sql(_OLD, t, m), (now - timedelta(days=n * days),)
                ).fetchone()[0]
                for t, m, n in KEPT
            }

    def expire(self, now: datetime, days: int) -> dict[str, int]:
        """Delete those rows, batch by batch; returns how many of each table. A kill leaves what is done done."""
        gone = {}
        for table, column, times in KEPT:
            before, total = now - timedelta(days=times * days), 0
            while True:
                with self._postgres.connection() as connection:
                    count = connection.execute(
                        _sql(_DELETE, table, column), (before, BATCH)
                    ).rowcount
                total += count
                if count < BATCH:
                    break
            gone[table] = total
        return gone


def _sql(text: str, table: str, column: str) -> sql.Composed:
    return sql.SQL(text).format(table=sql.Identifier(table), moment=sql.Identifier(column))
