"""The one definition of a window: 5 minutes, sliding by 1 minute, per geo and platform, in event time.

`window_sql` is the SELECT that Flink runs in stream and in batch; only the table it reads differs.
"""

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final, get_type_hints

import msgspec

from adnomaly.events import Click
from adnomaly.features import ENTITY, FEATURES, Feature

SIZE: Final = timedelta(minutes=5)
SLIDE: Final = timedelta(minutes=1)
OUT_OF_ORDERNESS: Final = timedelta(seconds=30)
"""How long the stream waits for clicks that arrive out of order; later ones are counted as late."""

TTL: Final = timedelta(days=7)
"""An older window says nothing about the present traffic of its entity."""

_ENTITY_TYPES: Final = get_type_hints(Click, include_extras=True)


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
        times = {
            name: datetime.fromisoformat(raw[name]).astimezone(UTC)
            for name in ("window_start", "window_end")
        }
        features = {
            f.name: raw[f.name] for f in FEATURES if f.required or raw.get(f.name) is not None
        }
        return TrafficWindow(**times, geo=raw["geo"], platform=raw["platform"], features=features)
    except (KeyError, TypeError) as error:
        raise ValueError(f"features message lacks {error}: {message[:200]!r}") from None


def check_window(window: TrafficWindow) -> None:
    """Whether this can be a window of our traffic: of our length, at a full minute, each feature a number in its range.

    Raises:
        ValueError: naming the field, its value and the rule.
    """
    if (
        window.window_end - window.window_start != SIZE
        or window.window_end.timestamp() % SLIDE.total_seconds()
    ):
        raise ValueError(
            f"window_end: must be a full minute, {SIZE} after window_start, got {time_text(window.window_end)}"
        )
    for name in ENTITY:
        try:
            msgspec.convert(getattr(window, name), _ENTITY_TYPES[name])
        except msgspec.ValidationError as error:
            raise ValueError(f"{name}: {error}, got {getattr(window, name)!r}"[:300]) from None
    for feature in FEATURES:
        value = window.features.get(feature.name)
        if value is None:
            continue
        number = (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        )
        high = math.inf if feature.high is None else feature.high
        if (
            not number
            or not feature.low <= value <= high
            or (feature.dtype == "int64" and value != int(value))
        ):
            rule = f"{'a whole number' if feature.dtype == 'int64' else 'a number'} from {feature.low} to {high}"
            raise ValueError(f"{feature.name}: must be {rule}, got {value!r}"[:300])


def day_of(window_end: datetime) -> date:
    """The UTC day a window belongs to: that of its last instant, so the window that ends at midnight belongs to the day before."""
    return (window_end - timedelta(microseconds=1)).date()


def windows_of(moment: datetime) -> list[tuple[datetime, datetime]]:
    """The five (start, end) windows that hold one moment, oldest first."""
    slide = SLIDE.total_seconds()
    newest = datetime.fromtimestamp(moment.timestamp() // slide * slide, UTC)
    starts = [newest - i * SLIDE for i in range(SIZE // SLIDE)]
    return [(start, start + SIZE) for start in reversed(starts)]


def window_sql(source: str, features: Sequence[Feature] = FEATURES) -> str:
    """The SELECT of every window of `source`, a Flink table with the click columns and the time attribute `event_time`.

    Columns: window_start, window_end, geo, platform, then the features in their order.
    """
    groupings = list(dict.fromkeys(f.over for f in features if f.over))
    plain = [f"{f.sql} AS {f.name}" for f in features if f.over is None]
    hop = _hop(source)
    keys = ("window_start", "window_end", *ENTITY)
    if not groupings:
        return _select(keys, plain, hop, ", ".join(keys))
    # One pass in one chain: all of a window's clicks, and its clicks by each column. Separate branches put together again would
    # close a window by the fastest of them when traffic comes back after a pause.
    entity = ", ".join(ENTITY)
    sets = ", ".join(f"({part})" for part in (entity, *(f"{entity}, {over}" for over in groupings)))
    inner = [
        *groupings,
        *plain,
        "COUNT(*) AS clicks",
        f"GROUPING_ID({', '.join(groupings)}) AS kind",
    ]
    parts = _select(keys, inner, hop, f"window_start, window_end, GROUPING SETS ({sets})")
    # Each bit of the kind says that its column is not grouped by.
    everything = 2 ** len(groupings) - 1
    kinds = {over: everything - 2 ** (len(groupings) - 1 - i) for i, over in enumerate(groupings)}
    outer = [_together(f, kinds, everything) for f in features]
    return _select(keys, outer, f"(\n{parts}\n)", ", ".join(keys))


def _together(feature: Feature, kinds: dict[str, int], everything: int) -> str:
    """A feature of a window from the rows of its groups."""
    whole = f"FILTER (WHERE kind = {everything})"
    if feature.over is None:
        return f"MAX({feature.name}) {whole} AS {feature.name}"
    return f"CAST({feature.sql} FILTER (WHERE kind = {kinds[feature.over]}) AS DOUBLE) / MAX(clicks) {whole} AS {feature.name}"


def _select(keys: Sequence[str], columns: Sequence[str], table: str, group_by: str) -> str:
    listed = ",\n  ".join(columns)
    return f"SELECT {', '.join(keys)},\n  {listed}\nFROM {table}\nGROUP BY {group_by}"


def _hop(source: str) -> str:
    # HOP takes the slide first, then the size.
    return (
        f"TABLE(HOP(TABLE {source}, DESCRIPTOR(event_time), {_interval(SLIDE)}, {_interval(SIZE)}))"
    )


def _interval(duration: timedelta) -> str:
    return f"INTERVAL '{duration // timedelta(minutes=1)}' MINUTE"
