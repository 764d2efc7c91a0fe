"""Compaction and retention of the lake."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import pyarrow as pa

from adnomaly.stores.lake import LOCK, Lake, LakeObject, folder_of, parquet_bytes

_REPLACED: Final = """
INSERT INTO lake_replaced (object_key) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING
"""


class LakeCompaction(Lake):
    """A lake whose objects may be rewritten or deleted.

    The manifest changes first, in one transaction; then the replaced objects are deleted.
    """

    def small_hours(self, before: datetime, min_objects: int) -> list[datetime]:
        """Hours before a moment in which a partition has `min_objects` or more, oldest first."""
        query = (
            "SELECT DISTINCT hour FROM ("
            "SELECT hour FROM lake_objects WHERE source = 'stream' AND hour < %s"
            " GROUP BY hour, topic_id, partition HAVING count(*) >= %s) AS h ORDER BY hour"
        )
        with self._postgres.connection() as connection:
            return [hour for (hour,) in connection.execute(query, (before, min_objects))]

    def compact(self, hour: datetime, min_objects: int) -> int:
        """Merge the objects of each partition in one hour; returns the number of replaced objects.

        Does nothing, and returns 0, while a reader holds the lake. After a kill,
        `remove_replaced` deletes the rest.
        """
        replaced: list[str] = []
        with self._postgres.connection() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            if connection.execute("SELECT reader FROM lake_readers WHERE until > now()").fetchone():
                return 0
            rows = connection.execute(
                f"SELECT {', '.join(LakeObject._fields)} FROM lake_objects"
                " WHERE source = 'stream' AND hour = %s"
                " ORDER BY topic_id, partition, first_offset",
                (hour,),
            )
            groups: dict[tuple[str, int], list[LakeObject]] = {}
            for item in (LakeObject(*row) for row in rows):
                groups.setdefault((item.topic_id, item.partition), []).append(item)
            for items in groups.values():
                if len(items) >= min_objects:
                    self.record(connection, [self._merged(items)])
                    replaced += [item.object_key for item in items]
            connection.execute("DELETE FROM lake_objects WHERE object_key = ANY(%s)", (replaced,))
            connection.execute(_REPLACED, (replaced,))
        self._remove(replaced)
        return len(replaced)

    def _merged(self, items: Sequence[LakeObject]) -> LakeObject:
        first, last = items[0], items[-1]
        table = pa.concat_tables([self.read(item) for item in items])
        partition = f"{first.topic_id}-{first.partition}"
        offsets = f"{first.first_offset:020d}-to{last.last_offset}"
        key = f"{folder_of(first.hour)}{partition}-{offsets}.parquet"
        merged = first._replace(
            object_key=key, last_offset=last.last_offset, row_count=table.num_rows
        )
        return self.create(merged, parquet_bytes(table))

    def expire(self, before: datetime) -> int:
        """Delete the hours before a moment; returns the number of objects."""
        with self._postgres.connection() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            expired = [
                key
                for (key,) in connection.execute(
                    "DELETE FROM lake_objects WHERE hour < %s RETURNING object_key", (before,)
                )
            ]
            connection.execute(_REPLACED, (expired,))
        self._remove(expired)
        return len(expired)

    def remove_replaced(self) -> int:
        """Delete the objects that a killed `compact` or `expire` left; returns their number."""
        with self._postgres.connection() as connection:
            keys = [key for (key,) in connection.execute("SELECT object_key FROM lake_replaced")]
        self._remove(keys)
        return len(keys)

    def _remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._objects.delete(key)
        with self._postgres.connection() as connection:
            connection.execute(
                "DELETE FROM lake_replaced WHERE object_key = ANY(%s)", (list(keys),)
            )
