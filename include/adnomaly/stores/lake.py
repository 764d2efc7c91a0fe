"""The lake: valid clicks as Parquet objects by hour of event time, listed in a manifest.

Objects are immutable. The name of a stream object has topic id, partition, first offset and the
epoch of its writer's lease, so names of two writers never collide. Manifest rows and offsets commit
in one transaction, which a fenced writer cannot. Objects of a killed writer are orphans: readers do
not see them, and `remove_orphans` deletes them.
"""

import hashlib
import io
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from adnomaly.arrow import CLICK_SCHEMA
from adnomaly.clients.postgres import Postgres
from adnomaly.clients.s3 import ObjectStore
from adnomaly.errors import LakeConflict
from adnomaly.streams import CLICK_LAKE

PREFIX: Final = "clicks/"
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
LOCK: Final = 7_262_106
"""Advisory lock: shared by writers of history, exclusive for removing or rewriting objects."""

_INSERT: Final = """
INSERT INTO lake_objects (
    object_key, source, topic_id, partition, first_offset, last_offset, row_count, sha256, hour
)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
"""


_DELETE_HISTORY: Final = """
DELETE FROM lake_objects WHERE source = 'history' AND topic_id = %s AND hour = %s
RETURNING object_key
"""


class LakeObject(NamedTuple):
    """One row of the manifest. `hour` is the hour of event time, UTC."""

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
    """Objects in S3, manifest in PostgreSQL. Methods raise `Unavailable` without either."""

    def __init__(
        self, objects: ObjectStore, postgres: Postgres, *, sink: str = CLICK_LAKE.name
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
        """Upload the clicks of one hour between two offsets of a partition.

        Readers see the object after `record`. Idempotent: equal rows give equal bytes.

        Raises:
            LakeConflict: an object of this name has other bytes.
        """
        first, last = offsets
        key = f"{folder_of(hour)}{topic_id}-{partition}-{first:020d}-{epoch}.parquet"
        return self.create(
            LakeObject(key, "stream", topic_id, partition, first, last, table.num_rows, "", hour),
            parquet_bytes(table),
        )

    @staticmethod
    def record(connection: psycopg.Connection, objects: Sequence[LakeObject]) -> None:
        """Add objects to the manifest, in the caller's transaction."""
        with connection.cursor() as cursor:
            cursor.executemany(_INSERT, objects)

    def write_history(
        self, hour: datetime, table: pa.Table, source_id: str = "history"
    ) -> LakeObject:
        """Replace the generated clicks of one hour and source."""
        body = parquet_bytes(table)
        digest = hashlib.sha256(body).hexdigest()
        number = int(hour.timestamp()) // 3600
        key = f"{folder_of(hour)}{source_id}-0-{number:020d}-{digest[:8]}.parquet"
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
            old = [name for (name,) in connection.execute(_DELETE_HISTORY, (source_id, hour))]
            self.record(connection, [item])
        for earlier in old:
            if earlier != key:
                self._objects.delete(earlier)
        return item

    def history_hours(self, start: datetime, end: datetime) -> set[datetime]:
        """The hours of start <= hour < end with generated history."""
        with self._postgres.connection() as connection:
            rows = connection.execute(
                "SELECT DISTINCT hour FROM lake_objects"
                " WHERE source = 'history' AND hour >= %s AND hour < %s",
                (start, end),
            )
            return {hour.astimezone(UTC) for (hour,) in rows}

    def read(self, item: LakeObject) -> pa.Table:
        """The rows of one object.

        Raises:
            LakeConflict: its sha256 differs from the manifest.
        """
        body = self._objects.get(item.object_key)
        if hashlib.sha256(body).hexdigest() != item.sha256:
            raise LakeConflict(
                f"{item.object_key} does not have the sha256 of the manifest;"
                " restore it, or delete its row and read the topic again"
            )
        return pq.ParquetFile(io.BytesIO(body)).read()

    def hold(self, reader: str) -> None:
        """Prevent compaction for a reader of whole hours, until `let_go`, at most for one hour."""
        with self._postgres.connection() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            connection.execute(
                "INSERT INTO lake_readers (reader, until) VALUES (%s, now() + interval '1 hour')"
                " ON CONFLICT (reader) DO UPDATE SET until = EXCLUDED.until",
                (reader,),
            )

    def let_go(self, reader: str) -> None:
        """Allow compaction again. Idempotent."""
        with self._postgres.connection() as connection:
            connection.execute(
                "DELETE FROM lake_readers WHERE reader = %s OR until < now()", (reader,)
            )

    def remove_orphans(self, start: datetime, end: datetime) -> list[str]:
        """Delete objects of killed writers in start <= event time < end; returns the keys.

        An object that is not in the manifest is an orphan if its writer can no longer record it:
        another writer has the lease of its partition, or it is generated history, whose writers
        hold a lock.
        """
        with self._postgres.connection() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            stored = [
                key
                for day in _days(start, end)
                for key in self._objects.etags(f"{PREFIX}dt={day}/")
            ]
            recorded = {
                key
                for (key,) in connection.execute(
                    "SELECT object_key FROM lake_objects WHERE hour >= %s AND hour < %s",
                    (start - DAY, end + DAY),
                )
            }
            epochs = connection.execute(
                "SELECT topic_id || '-' || partition, epoch FROM sink_offsets WHERE sink = %s",
                (self._sink,),
            ).fetchall()
            replaced = {
                key for (key,) in connection.execute("SELECT object_key FROM lake_replaced")
            }
            orphans = [
                key
                for key in stored
                if key not in recorded and (key in replaced or _is_abandoned(key, dict(epochs)))
            ]
            for key in orphans:
                self._objects.delete(key)
        return orphans

    def create(self, item: LakeObject, body: bytes) -> LakeObject:
        """Upload one object without recording it; returns it with its sha256."""
        digest = hashlib.sha256(body).hexdigest()
        if (
            not self._objects.put_new(item.object_key, body)
            and hashlib.sha256(self._objects.get(item.object_key)).hexdigest() != digest
        ):
            raise LakeConflict(
                f"{item.object_key} exists already with other bytes; delete one of them"
            )
        return item._replace(sha256=digest)


def parquet_bytes(table: pa.Table) -> bytes:
    """Clicks as Parquet with fixed writer settings, so equal rows give equal bytes."""
    out = io.BytesIO()
    pq.write_table(
        table.cast(CLICK_SCHEMA),
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


def _is_abandoned(key: str, epochs: dict[str, int]) -> bool:
    """Whether the writer of an unrecorded object can no longer record it."""
    owner, first, number = key.rpartition("/")[2].removesuffix(".parquet").rsplit("-", 2)
    return (
        not number.isdigit()
        or len(first) != 20
        or owner not in epochs
        or int(number) < epochs[owner]
    )


def _day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()
