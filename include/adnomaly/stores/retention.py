"""Retention of rows in PostgreSQL."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from psycopg import sql

from adnomaly.clients.postgres import one

if TYPE_CHECKING:
    from adnomaly.clients.postgres import Postgres

BATCH: Final = 50_000
"""Rows deleted in one transaction, so readers and writers never wait long."""

RETENTION: Final = (
    ("clickstream_events", "timestamp", 1),
    ("feature_aggregates", "window_end", 3),
    ("anomaly_results", "window_end", 3),
    ("stream_health", "at", 1),
    ("model_health", "at", 12),
)
"""Table, column of its time, multiple of RETENTION_DAYS. Incidents and decisions never expire."""

_OLD: Final = "SELECT count(*) FROM {table} WHERE {moment} < %s"
_DELETE: Final = """
DELETE FROM {table}
WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE {moment} < %s LIMIT %s))
"""


class Retention:
    """Every method raises `Unavailable` without PostgreSQL."""

    def __init__(self, postgres: "Postgres") -> None:
        self._postgres = postgres

    def old(self, now: datetime, days: int) -> dict[str, int]:
        """Number of expired rows of each table."""
        with self._postgres.connection() as connection:
            return {
                table: one(
                    connection.execute(
                        _sql(_OLD, table, column), (now - timedelta(days=times * days),)
                    )
                )[0]
                for table, column, times in RETENTION
            }

    def expire(self, now: datetime, days: int) -> dict[str, int]:
        """Delete the expired rows in batches; returns their number by table. Resumable."""
        deleted = {}
        for table, column, times in RETENTION:
            before, total = now - timedelta(days=times * days), 0
            while True:
                with self._postgres.connection() as connection:
                    count = connection.execute(
                        _sql(_DELETE, table, column), (before, BATCH)
                    ).rowcount
                total += count
                if count < BATCH:
                    break
            deleted[table] = total
        return deleted


def _sql(text: str, table: str, column: str) -> sql.Composed:
    return sql.SQL(text).format(table=sql.Identifier(table), moment=sql.Identifier(column))
