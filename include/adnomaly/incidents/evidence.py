"""Attribute an incident to values with an excess of clicks, and estimate the cost of the excess."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

DIMENSIONS: Final = ("campaign_id", "ad_id", "user_agent", "user_id_hash")
SHOWN: Final = 8
"""Values saved per dimension."""
MIN_CLICKS: Final = 5
"""A value with fewer clicks is never suspect."""
DEVIATIONS: Final = 3.0
"""A value is suspect this many Poisson standard deviations above its expected count."""

VOLUME: Final = "all clicks"


class ValueCounts(NamedTuple):
    """One value of a dimension: clicks and mean CPC in the incident, and clicks before it."""

    value: str
    clicks: int
    cpc: float
    before: int


class SuspectValue(msgspec.Struct, frozen=True):
    """One value of a dimension. Shares are of all clicks of the entity.

    Attributes:
        usual_share: share before the incident; None without earlier clicks.
        excess: clicks above the expected count; 0 when not suspect.
    """

    value: str
    clicks: int
    share: float
    usual_share: float | None
    excess: float


class Evidence(msgspec.Struct, frozen=True):
    """Stored with the incident, so it outlives the clicks.

    Attributes:
        expected_clicks: expected by the detector for the time of the incident.
        past_minutes: length of the reference time before the incident.
        basis: dimension with the most suspect clicks, or `all clicks`.
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

    The clicks of a value above its expected count are suspect if the excess is significant: 3
    standard deviations of a Poisson count, at least 5 clicks. The basis is the dimension with the
    most suspect clicks, or the total volume.

    Args:
        groups: by dimension, every value in the incident.
        minutes, past_minutes: lengths of the incident and of the reference time before it; 0
            reference minutes make no value suspect.
        cpc: mean CPC of all clicks of the incident.
        before: clicks of the entity in the reference time.
    """
    clicks = sum(g.clicks for g in next(iter(groups.values()), ()))
    scale = minutes / past_minutes if past_minutes and before else 0.0
    touches: dict[str, list[SuspectValue]] = {}
    volume = max(0.0, clicks - expected_clicks) if expected_clicks else 0.0
    # Suspect clicks and their cost, by dimension.
    suspects = {VOLUME: (volume, volume * cpc)}
    for name, values in groups.items():
        excess = {g.value: _excess(g, scale) for g in values}
        suspects[name] = sum(excess.values()), sum(excess[g.value] * g.cpc for g in values)
        touches[name] = _top(values, excess, clicks, before if scale else 0)
    basis = max(suspects, key=lambda name: suspects[name][0])
    suspect_clicks, money = suspects[basis]
    return Evidence(
        clicks,
        expected_clicks,
        past_minutes,
        round(min(suspect_clicks, clicks), 1),
        round(money, 4),
        basis,
        touches,
    )


def _top(
    values: Sequence[ValueCounts], excess: Mapping[str, float], clicks: int, before: int
) -> list[SuspectValue]:
    """The values with the largest excess. `clicks` and `before` are totals of the entity."""
    top = sorted(values, key=lambda g: (-excess[g.value], -g.clicks, g.value))[:SHOWN]
    return [
        SuspectValue(
            g.value,
            g.clicks,
            g.clicks / max(1, clicks),
            g.before / before if before else None,
            round(excess[g.value], 1),
        )
        for g in top
    ]


def _excess(group: ValueCounts, scale: float) -> float:
    """Clicks above the expected count if that is significant, else 0."""
    if not scale:
        return 0.0
    expected = group.before * scale
    limit = expected + DEVIATIONS * (expected + 1) ** 0.5
    return group.clicks - expected if group.clicks >= MIN_CLICKS and group.clicks > limit else 0.0
