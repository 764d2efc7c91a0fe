"""Backfill: compute all windows of whole days in batch, save them offline and load them online."""

import logging
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, NamedTuple

from adnomaly.errors import InvalidSetting, NotEnoughHistory
from adnomaly.windows import day_of

if TYPE_CHECKING:
    import pyarrow as pa

    from adnomaly.clients.flink_sql import Script
    from adnomaly.stores.lake_batch import LakeBatch
    from adnomaly.stores.offline_features import OfflineFeatures
    from adnomaly.stores.online_features import OnlineFeatures

DAY = timedelta(days=1)
SETTLING = timedelta(minutes=5)
"""Clicks younger than this may not be in the lake yet, whose objects close after a minute."""

log = logging.getLogger(__name__)


class Span(NamedTuple):
    """The windows with start < window_end <= end, UTC."""

    start: datetime
    end: datetime

    @property
    def days(self) -> list[date]:
        """The UTC days that contain windows of the span, oldest first."""
        first, last = self.start.date(), day_of(self.end)
        return [first + i * DAY for i in range((last - first).days + 1)]

    @property
    def prefix(self) -> str:
        """S3 prefix of the batch result; cleared before a run and after its last step."""
        return f"batch/windows/{self.start:%Y%m%dT%H%M}-{self.end:%Y%m%dT%H%M}/"


def span_of(first: date, last: date, *, now: datetime, until: datetime | None = None) -> Span:
    """The windows of the days first..last that end by `until` and by SETTLING before now.

    Both bounds are rounded down to the minute.

    Raises:
        InvalidSetting: no window remains.
    """
    start, end = datetime.combine(first, time(), UTC), datetime.combine(last, time(), UTC) + DAY
    for limit in (now - SETTLING, until):
        if limit:
            end = min(end, limit.astimezone(UTC).replace(second=0, microsecond=0))
    if end <= start:
        raise InvalidSetting(
            f"nothing to compute: {first} to {last} has no window that ended "
            f"before {end:%Y-%m-%dT%H:%MZ}; choose earlier days"
        )
    return Span(start, end)


def window_batch(batch: "LakeBatch", offline: "OfflineFeatures", span: Span) -> "Script":
    """The Flink job that computes the span from the lake into `span.prefix`, cleared first."""
    offline.discard(span.prefix)
    return batch.script(span.start, span.end, output=offline.url(span.prefix))


def compute_windows(batch: "LakeBatch", offline: "OfflineFeatures", span: Span) -> str:
    """Run the job and wait for it; returns the S3 prefix of its result."""
    offline.discard(span.prefix)
    batch.run(span.start, span.end, output=offline.url(span.prefix))
    return span.prefix


def write_days(offline: "OfflineFeatures", span: Span, prefix: str) -> dict[str, str]:
    """Replace each day's file with the result below `prefix`; returns day -> sha256. Idempotent.

    A day without windows gets no file; an existing file becomes empty.

    Raises:
        NotEnoughHistory: there is no window below the prefix.
    """
    result = offline.collect(prefix)
    if not result.num_rows:
        raise NotEnoughHistory(
            f"no windows below {prefix}: the lake has no clicks there, "
            "or this step ran already (then compute again)"
        )
    written: dict[str, str] = {}
    existing = set(offline.days())
    for day, windows in split_days(result, span):
        if windows.num_rows or day in existing:
            written[str(day)] = offline.write_day(day, windows)
            log.info("offline features of %s: %s windows", day, f"{windows.num_rows:,}")
        else:
            log.warning("no clicks on %s: no windows", day)
    return written


def split_days(windows: "pa.Table", span: Span) -> Iterator[tuple[date, "pa.Table"]]:
    """The windows of each day of the span; windows outside the span are dropped."""
    # Not at the top: the DAG file loads this module.
    import pyarrow.compute as pc

    ends = windows["window_end"]
    for day in span.days:
        midnight = datetime.combine(day, time(), UTC)
        start, end = max(span.start, midnight), min(span.end, midnight + DAY)
        inside = pc.and_(
            pc.greater(ends, _scalar(start, ends)), pc.less_equal(ends, _scalar(end, ends))
        )
        yield day, windows.filter(inside)


def load_online(offline: "OfflineFeatures", online: "OnlineFeatures", span: Span) -> int:
    """Materialize the span and correct online windows; returns the number of corrections.

    The online store never goes back in time: newer windows of the stream stay.
    """
    offline.sync()
    newest = offline.newest(span.start, span.end)
    if not newest:
        log.warning(
            "no offline windows from %s to %s: nothing to materialize", span.start, span.end
        )
        return 0
    online.apply()
    online.materialize(span.start, span.end)
    # Feast skips windows that are stored already, even if late clicks changed their values.
    corrected = online.correct(newest)
    offline.discard(span.prefix)
    return len(corrected)


def run(
    batch: "LakeBatch", offline: "OfflineFeatures", online: "OnlineFeatures", span: Span
) -> dict[str, str]:
    """Run all steps; returns day -> sha256 of its file."""
    days = write_days(offline, span, compute_windows(batch, offline, span))
    corrected = load_online(offline, online, span)
    log.info("backfill of %d days done, %d online windows corrected", len(days), corrected)
    return days


def _scalar(moment: datetime, like: "pa.ChunkedArray") -> "pa.Scalar":
    import pyarrow as pa

    return pa.scalar(moment, like.type)
