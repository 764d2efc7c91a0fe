"""The independent oracle: windows of the sent clicks in plain Python, without code of the SQL.

Minutes are integers since the epoch; the minute at which a window ends identifies it. Sums are
exact (`fsum`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from math import fsum
from typing import NamedTuple

Key = tuple[int, str, str]
"""(minute at which the window ends, geo, platform)."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WINDOW_MINUTES = 5


class Sent(NamedTuple):
    """One click as it was sent. `at` is its event time, UTC."""

    event_id: str
    at: datetime
    geo: str
    platform: str
    ctr: float
    bounce_rate: float
    cpc: float = 1.0
    user: str = "0123456789abcdef"
    campaign: str = "camp_1"


class Window(NamedTuple):
    ctr_avg: float
    bounce_rate_avg: float
    event_count: int
    cpc_avg: float
    unique_user_ratio: float
    campaign_top_share: float


def minute(moment: datetime) -> int:
    """The minute a moment lies in, counted from the epoch."""
    return (moment - EPOCH) // timedelta(minutes=1)


def moment(number: int) -> datetime:
    """The start of a minute."""
    return EPOCH + timedelta(minutes=number)


def ends(at: datetime) -> range:
    """The minutes at which the windows that hold this moment end."""
    return range(minute(at) + 1, minute(at) + 1 + WINDOW_MINUTES)


def windows_of(at: datetime) -> list[tuple[datetime, datetime]]:
    """The five (start, end) windows that contain a moment, oldest first."""
    return [(moment(end - WINDOW_MINUTES), moment(end)) for end in ends(at)]


def windows(clicks: Iterable[Sent]) -> dict[Key, Window]:
    """Every window that holds at least one click."""
    cells: dict[Key, list[Sent]] = defaultdict(list)
    for click in clicks:
        for end in ends(click.at):
            cells[end, click.geo, click.platform].append(click)
    return {key: aggregate(inside) for key, inside in cells.items()}


def aggregate(inside: list[Sent]) -> Window:
    count = len(inside)
    ctr, bounce, cpc = (
        fsum(values) / count
        for values in zip(*((c.ctr, c.bounce_rate, c.cpc) for c in inside), strict=True)
    )
    users, campaigns = {c.user for c in inside}, Counter(c.campaign for c in inside)
    return Window(ctr, bounce, count, cpc, len(users) / count, max(campaigns.values()) / count)


def without(all_clicks: Iterable[Sent], missed: Mapping[str, int]) -> dict[Key, Window]:
    """The windows of a stream with late clicks.

    `missed` maps an event_id to the number of its windows that it missed, oldest first.
    """
    cells: dict[Key, list[Sent]] = defaultdict(list)
    for click in all_clicks:
        for end in ends(click.at)[missed.get(click.event_id, 0) :]:
            cells[end, click.geo, click.platform].append(click)
    return {key: aggregate(inside) for key, inside in cells.items()}


def closed_before(found: Mapping[Key, Window], last_end: int) -> dict[Key, Window]:
    """The windows that end no later than this minute."""
    return {key: window for key, window in found.items() if key[0] <= last_end}


def differences(
    said: Mapping[Key, Window], true: Mapping[Key, Window], *, tolerance: float = 1e-9
) -> list[str]:
    """One line per window that differs: counts exactly, averages beyond the tolerance."""
    lines = []
    for key in sorted(said.keys() | true.keys()):
        one, other = said.get(key), true.get(key)
        if one is None or other is None:
            lines.append(
                f"{moment(key[0])} {key[1:]}: {'missing' if one is None else 'extra'}, {other or one}"
            )
        elif one.event_count != other.event_count or any(
            abs(a - b) > tolerance for a, b in zip(one, other, strict=True)
        ):
            lines.append(f"{moment(key[0])} {key[1:]}: {one} against {other}")
    return lines


def missed(at: datetime, watermark: datetime) -> int:
    """Number of windows of a click that are already closed.

    A window is closed once the watermark reaches its last millisecond.
    """
    return sum(moment(end) - timedelta(milliseconds=1) <= watermark for end in ends(at))
