"""Clicks in PostgreSQL: rows and offsets commit in one transaction."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import psycopg
from confluent_kafka import Message
from psycopg import sql

from adnomaly.clients.kafka.message import position
from adnomaly.clients.postgres import Postgres
from adnomaly.errors import Unavailable
from adnomaly.events import COLUMNS, Click
from adnomaly.sinks.offsets import Lease, SinkOffsets

TABLE = "clickstream_events"
_TYPES = {
    "uuid": "uuid",
    "timestamptz": "timestamptz",
    "text": "text",
    "double precision": "float8",
    "smallint": "int2",
}

_decoder = msgspec.json.Decoder(Click)
Row = tuple[object, ...]
"""One click, in the order of COLUMNS."""


def row(value: bytes | None) -> Row:
    """A message of `clickstream.valid` as a row."""
    assert value is not None, "validate_clicks writes no null values"
    click = _decoder.decode(value)
    assert isinstance(click.event_id, str), "canonical clicks have an id"
    # Canonical form: microseconds are written out and the last character is Z.
    return (
        UUID(click.event_id),
        datetime.fromisoformat(click.timestamp),
        *(getattr(click, c.field) for c in COLUMNS[2:]),
    )


def event_time_of(values: Row) -> datetime:
    """The event time in a row."""
    event_time = values[1]
    assert isinstance(event_time, datetime)
    return event_time


class ClickStore:
    """The table of clicks, written through one connection that is reopened after a failure."""

    def __init__(self, postgres: Postgres, offsets: SinkOffsets, *, table: str = TABLE) -> None:
        self._postgres, self._offsets = postgres, offsets
        self._connection: psycopg.Connection | None = None
        names = sql.SQL(", ").join(sql.Identifier(c.name) for c in COLUMNS)
        self._stage = sql.SQL("CREATE TEMP TABLE stage (LIKE {}) ON COMMIT DELETE ROWS").format(
            sql.Identifier(table)
        )
        self._unstage = sql.SQL("ALTER TABLE stage DROP COLUMN ingested_at")
        self._copy = sql.SQL("COPY stage ({}) FROM STDIN (FORMAT BINARY)").format(names)
        self._insert = sql.SQL(
            "INSERT INTO {} ({}) SELECT {} FROM stage ON CONFLICT (event_id) DO NOTHING"
        ).format(sql.Identifier(table), names, names)

    def write(self, batch: Mapping[Lease, Sequence[Message]]) -> int:
        """Store the messages of each lease and move its offset, in one transaction; returns the
        number of new rows.

        A click whose event_id is stored already is skipped.

        Raises:
            StoreFenced: a partition was taken over; nothing was stored.
            Unavailable: PostgreSQL went away. The transaction may have committed; writing the same
                batch again, or acquiring new leases, is safe, since stored offsets refuse what they
                have passed.
        """
        try:
            connection = self._open()
            with connection.transaction(), connection.cursor() as cursor:
                with cursor.copy(self._copy) as copy:
                    copy.set_types([_TYPES[c.sql] for c in COLUMNS])
                    for messages in batch.values():
                        for message in messages:
                            copy.write_row(row(message.value()))
                new_rows = cursor.execute(self._insert).rowcount
                for lease, messages in batch.items():
                    if messages:
                        self._advance(connection, lease, messages)
            return new_rows
        except psycopg.OperationalError as error:
            self.close()
            raise Unavailable(f"PostgreSQL: {str(error).strip()}") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _advance(
        self, connection: psycopg.Connection, lease: Lease, messages: Sequence[Message]
    ) -> None:
        first, following = position(messages[0]).offset, position(messages[-1]).offset + 1
        self._offsets.advance(
            connection, lease, first=first, following=following, records=len(messages)
        )

    def _open(self) -> psycopg.Connection:
        if self._connection is None:
            connection = self._postgres.connect()
            connection.autocommit = True
            connection.execute(self._stage)
            connection.execute(self._unstage)
            self._connection = connection
        return self._connection
