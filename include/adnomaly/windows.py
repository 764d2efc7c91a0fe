"""The one definition of a window: 5 minutes, sliding by 1 minute, per geo and platform, in event time.

`window_sql` is the SELECT that Flink runs in stream and in batch; only the table it reads differs.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

import msgspec

from adnomaly.features import ENTITY, FEATURES, FLINK_TYPES, Feature

SIZE: Final = timedelta(minutes=5)
SLIDE: Final = timedelta(minutes=1)
OUT_OF_ORDERNESS: Final = timedelta(seconds=30)
"""How long the stream waits for clicks that arrive out of order; later ones are counted as late."""


class TrafficWindow(msgspec.Struct, frozen=True, kw_only=True):
    """One closed window of one entity: the aggregates of every click with window_start <= event time < window_end."""

    window_start: datetime
    window_end: datetime
    geo: str
    platform: str
    features: dict[str, float]

    @property
    def key(self) -> str:
        return f"{self.geo}|{self.platform}"


def time_text(moment: datetime) -> str:
    """`2026-11-22T00:05:00Z`, as written in the topic `features`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def decode_window(message: bytes) -> TrafficWindow:
    """A message of the topic `features`.

    Raises:
        ValueError: naming the missing or malformed field.
    """
    raw = msgspec.json.decode(message)
    try:
        times = {name: datetime.fromisoformat(raw[name]).astimezone(UTC) for name in ("window_start", "window_end")}
        features = {f.name: raw[f.name] for f in FEATURES if f.required or raw.get(f.name) is not None}
        return TrafficWindow(**times, geo=raw["geo"], platform=raw["platform"], features=features)
    except (KeyError, TypeError) as error:
        raise ValueError(f"features message lacks {error}: {message[:200]!r}") from None


def day_of(window_end: datetime) -> date:
    """The UTC day a window belongs to: that of its last instant, so the window that ends at midnight belongs to the day before."""
    return (window_end - timedelta(microseconds=1)).date()


def windows_of(moment: datetime) -> list[tuple[datetime, datetime]]:
    """The five (start, end) windows that hold one moment, oldest first."""
    slide = SLIDE.total_seconds()
    newest = datetime.fromtimestamp(moment.timestamp() // slide * slide, UTC)
    starts = [newest - i * SLIDE for i in range(SIZE // SLIDE)]
    return [(start, start + SIZE) for start in reversed(starts)]


def cell_views(source: str, features: Sequence[Feature] = FEATURES) -> list[str]:
    """The views that `window_sql` reads beside `source`: clicks per minute and value of each column that features group by.

    Minutes are the smallest cells: a user's five windows are put together from five minutes, not from every click five times.
    """
    entity = ", ".join(ENTITY)
    tumble = f"TUMBLE(TABLE {source}, DESCRIPTOR(event_time), {_interval(SLIDE)})"
    return [
        f"CREATE VIEW {_cells(source, over)} AS SELECT {entity}, {over}, COUNT(*) AS clicks, window_time AS cell_time\n"
        f"FROM TABLE({tumble})\nGROUP BY window_start, window_end, window_time, {entity}, {over}"
        for over in _groupings(features)
    ]


def window_sql(source: str, features: Sequence[Feature] = FEATURES) -> str:
    """The SELECT of every window of `source`, a Flink table with the click columns and the time attribute `event_time`.

    Columns: window_start, window_end, geo, platform, then the features in their order. It reads the views of `cell_views`, too.
    """
    plain = [f for f in features if f.over is None]
    aggregates = [f"{f.sql} AS {f.name}" for f in plain]
    groupings = _groupings(features)
    if not groupings:
        return _select(aggregates, _hop(source, "event_time"))
    grouped = [f for f in features if f.over]
    # Parts with one row per window each, side by side, then put together: no join, no DISTINCT.
    unknown = [f"CAST(NULL AS DOUBLE) AS {f.name}" for f in grouped]
    parts = [_select([*aggregates, f"CAST(COUNT(*) AS DOUBLE) AS {_CLICKS}", *unknown], _hop(source, "event_time"))]
    for over in groupings:
        sizes = _select(["SUM(clicks) AS clicks"], _hop(_cells(source, over), "cell_time"), over)
        empty = [f"CAST(NULL AS {FLINK_TYPES[f.dtype]}) AS {f.name}" for f in plain]
        here = [f"CAST({f.sql if f.over == over else 'NULL'} AS DOUBLE) AS {f.name}" for f in grouped]
        parts.append(_select([*empty, f"CAST(NULL AS DOUBLE) AS {_CLICKS}", *here], f"(\n{sizes}\n)"))
    union = "\nUNION ALL\n".join(parts)
    together = [f"MAX({f.name}) / MAX({_CLICKS}) AS {f.name}" if f.over else f"MAX({f.name}) AS {f.name}" for f in features]
    return _select(together, f"(\n{union}\n)")


_CLICKS: Final = "clicks_in_window"


def _groupings(features: Sequence[Feature]) -> list[str]:
    return list(dict.fromkeys(f.over for f in features if f.over))


def _cells(source: str, over: str) -> str:
    return f"{source}_by_{over}"


def _select(columns: Sequence[str], table: str, group_by: str = "") -> str:
    keys = ", ".join(("window_start", "window_end", *ENTITY, *filter(None, [group_by])))
    listed = ",\n  ".join(columns)
    return f"SELECT {keys},\n  {listed}\nFROM {table}\nGROUP BY {keys}"


def _hop(source: str, time: str) -> str:
    # HOP takes the slide first, then the size.
    return f"TABLE(HOP(TABLE {source}, DESCRIPTOR({time}), {_interval(SLIDE)}, {_interval(SIZE)}))"


def _interval(duration: timedelta) -> str:
    return f"INTERVAL '{duration // timedelta(minutes=1)}' MINUTE"
