"""PostgreSQL: connections, and the schema with the click columns and the feature list."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from adnomaly.errors import Unavailable
from adnomaly.events import COLUMNS
from adnomaly.features import FEATURES, SQL_TYPES, Feature
from adnomaly.settings import ROOT

SCHEMA = ROOT / "include" / "sql" / "schema.sql"
_WITH_FEATURES = ("feature_aggregates", "anomaly_results")
_SCHEMA_LOCK = 7_262_105
"""Advisory lock: only one process applies the schema at a time."""


class Postgres:
    """One database. Every `connection()` is new, so threads share nothing."""

    def __init__(self, url: str) -> None:
        self._url = url

    def connect(self) -> psycopg.Connection:
        """A connection that the caller closes.

        Raises:
            Unavailable: the server does not accept connections.
        """
        try:
            return psycopg.connect(self._url, connect_timeout=5, application_name="adnomaly")
        except psycopg.OperationalError as error:
            raise Unavailable(f"PostgreSQL: {str(error).strip()}") from error

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection]:
        """One transaction: committed at the end of the block, rolled back when it raises.

        Raises:
            Unavailable: the server cannot be reached, or the connection broke.
        """
        with self.connect() as connection:
            try:
                yield connection
            except psycopg.OperationalError as error:
                raise Unavailable(f"PostgreSQL: {str(error).strip()}") from error

    def apply_schema(self, file: Path = SCHEMA, features: Sequence[Feature] = FEATURES) -> None:
        """Create missing tables, and columns of new features. Idempotent."""
        columns = ",\n    ".join(f'"{c.name}" {c.sql} NOT NULL' for c in COLUMNS)
        with self.connection() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
            connection.execute(file.read_text().replace("{click_columns}", columns).encode())
            for column in COLUMNS:
                connection.execute(_comment("clickstream_events", column.name, column.comment))
            for table in _WITH_FEATURES:
                for f in features:
                    connection.execute(
                        sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {}").format(
                            sql.Identifier(table),
                            sql.Identifier(f.name),
                            sql.SQL(SQL_TYPES[f.dtype]),
                        )
                    )
                    connection.execute(_comment(table, f.name, f.unit))


def one(cursor: psycopg.Cursor[Any]) -> tuple[Any, ...]:
    """The next row of a query that always has one.

    Raises:
        LookupError: there is none.
    """
    row: tuple[Any, ...] | None = cursor.fetchone()
    if row is None:
        raise LookupError("the query returned no row")
    return row


def _comment(table: str, column: str, text: str) -> sql.Composed:
    return sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(
        sql.Identifier(table), sql.Identifier(column), sql.Literal(text)
    )
