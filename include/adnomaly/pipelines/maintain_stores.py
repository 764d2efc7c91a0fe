"""Keeping the stores in shape: old rows and objects go, small objects of the lake become large ones, remains are swept."""

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from adnomaly.stores.lake_compaction import LakeCompaction
    from adnomaly.stores.offline_features import OfflineFeatures
    from adnomaly.stores.retention import Retention

SETTLED: Final = timedelta(hours=3)
"""Hours that ended longer ago get few clicks any more: their objects are worth being rewritten."""
MIN_OBJECTS: Final = 4
"""Objects of one partition and hour from which on they are rewritten as one."""

log = logging.getLogger(__name__)


def expire_rows(rows: "Retention", *, days: int, really: bool, now: datetime) -> dict[str, int]:
    """Delete rows that are older than they are kept; returns how many, or, unless `really`, how many it would be."""
    gone = rows.expire(now, days) if really else rows.old(now, days)
    log.info("%s: %s", "deleted" if really else "would delete", gone)
    return gone


def expire_lake(
    lake: "LakeCompaction", offline: "OfflineFeatures", *, days: int, really: bool, now: datetime
) -> dict[str, int]:
    """Forget hours of clicks, and days of features, that are older than they are kept (features three times as long)."""
    before = datetime.combine((now - timedelta(days=days)).date(), datetime.min.time(), UTC)
    old = [day for day in offline.days() if day < (now - timedelta(days=3 * days)).date()]
    if not really:
        log.info(
            "would forget the clicks before %s, and the features of %s", before, old or "no day"
        )
        return {"objects": 0, "days": len(old)}
    lake.remove_replaced()
    objects = lake.expire(before)
    for day in old:
        offline.remove(day)
    return {"objects": objects, "days": len(old)}


def compact_lake(lake: "LakeCompaction", *, really: bool, now: datetime) -> int:
    """Rewrite hours with many small objects; returns how many objects were replaced, or, unless `really`, in how many hours."""
    hours = lake.small_hours(now - SETTLED, MIN_OBJECTS)
    if not really:
        log.info("would rewrite %d hours", len(hours))
        return len(hours)
    replaced = 0
    for hour in hours:
        count = lake.compact(hour, MIN_OBJECTS)
        if not count:
            log.info("somebody reads the lake: the rest waits for tomorrow")
            break
        replaced += count
    log.info("%d objects of %d hours became few", replaced, len(hours))
    return replaced
