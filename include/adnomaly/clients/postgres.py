"""PostgreSQL: connections, and numbered migrations of the tables."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from adnomaly.errors import NewerVersion, Unavailable
from adnomaly.events import COLUMNS
from adnomaly.features import FEATURES, SQL_TYPES, Feature
from adnomaly.settings import ROOT

MIGRATIONS = ROOT / "include" / "sql" / "migrations"
"""Files `NNNN_name.sql`. A file that was released does not change; a change is a new file."""
_WITH_FEATURES = ("feature_aggregates", "anomaly_results")
_MIGRATION_LOCK = 7_262_105
"""Advisory lock: only one process migrates at a time."""
_MIGRATIONS_TABLE = """
CREATE TABLE IF NOT EXISTS migrations (
    number integer PRIMARY KEY,
    name   text NOT NULL,
    ran_at timestamptz NOT NULL DEFAULT now()
)
"""
_RAN = "INSERT INTO migrations (number, name) VALUES (%s, %s)"


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

    def migrate(
        self, folder: Path = MIGRATIONS, features: Sequence[Feature] = FEATURES
    ) -> list[str]:
        """Run the migrations that have not run, and create columns of new features; returns the
        names of those that ran. All or nothing.

        Raises:
            NewerVersion: a migration ran that this version does not know.
        """
        known = {int(file.name.partition("_")[0]): file for file in sorted(folder.glob("*.sql"))}
        with self.connection() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
            connection.execute(_MIGRATIONS_TABLE)
            done = {number for (number,) in connection.execute("SELECT number FROM migrations")}
            if newer := done - known.keys():
                raise NewerVersion(
                    f"the database {connection.info.dbname} has migration {max(newer)} of a newer"
                    " version of Adnomaly: update this checkout, or choose another DB_NAME"
                )
            pending = [file for number, file in known.items() if number not in done]
            for file in pending:
                connection.execute(_statements(file))
                number, _, name = file.stem.partition("_")
                connection.execute(_RAN, (int(number), name))
            _create_columns(connection, features)
        return [file.stem for file in pending]


def _statements(file: Path) -> bytes:
    columns = ",\n    ".join(f'"{c.name}" {c.sql} NOT NULL' for c in COLUMNS)
    return file.read_text().replace("{click_columns}", columns).encode()


def _create_columns(connection: psycopg.Connection, features: Sequence[Feature]) -> None:
    """Add missing columns of features; write what columns mean."""
    for column in COLUMNS:
        connection.execute(_comment("clickstream_events", column.name, column.comment))
    for table in _WITH_FEATURES:
        for f in features:
            connection.execute(
                sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {}").format(
                    sql.Identifier(table), sql.Identifier(f.name), sql.SQL(SQL_TYPES[f.dtype])
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
