"""The lake: valid clicks as Parquet objects by hour of event time. What the manifest does not name does not exist.

Objects are only ever created. The name of a stream object carries topic id, partition, first offset and the number of its
writer's claim, so that two writers never meet in one name; the manifest row and the offsets commit in one transaction,
which a replaced writer cannot. What a killed writer left behind is an orphan: no reader sees it, `remove_orphans` deletes it.
"""

import hashlib
import io
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from adnomaly.clients.postgres import Postgres
from adnomaly.clients.s3 import ObjectStore
from adnomaly.errors import LakeConflict
from adnomaly.events import COLUMNS

PREFIX: Final = "clicks/"
_ARROW: Final = {
    "string": pa.string(),
    "timestamp[us, UTC]": pa.timestamp("us", tz="UTC"),
    "double": pa.float64(),
    "int8": pa.int8(),
}
SCHEMA: Final = pa.schema(
    [
        pa.field(c.name, _ARROW[c.arrow], nullable=False, metadata={"comment": c.comment})
        for c in COLUMNS
    ]
)
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
LOCK: Final = 7_262_106
"""Writers of history share it; whoever removes or rewrites objects holds it alone."""

_INSERT = """
INSERT INTO lake_objects (object_key, source, topic_id, partition, first_offset, last_offset, row_count, sha256, hour)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
"""


class LakeObject(NamedTuple):
    """One object of the lake, as the manifest has it. `hour` is its hour of event time, UTC."""

    object_key: str
    source: str
    topic_id: str
    partition: int
    first_offset: int
    last_offset: int
    row_count: int
    sha256: str
    hour: datetime


