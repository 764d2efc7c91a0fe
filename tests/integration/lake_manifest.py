"""Queries of the lake's manifest for tests."""

from datetime import datetime

from adnomaly.clients.postgres import Postgres
from adnomaly.stores.lake import HOUR, LakeObject


def lake_objects_between(postgres: Postgres, start: datetime, end: datetime) -> list[LakeObject]:
    """Objects of the hours that overlap start <= event time < end, by hour and key."""
    query = (
        f"SELECT {', '.join(LakeObject._fields)} FROM lake_objects"
        " WHERE hour > %s AND hour < %s ORDER BY hour, object_key"
    )
    with postgres.connection() as connection:
        return [LakeObject(*row) for row in connection.execute(query, (start - HOUR, end))]
