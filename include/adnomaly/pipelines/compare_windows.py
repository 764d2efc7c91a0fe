"""Compare a day's `feature_aggregates` of the stream with the offline windows of the batch."""

import logging
from collections import Counter
from collections.abc import Sequence, Set
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from adnomaly.errors import NothingCompared, WindowsDiffer
from adnomaly.features import FEATURES, VOLUME, Feature
from adnomaly.stores.comparisons import DayComparison
from adnomaly.windows import OUT_OF_ORDERNESS, SIZE, TrafficWindow, time_text

if TYPE_CHECKING:
    from adnomaly.stores.comparisons import ComparisonStore
    from adnomaly.stores.lake import Lake
    from adnomaly.stores.offline_features import OfflineFeatures
    from adnomaly.stores.windows import WindowStore

TOLERANCE: Final = 1e-9
"""Averages differ by the order of their sums."""

MAX_LATE_SHARE: Final = 0.01
"""A larger share of late clicks is a failure of the stream and explains nothing."""

MAX_SKIPPED: Final = 3
"""Days in a row without a comparison that are a failure."""

_HOUR = timedelta(hours=1)
_LISTED = 50

Kind = Literal["missing", "extra", "differs", "late", "open"]

log = logging.getLogger(__name__)


class Difference(NamedTuple):
    """One window on which stream and batch disagree.

    `missing`: not in the stream; `extra`: not in the batch; `differs`: other values.
    Explained are `late` (the batch has clicks that were too late for the stream) and `open` (the
    watermark has not passed it yet).
    """

    kind: Kind
    window_end: datetime
    entity: str
    detail: str
    late_clicks: int = 0

    @property
    def explained(self) -> bool:
        return self.kind in ("late", "open")

    def __str__(self) -> str:
        return f"{self.kind:8} {time_text(self.window_end)} {self.entity:12} {self.detail}"


def compare(
    stream: Sequence[TrafficWindow],
    batch: Sequence[TrafficWindow],
    *,
    newest: datetime,
    features: Sequence[Feature] = FEATURES,
) -> list[Difference]:
    """Every window on which stream and batch disagree, by window_end and entity.

    Counts must be equal, averages within TOLERANCE. A window with fewer clicks in the stream is
    `late` if clicks with values in range make up the difference.

    Args:
        newest: window_end of the newest window that the stream has closed.
    """
    streamed, computed = (
        {(w.window_end, w.key): w for w in windows} for windows in (stream, batch)
    )
    # The last click of the batch lies in its last window; its watermark closes no later ones.
    last_end = max((end for end, _ in computed), default=newest)
    closable = max(newest, last_end - SIZE - OUT_OF_ORDERNESS)
    differences = []
    for key in sorted(streamed.keys() | computed.keys()):
        left, right = streamed.get(key), computed.get(key)
        if left and right:
            difference = _difference(left, right, features)
        elif left:
            difference = Difference("extra", *key, f"{_count(left):,} clicks in the stream")
        else:
            kind: Kind = "missing" if key[0] <= closable else "open"
            count = _count(computed[key])
            difference = Difference(kind, *key, f"{count:,} clicks in the batch")
        if difference:
            differences.append(difference)
    return differences


def _difference(
    stream: TrafficWindow, batch: TrafficWindow, features: Sequence[Feature]
) -> Difference | None:
    names = [
        f.name
        for f in features
        if not _equal(f, stream.features.get(f.name), batch.features.get(f.name))
    ]
    if not names:
        return None
    detail = ", ".join(
        f"{n} {stream.features.get(n)} against {batch.features.get(n)}" for n in names
    )
    late = _count(batch) - _count(stream)
    if late > 0 and all(_adds_up(f, stream, batch, late) for f in features):
        return Difference(
            "late", batch.window_end, batch.key, f"{late} late clicks: {detail}", late
        )
    return Difference("differs", batch.window_end, batch.key, detail)


def _equal(feature: Feature, one: float | None, other: float | None) -> bool:
    if one is None or other is None or feature.dtype == "int64":
        return one == other
    return abs(one - other) <= TOLERANCE


def _adds_up(feature: Feature, stream: TrafficWindow, batch: TrafficWindow, late: int) -> bool:
    """Whether `late` clicks with values in range explain the difference of two averages."""
    if not feature.sql.startswith("AVG("):
        return True
    before, after = (w.features[feature.name] * _count(w) for w in (stream, batch))
    slack = TOLERANCE * _count(batch)
    high = float("inf") if feature.high is None else feature.high * late + slack
    return feature.low * late - slack <= after - before <= high