class Lake:
    """Objects in S3, their manifest in PostgreSQL. Methods raise `Unavailable` while either cannot be reached."""

    def __init__(
        self, objects: ObjectStore, postgres: Postgres, *, sink: str = "archive_clicks"
    ) -> None:
        self._objects, self._postgres, self._sink = objects, postgres, sink

    def put(
        self,
        hour: datetime,
        table: pa.Table,
        *,
        topic_id: str,
        partition: int,
        offsets: tuple[int, int],
        epoch: int,
    ) -> LakeObject:
        """Upload the clicks of one hour that lie between two offsets of a partition. Not there for readers until `record`ed.

        Safe to repeat by the same writer: the same rows give the same bytes.

        Raises:
            LakeConflict: the name is taken by other bytes.
        """
        first, last = offsets
        key = f"{folder_of(hour)}{topic_id}-{partition}-{first:020d}-{epoch}.parquet"
        return self.create(
            LakeObject(key, "stream", topic_id, partition, first, last, table.num_rows, "", hour),
            parquet_bytes(table),
        )

    @staticmethod
    def record(connection: psycopg.Connection, objects: Sequence[LakeObject]) -> None:
        """Name objects in the manifest, in the caller's transaction."""
        with connection.cursor() as cursor:
            cursor.executemany(_INSERT, objects)

    def write_history(
        self, hour: datetime, table: pa.Table, source_id: str = "history"
    ) -> LakeObject:
        """Store the generated clicks of one hour, in place of what the same source stored for that hour before."""
        body = parquet_bytes(table)
        digest = hashlib.sha256(body).hexdigest()
        key = f"{folder_of(hour)}{source_id}-0-{int(hour.timestamp()) // 3600:020d}-{digest[:8]}.parquet"
        with self._postgres.connection() as connection:
            connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (LOCK,))
            item = self.create(
                LakeObject(
                    key,
                    "history",
                    source_id,
                    0,
                    0,
                    table.num_rows - 1,
                    table.num_rows,
                    digest,
                    hour,
                ),
                body,
            )
            deleted = "DELETE FROM lake_objects WHERE source = 'history' AND topic_id = %s AND hour = %s RETURNING object_key"
            old = [found for (found,) in connection.execute(deleted, (source_id, hour))]
            self.record(connection, [item])
        for earlier in old:
            if earlier != key:
                self._objects.delete(earlier)
        return item

    def objects_between(self, start: datetime, end: datetime) -> list[LakeObject]:
        """The objects of every hour that touches start <= event time < end, in order of hour and key."""
        query = f"SELECT {', '.join(LakeObject._fields)} FROM lake_objects WHERE hour > %s AND hour < %s ORDER BY hour, object_key"
        with self._postgres.connection() as connection:
            return [LakeObject(*row) for row in connection.execute(query, (start - HOUR, end))]

    def history_hours(self, start: datetime, end: datetime) -> set[datetime]:
        """The hours of start <= hour < end that hold generated history, which the stream has never seen."""
        with self._postgres.connection() as connection:
            rows = connection.execute(
                "SELECT DISTINCT hour FROM lake_objects WHERE source = 'history' AND hour >= %s AND hour < %s",
                (start, end),
            )
            return {hour.astimezone(UTC) for (hour,) in rows}

    def read(self, item: LakeObject) -> pa.Table:
        """The rows of one object.

        Raises:
            LakeConflict: its bytes are not those the manifest names.
        """
        body = self._objects.get(item.object_key)
        if hashlib.sha256(body).hexdigest() != item.sha256:
            raise LakeConflict(
                f"{item.object_key} is not what the manifest says; restore it, or delete its row and read the topic again"
            )
        return pq.ParquetFile(io.BytesIO(body)).read()

    def hold(self, reader: str) -> None:
        """Whoever reads whole hours keeps them as they are: nothing is rewritten until `let_go`, or for an hour."""
        with self._postgres.connection() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            connection.execute(
                "INSERT INTO lake_readers (reader, until) VALUES (%s, now() + interval '1 hour')"
                " ON CONFLICT (reader) DO UPDATE SET until = EXCLUDED.until",
                (reader,),
            )

    def let_go(self, reader: str) -> None:
        """It has read everything; fine when it held nothing."""
        with self._postgres.connection() as connection:
            connection.execute(
                "DELETE FROM lake_readers WHERE reader = %s OR until < now()", (reader,)
            )

    def remove_orphans(self, start: datetime, end: datetime) -> list[str]:
        """Delete what killed writers left in the hours of start <= event time < end; returns the keys.

        An object that the manifest does not name goes when its writer can no longer record it: its partition was claimed
        by another since, or it is generated history, whose writers hold a lock while they write.
        """
        with self._postgres.connection() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            there = [
                key
                for day in _days(start, end)
                for key in self._objects.etags(f"{PREFIX}dt={day}/")
            ]
            known = {
                key
                for (key,) in connection.execute(
                    "SELECT object_key FROM lake_objects WHERE hour >= %s AND hour < %s",
                    (start - DAY, end + DAY),
                )
            }
            claims = connection.execute(
                "SELECT topic_id || '-' || partition, epoch FROM sink_offsets WHERE sink = %s",
                (self._sink,),
            ).fetchall()
            replaced = {
                key for (key,) in connection.execute("SELECT object_key FROM lake_replaced")
            }
            orphans = [
                key
                for key in there
                if key not in known and (key in replaced or _is_given_up(key, dict(claims)))
            ]
            for key in orphans:
                self._objects.delete(key)
        return orphans

    def create(self, item: LakeObject, body: bytes) -> LakeObject:
        """Upload one object, which no reader sees before it is recorded; returns it with its hash."""
        digest = hashlib.sha256(body).hexdigest()
        if (
            not self._objects.put_new(item.object_key, body)
            and hashlib.sha256(self._objects.get(item.object_key)).hexdigest() != digest
        ):
            raise LakeConflict(f"{item.object_key} is there already with other bytes")
        return item._replace(sha256=digest)


def parquet_bytes(table: pa.Table) -> bytes:
    """Clicks as Parquet: the lake's schema, fixed writer settings, so that the same rows give the same bytes."""
    out = io.BytesIO()
    pq.write_table(
        table.cast(SCHEMA),
        out,
        compression="zstd",
        compression_level=3,
        version="2.6",
        row_group_size=1 << 18,
    )
    return out.getvalue()


def hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def folder_of(hour: datetime) -> str:
    return f"{PREFIX}dt={_day(hour)}/hr={hour.astimezone(UTC):%H}/"


def _days(start: datetime, end: datetime) -> list[date]:
    first, last = _day(start), _day(end - timedelta(microseconds=1))
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _is_given_up(key: str, claims: dict[str, int]) -> bool:
    """Whether the writer of an unrecorded object can never record it."""
    owner, first, number = key.rpartition("/")[2].removesuffix(".parquet").rsplit("-", 2)
    return (
        not number.isdigit()
        or len(first) != 20
        or owner not in claims
        or int(number) < claims[owner]
    )


def _day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()
