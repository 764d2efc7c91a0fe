"""Clicks into PostgreSQL: rows and offsets in one transaction, so that neither is ever there without the other."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import psycopg
from confluent_kafka import Message
from psycopg import sql

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


def row(value: bytes) -> Row:
    """A message of `clickstream.valid` as a row, in the order of COLUMNS."""
    click = _decoder.decode(value)
    # Canonical form: the last character is Z and microseconds are written out.
    return (
        UUID(click.event_id),
        datetime.fromisoformat(click.timestamp),
        *(getattr(click, c.field) for c in COLUMNS[2:]),
    )


class ClickStore:
    """The table of clicks, written through one connection that is opened again after a failure."""

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
        """Store the messages of each claimed partition and move its offset, in one transaction; returns the rows that are new.

        A click whose event_id is there already is left out, however old the other is.

        Raises:
            StoreFenced: a partition was taken over; nothing was stored.
            Unavailable: PostgreSQL went away. Whether the transaction took place is not known then: claim anew, or write the
                same again; both are safe, since stored offsets refuse what they have passed.
        """
        try:
            connection = self._open()
            with connection.transaction(), connection.cursor() as cursor:
                with cursor.copy(self._copy) as copy:
                    copy.set_types([_TYPES[c.sql] for c in COLUMNS])
                    for messages in batch.values():
                        for message in messages:
                            copy.write_row(row(message.value()))
                new = cursor.execute(self._insert).rowcount
                for lease, messages in batch.items():
                    first, following = messages[0].offset(), messages[-1].offset() + 1
                    self._offsets.advance(
                        connection, lease, first=first, following=following, records=len(messages)
                    )
            return new
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

    def _open(self) -> psycopg.Connection:
        if self._connection is None:
            connection = self._postgres.connect()
            connection.autocommit = True
            connection.execute(self._stage)
            connection.execute(self._unstage)
            self._connection = connection
        return self._connection