def _count(window: TrafficWindow) -> int:
    return int(window.features[VOLUME])


def without_history(
    windows: Sequence[TrafficWindow], hours: Set[datetime], *, since: datetime
) -> list[TrafficWindow]:
    """The windows since `since` that overlap no hour of generated history."""
    last_instant = timedelta(microseconds=1)
    return [
        w
        for w in windows
        if w.window_start >= since
        and hours.isdisjoint({_hour(w.window_start), _hour(w.window_end - last_instant)})
    ]


def _hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def run(
    day: date,
    stream: "WindowStore",
    offline: "OfflineFeatures",
    lake: "Lake",
    results: "ComparisonStore",
    *,
    now: datetime,
    max_late_share: float = MAX_LATE_SHARE,
) -> dict[str, int]:
    """Compare one UTC day and store the result; returns the number of windows compared and of
    differences by kind.

    Only windows made of the stream's clicks are compared: those after the start of the stream and
    outside the hours of generated history.

    Raises:
        NothingCompared: no window could be compared; the message says why.
        WindowsDiffer: unexplained differences, or too many late clicks; the message lists them.
            Also when stream and batch have windows of which none could be compared, and when
            nothing was compared for MAX_SKIPPED days in a row.
    """
    try:
        summary = _compare_day(day, stream, offline, lake, max_late_share)
    except NothingCompared as reason:
        results.save(DayComparison(day, "skipped", 0, str(reason), now))
        if (skipped := results.skipped_before(day) + 1) >= MAX_SKIPPED:
            raise WindowsDiffer(f"nothing was compared for {skipped} days: {reason}") from None
        raise
    except WindowsDiffer as error:
        results.save(DayComparison(day, "differs", 0, str(error).splitlines()[0], now))
        raise
    results.save(DayComparison(day, "equal", summary["compared"], "", now))
    log.info("%s: %s", day, summary)
    return summary


def _compare_day(
    day: date,
    stream: "WindowStore",
    offline: "OfflineFeatures",
    lake: "Lake",
    max_late_share: float,
) -> dict[str, int]:
    start = datetime.combine(day, time(), UTC)
    end = start + timedelta(days=1)
    span = stream.span()
    if span is None:
        raise NothingCompared("the stream has closed no window yet")
    offline.sync()
    streamed, computed = stream.windows(start, end), offline.windows(start, end)
    if not streamed and not computed:
        raise NothingCompared(f"neither stream nor batch has windows of {day}")
    if day not in offline.days():
        raise WindowsDiffer(f"{day} has no offline windows; run backfill_features for it first")
    hours = lake.history_hours(start - _HOUR, end)
    ours, theirs = (without_history(w, hours, since=span[0]) for w in (streamed, computed))
    if not ours and not theirs:
        why = f"all windows of {day} are of generated history, or before the stream's first"
        if streamed and computed:
            raise WindowsDiffer(
                f"{why}, though the stream has {len(streamed):,} and the batch {len(computed):,}"
            )
        raise NothingCompared(why)
    differences = compare(ours, theirs, newest=span[1])
    _raise_unexplained(day, differences, sum(map(_count, theirs)), max_late_share)
    compared = len({(w.window_end, w.key) for w in (*ours, *theirs)})
    return {"compared": compared, **Counter(str(d.kind) for d in differences)}


def _raise_unexplained(
    day: date, differences: Sequence[Difference], clicks: int, max_late_share: float
) -> None:
    """Log explained differences; raise the others.

    Raises:
        WindowsDiffer: naming the windows.
    """
    explained = [d for d in differences if d.explained]
    for difference in explained[:_LISTED]:
        log.info("%s", difference)
    late = sum(d.late_clicks for d in explained)
    unexplained = [d for d in differences if not d.explained]
    if late > max_late_share * clicks:
        unexplained = list(differences)
    if unexplained:
        more = f"\n... and {len(unexplained) - _LISTED} more" if len(unexplained) > _LISTED else ""
        lines = "\n".join(map(str, unexplained[:_LISTED]))
        raise WindowsDiffer(
            f"{day}: {len(unexplained)} windows differ "
            f"({late} late clicks of {clicks:,} in windows)\n{lines}{more}"
        )
