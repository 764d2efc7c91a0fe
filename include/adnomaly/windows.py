"""The definition of a window: 5 minutes, sliding by 1 minute, per geo and platform, in event time.

`window_sql` is the SELECT that Flink runs in stream and in batch; only its source table differs.
`parse_window` is the only decoder of messages from outside, `check_window` the only rule about
them.
"""

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, get_type_hints

import msgspec

from adnomaly.events import Click
from adnomaly.features import ENTITY, FEATURES, PYTHON_TYPES, Feature

SIZE: Final = timedelta(minutes=5)
SLIDE: Final = timedelta(minutes=1)
OUT_OF_ORDERNESS: Final = timedelta(seconds=30)
"""Watermark delay of the stream; clicks that arrive later are counted as late."""

TTL: Final = timedelta(days=7)
"""Age at which online features expire."""

MAX_AHEAD: Final = timedelta(hours=1)
"""Windows that end later than this after the present are refused."""
MAX_BYTES: Final = 2000
"""Of a message; a window has a few hundred."""

_TIMES: Final = ("window_start", "window_end")
_REQUIRED: Final = (*_TIMES, *ENTITY, *(f.name for f in FEATURES if f.required))
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_INT64: Final = 2**63 - 1
_MALFORMED: Final = (
    TypeError,
    AttributeError,
    OverflowError,
    OSError,
    RecursionError,
    msgspec.MsgspecError,
)
"""Errors of decoding a message that is no window, besides ValueError."""

_ENTITY_TYPES: Final = get_type_hints(Click, include_extras=True)


class TrafficWindow(msgspec.Struct, frozen=True, kw_only=True):
    """Aggregates of the clicks of one entity with window_start <= event time < window_end."""

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
        ValueError: naming the field that is missing or null, or a time that is no ISO 8601.
        TypeError, OverflowError, RecursionError, msgspec.MsgspecError: it is no JSON object, or a
            field has another type.
    """
    raw = msgspec.json.decode(message, type=dict[str, Any])
    for name in _REQUIRED:
        if raw.get(name) is None:
            raise ValueError(f"{name}: must be given, got {message[:200]!r}")
    times = {name: _time(name, raw[name]) for name in _TIMES}
    features = {f.name: raw[f.name] for f in FEATURES if raw.get(f.name) is not None}
    return TrafficWindow(**times, geo=raw["geo"], platform=raw["platform"], features=features)


def _time(name: str, text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise ValueError(f"{name}: must be a time in ISO 8601, got {text[:100]!r}") from None


def check_window(window: TrafficWindow) -> None:
    """Check times, entity and the range of each feature.

    Raises:
        ValueError: naming the field, its value and the rule.
    """
    start, end = window.window_start, window.window_end
    if end - start != SIZE or end.timestamp() % SLIDE.total_seconds() or start < _EPOCH:
        raise ValueError(
            f"window_end: must be a full minute since 1970, {SIZE} after window_start, got {time_text(end)}"
        )
    for name in ENTITY:
        try:
            msgspec.convert(getattr(window, name), _ENTITY_TYPES[name])
        except msgspec.ValidationError as error:
            raise ValueError(f"{name}: {error}, got {getattr(window, name)!r}"[:300]) from None
    for feature in FEATURES:
        value = window.features.get(feature.name)
        if value is not None:
            _check_feature(feature, value)


def _check_feature(feature: Feature, value: object) -> None:
    whole = feature.dtype == "int64"
    high = feature.high if feature.high is not None else _MAX_INT64 if whole else math.inf
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not feature.low <= value <= high
        or not math.isfinite(value)
        or (whole and value != int(value))
    ):
        kind = "a whole number" if whole else "a number"
        raise ValueError(
            f"{feature.name}: must be {kind} from {feature.low} to {high}, got {value!r}"[:300]
        )


def parse_window(message: bytes | None, *, now: datetime) -> TrafficWindow:
    """A message of the topic `features`, decoded and checked; each feature has the type of the
    feature list.

    Raises:
        ValueError: naming the field, its value and the rule.
    """
    if message is None or len(message) > MAX_BYTES:
        size = "null" if message is None else f"{len(message)} bytes"
        raise ValueError(f"message: must have 1 to {MAX_BYTES} bytes, got {size}")
    try:
        window = decode_window(message)
        check_window(window)
    except _MALFORMED as error:
        raise ValueError(f"message: must be a window as a JSON object ({error})"[:300]) from None
    if window.window_end > now + MAX_AHEAD:
        raise ValueError(
            f"window_end: must not be more than {MAX_AHEAD} ahead, got {time_text(window.window_end)}"
        )
    types = {f.name: PYTHON_TYPES[f.dtype] for f in FEATURES}
    features = {name: types[name](value) for name, value in window.features.items()}
    return msgspec.structs.replace(window, features=features)


def day_of(window_end: datetime) -> date:
    """UTC day of a window's last instant: one that ends at midnight belongs to the day before."""
    return (window_end - timedelta(microseconds=1)).date()


def window_sql(source: str, features: Sequence[Feature] = FEATURES) -> str:
    """The SELECT of every window of `source`, a Flink table with the click columns and the time
    attribute `event_time`.

    Columns: window_start, window_end, geo, platform, then the features in their order.
    """
    groupings = list(dict.fromkeys(f.over for f in features if f.over))
    plain = [f"{f.sql} AS {f.name}" for f in features if f.over is None]
    hop = _hop(source)
    keys = ("window_start", "window_end", *ENTITY)
    if not groupings:
        return _select(keys, plain, hop, ", ".join(keys))
    # One pass in one chain over all clicks of a window and over its groups. Separate branches,
    # joined again, would close
    # a window by the fastest of them when traffic returns after a pause.
    entity = ", ".join(ENTITY)
    sets = ", ".join(f"({part})" for part in (entity, *(f"{entity}, {over}" for over in groupings)))
    inner = [
        *groupings,
        *plain,
        "COUNT(*) AS clicks",
        f"GROUPING_ID({', '.join(groupings)}) AS kind",
    ]
    parts = _select(keys, inner, hop, f"window_start, window_end, GROUPING SETS ({sets})")
    # Each bit of `kind` marks a column that is not grouped by.
    everything = 2 ** len(groupings) - 1
    kinds = {over: everything - 2 ** (len(groupings) - 1 - i) for i, over in enumerate(groupings)}
    outer = [_from_groups(f, kinds, everything) for f in features]
    return _select(keys, outer, f"(\n{parts}\n)", ", ".join(keys))


def _from_groups(feature: Feature, kinds: dict[str, int], everything: int) -> str:
    """A feature of a window from the rows of its groups."""
    all_clicks = f"FILTER (WHERE kind = {everything})"
    if feature.over is None:
        return f"MAX({feature.name}) {all_clicks} AS {feature.name}"
    groups = f"FILTER (WHERE kind = {kinds[feature.over]})"
    return f"CAST({feature.sql} {groups} AS DOUBLE) / MAX(clicks) {all_clicks} AS {feature.name}"


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
