"""Did the stream say what the lake says? A day's `feature_aggregates` against the offline windows of the same day."""

import logging
from collections import Counter
from collections.abc import Sequence, Set
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from adnomaly.errors import WindowsDiffer
from adnomaly.features import FEATURES, Feature
from adnomaly.windows import OUT_OF_ORDERNESS, SIZE, TrafficWindow, time_text

if TYPE_CHECKING:
    from adnomaly.stores.lake import Lake
    from adnomaly.stores.offline_features import OfflineFeatures
    from adnomaly.stores.windows import WindowStore

TOLERANCE: Final = 1e-9
"""Averages may differ by the order of their sums."""

MAX_LATE_SHARE: Final = 0.01
"""Late clicks beyond this share of all clicks in the windows are a failure of the stream, not an explanation."""

_HOUR = timedelta(hours=1)
_LISTED = 50

Kind = Literal["missing", "extra", "differs", "late", "open"]

log = logging.getLogger(__name__)


class Difference(NamedTuple):
    """One window on which stream and batch disagree.

    `missing`: the stream lacks it; `extra`: the batch lacks it; `differs`: other values.
    Explained: `late` (the batch has clicks that came too late for the stream) and `open` (no later click has closed it yet).
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
    """Every window on which the two disagree, by window_end and entity.

    Counts must be equal, averages within TOLERANCE. A window with fewer clicks in the stream counts as late when clicks
    with values in range make up the difference.

    Args:
        newest: window_end of the newest window the stream has closed at all.
    """
    streamed, computed = (
        {(w.window_end, w.key): w for w in windows} for windows in (stream, batch)
    )
    # The last click of the batch lies in the last window; what it could not close, no stream can have closed.
    last_end = max((end for end, _ in computed), default=newest)
    closable = max(newest, last_end - SIZE - OUT_OF_ORDERNESS)
    found = []
    for end, entity in sorted(streamed.keys() | computed.keys()):
        there, here = streamed.get((end, entity)), computed.get((end, entity))
        if there is None:
            kind: Kind = "missing" if end <= closable else "open"
            found.append(Difference(kind, end, entity, f"{_count(here):,} clicks in the batch"))
        elif here is None:
            found.append(
                Difference("extra", end, entity, f"{_count(there):,} clicks in the stream")
            )
        elif difference := _differs(there, here, features):
            found.append(difference)
    return found


def _differs(
    stream: TrafficWindow, batch: TrafficWindow, features: Sequence[Feature]
) -> Difference | None:
    names = [
        f.name
        for f in features
        if not _same(f, stream.features.get(f.name), batch.features.get(f.name))
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


def _same(feature: Feature, one: float | None, other: float | None) -> bool:
    if one is None or other is None or feature.dtype == "int64":
        return one == other
    return abs(one - other) <= TOLERANCE


def _adds_up(feature: Feature, stream: TrafficWindow, batch: TrafficWindow, late: int) -> bool:
    """Whether `late` clicks with values in the feature's range turn the stream's average into the batch's."""
    if not feature.sql.startswith("AVG("):
        return True
    total = batch.features[feature.name] * _count(batch) - stream.features[feature.name] * _count(
        stream
    )
    slack = TOLERANCE * _count(batch)
    return (
        feature.low * late - slack
        <= total
        <= (float("inf") if feature.high is None else feature.high * late + slack)
    )


def _count(window: TrafficWindow) -> int:
    return int(window.features["event_count"])


def without_history(
    windows: Sequence[TrafficWindow], hours: Set[datetime], *, since: datetime
) -> list[TrafficWindow]:
    """The windows that only the stream's clicks can be in: begun at `since` or later, and touching no hour of generated history."""
    touched = (
        (w, {_hour(w.window_start), _hour(w.window_end - timedelta(microseconds=1))})
        for w in windows
        if w.window_start >= since
    )
    return [w for w, of in touched if not of & hours]


def _hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def run(
    day: date,
    stream: "WindowStore",
    offline: "OfflineFeatures",
    lake: "Lake",
    *,
    max_late_share: float = MAX_LATE_SHARE,
) -> dict[str, int]:
    """Compare one UTC day; returns how many windows were compared and how many differ, by kind.

    Compared are windows made of the stream's clicks alone: from the first one that began after the stream did, outside
    the hours of generated history.

    Raises:
        WindowsDiffer: differences that late clicks do not explain, or too many late clicks; with the list.
    """
    start = datetime.combine(day, time(), UTC)
    end = start + timedelta(days=1)
    span = stream.span()
    if span is None:
        log.warning("the stream has closed no window yet: nothing to compare")
        return {"compared": 0}
    offline.sync()
    if day not in offline.days():
        raise WindowsDiffer(f"{day} has no offline windows; run backfill_features for it first")
    hours = lake.history_hours(start - _HOUR, end)
    said, computed = (
        without_history(side.windows(start, end), hours, since=span[0])
        for side in (stream, offline)
    )
    differences = compare(said, computed, newest=span[1])
    summary = {
        "compared": len({(w.window_end, w.key) for w in (*said, *computed)}),
        **Counter(d.kind for d in differences),
    }
    _judge(day, differences, sum(map(_count, computed)), max_late_share)
    log.info("%s: %s", day, summary)
    return summary


def _judge(
    day: date, differences: Sequence[Difference], clicks: int, max_late_share: float
) -> None:
    """Log what is explained, raise what is not."""
    explained = [d for d in differences if d.explained]
    for difference in explained[:_LISTED]:
        log.info("%s", difference)
    late = sum(d.late_clicks for d in explained)
    wrong = [d for d in differences if not d.explained]
    if late > max_late_share * clicks:
        wrong = list(differences)
    if wrong:
        more = f"\n... and {len(wrong) - _LISTED} more" if len(wrong) > _LISTED else ""
        lines = "\n".join(map(str, wrong[:_LISTED]))
        raise WindowsDiffer(
            f"{day}: {len(wrong)} windows differ ({late} late clicks of {clicks:,} in windows)\n{lines}{more}"
        )
