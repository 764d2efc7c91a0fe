"""What an incident touches: whose share of the clicks is larger than usual, and what those clicks cost."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

DIMENSIONS: Final = ("campaign_id", "ad_id", "user_agent", "user_id_hash")
SHOWN: Final = 8
"""Values of each dimension that are kept."""
MIN_CLICKS: Final = 5
"""Clicks below which a value is never suspect."""
DEVIATIONS: Final = 3.0
"""Standard deviations of a count (Poisson) beyond its usual height that make it suspect."""

VOLUME: Final = "all clicks"


class ValueCounts(NamedTuple):
    """The clicks of one value of a dimension: in the incident, at what mean price, and in the time before it."""

    value: str
    clicks: int
    cpc: float
    usual: int


class SuspectValue(msgspec.Struct, frozen=True):
    """One value, in the incident and usually; shares are of all clicks of the entity. `usual_share` is None without a past."""

    value: str
    clicks: int
    share: float
    usual_share: float | None
    excess: float


class Evidence(msgspec.Struct, frozen=True):
    """Kept with the incident, so that it outlives the clicks.

    Attributes:
        expected_clicks: what the detector expected in the incident's time.
        past_minutes: length of the time before it that usual shares come from.
        basis: the dimension in which most clicks are suspect, or `all clicks`.
    """

    clicks: int
    expected_clicks: float | None
    past_minutes: float
    suspect_clicks: float
    money_at_risk: float
    basis: str
    touches: dict[str, list[SuspectValue]]


def attribute_clicks(
    groups: Mapping[str, Sequence[ValueCounts]],
    *,
    minutes: float,
    past_minutes: float,
    expected_clicks: float | None,
    cpc: float,
    before: int,
) -> Evidence:
    """The evidence of an incident.

    A value is suspect with what it has beyond its usual rate, when that is more than chance gives (3 deviations of a Poisson
    count, 5 clicks at least). The dimension with most suspect clicks is the basis, or the volume as a whole.

    Args:
        groups: of each dimension, every value in the incident.
        minutes, past_minutes: lengths of the incident and of the time before it; without a past no value is suspect.
        cpc: mean price of all clicks of the incident.
        before: clicks of the entity in the time before it.
    """
    clicks = sum(g.clicks for g in next(iter(groups.values()), ()))
    scale = minutes / past_minutes if past_minutes and before else 0.0
    touches: dict[str, list[SuspectValue]] = {}
    found = {
        VOLUME: (max(0.0, clicks - expected_clicks), max(0.0, clicks - expected_clicks) * cpc)
        if expected_clicks
        else (0.0, 0.0)
    }
    for name, values in groups.items():
        excess = {g.value: _excess(g, scale) for g in values}
        found[name] = sum(excess.values()), sum(excess[g.value] * g.cpc for g in values)
        shown = sorted(values, key=lambda g: (-excess[g.value], -g.clicks, g.value))[:SHOWN]
        touches[name] = [
            SuspectValue(
                g.value,
                g.clicks,
                g.clicks / max(1, clicks),
                g.usual / before if scale else None,
                round(excess[g.value], 1),
            )
            for g in shown
        ]
    basis = max(found, key=lambda name: found[name][0])
    suspects, money = found[basis]
    return Evidence(
        clicks,
        expected_clicks,
        past_minutes,
        round(min(suspects, clicks), 1),
        round(money, 4),
        basis,
        touches,
    )


def _excess(group: ValueCounts, scale: float) -> float:
    if not scale:
        return 0.0
    usual = group.usual * scale
    return (
        group.clicks - usual
        if group.clicks >= MIN_CLICKS and group.clicks > usual + DEVIATIONS * (usual + 1) ** 0.5
        else 0.0
    )
