"""The lake kept in shape: old hours forgotten, small objects rewritten as large ones."""

from collections.abc import Sequence
from datetime import datetime

import pyarrow as pa

from adnomaly.stores.lake import LOCK, Lake, LakeObject, folder_of, parquet_bytes


class LakeCompaction(Lake):
    """A lake whose objects may be rewritten. The manifest changes first, in one transaction; what left it is deleted then."""

    def small_hours(self, before: datetime, least: int) -> list[datetime]:
        """Hours before a moment in which some partition of the stream has at least so many objects, oldest first."""
        query = (
            "SELECT DISTINCT hour FROM (SELECT hour FROM lake_objects WHERE source = 'stream' AND hour < %s"
            " GROUP BY hour, topic_id, partition HAVING count(*) >= %s) AS h ORDER BY hour"
        )
        with self._postgres.connection() as connection:
            return [hour for (hour,) in connection.execute(query, (before, least))]

    def compact(self, hour: datetime, least: int) -> int:
        """Rewrite the objects of each partition of the stream in one hour as one; returns how many objects became fewer.

        The manifest changes in one transaction; what it no longer names is removed, now or, after a kill, as an orphan. While
        somebody reads whole hours, nothing is done, and 0 returned.
        """
        replaced: list[str] = []
        with self._postgres.connection() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            if connection.execute("SELECT reader FROM lake_readers WHERE until > now()").fetchone():
                return 0
            found = connection.execute(
                f"SELECT {', '.join(LakeObject._fields)} FROM lake_objects WHERE source = 'stream' AND hour = %s"
                " ORDER BY topic_id, partition, first_offset",
                (hour,),
            )
            groups: dict[tuple[str, int], list[LakeObject]] = {}
            for item in (LakeObject(*row) for row in found):
                groups.setdefault((item.topic_id, item.partition), []).append(item)
            for items in groups.values():
                if len(items) >= least:
                    self.record(connection, [self._merged(items)])
                    replaced += [item.object_key for item in items]
            connection.execute("DELETE FROM lake_objects WHERE object_key = ANY(%s)", (replaced,))
            connection.execute(
                "INSERT INTO lake_replaced (object_key) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING",
                (replaced,),
            )
        self._remove(replaced)
        return len(replaced)

    def _merged(self, items: Sequence[LakeObject]) -> LakeObject:
        first, last = items[0], items[-1]
        table = pa.concat_tables([self.read(item) for item in items])
        key = f"{folder_of(first.hour)}{first.topic_id}-{first.partition}-{first.first_offset:020d}-to{last.last_offset}.parquet"
        merged = first._replace(
            object_key=key, last_offset=last.last_offset, row_count=table.num_rows
        )
        return self.create(merged, parquet_bytes(table))

    def expire(self, before: datetime) -> int:
        """Forget the hours before a moment; returns how many objects are gone."""
        with self._postgres.connection() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            gone = [
                key
                for (key,) in connection.execute(
                    "DELETE FROM lake_objects WHERE hour < %s RETURNING object_key", (before,)
                )
            ]
            connection.execute(
                "INSERT INTO lake_replaced (object_key) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING",
                (gone,),
            )
        self._remove(gone)
        return len(gone)

    def remove_replaced(self) -> int:
        """Delete what `compact` and `expire` took out of the manifest before they were killed; returns how many objects."""
        with self._postgres.connection() as connection:
            left = [key for (key,) in connection.execute("SELECT object_key FROM lake_replaced")]
        self._remove(left)
        return len(left)

    def _remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._objects.delete(key)
        with self._postgres.connection() as connection:
            connection.execute(
                "DELETE FROM lake_replaced WHERE object_key = ANY(%s)", (list(keys),)
            )
