"""Maintain the stores: delete expired rows and objects, compact the lake."""

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from adnomaly.stores.lake_compaction import LakeCompaction
    from adnomaly.stores.offline_features import OfflineFeatures
    from adnomaly.stores.retention import Retention

SETTLED: Final = timedelta(hours=3)
"""Hours that ended longer ago get few new clicks and can be compacted."""
MIN_OBJECTS: Final = 4
"""Objects of one partition and hour that are worth compacting."""

log = logging.getLogger(__name__)


def expire_rows(rows: "Retention", *, days: int, really: bool, now: datetime) -> dict[str, int]:
    """Delete expired rows; returns their number by table. Unless `really`, only count them."""
    expired = rows.expire(now, days) if really else rows.old(now, days)
    log.info("%s: %s", "deleted" if really else "would delete", expired)
    return expired


def expire_lake(
    lake: "LakeCompaction", offline: "OfflineFeatures", *, days: int, really: bool, now: datetime
) -> dict[str, int]:
    """Delete expired hours of clicks and days of features (kept three times as long)."""
    before = datetime.combine((now - timedelta(days=days)).date(), datetime.min.time(), UTC)
    old = [day for day in offline.days() if day < (now - timedelta(days=3 * days)).date()]
    if not really:
        log.info("would delete clicks before %s, features of %s", before, old or "no day")
        return {"objects": 0, "days": len(old)}
    lake.remove_replaced()
    objects = lake.expire(before)
    for day in old:
        offline.remove(day)
    return {"objects": objects, "days": len(old)}


def compact_lake(lake: "LakeCompaction", *, really: bool, now: datetime) -> int:
    """Compact hours with many small objects.

    Returns:
        The number of replaced objects; unless `really`, the number of hours to compact.
    """
    hours = lake.small_hours(now - SETTLED, MIN_OBJECTS)
    if not really:
        log.info("would compact %d hours", len(hours))
        return len(hours)
    replaced = 0
    for hour in hours:
        count = lake.compact(hour, MIN_OBJECTS)
        if not count:
            log.info("a reader holds the lake: the remaining hours are compacted tomorrow")
            break
        replaced += count
    log.info("compacted %d objects in %d hours", replaced, len(hours))
    return replaced
