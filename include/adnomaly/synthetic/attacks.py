"""Plan attacks within a span of synthetic traffic."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from adnomaly.attack_kinds import ATTACKS, KINDS
from adnomaly.attacks import Attack
from adnomaly.synthetic.traffic import Traffic, minute_of, random_numbers

MAX_DRAWS: Final = 200
"""Attempts to place one attack."""


def plan_attacks(
    traffic: Traffic,
    *,
    start: datetime,
    end: datetime,
    count: int,
    seed: int,
    kinds: Sequence[str] = ATTACKS,
    strengths: tuple[float, float] = (0.7, 1.5),
    gap: timedelta = timedelta(hours=1),
) -> list[Attack]:
    """`count` attacks within [start, end), sorted by start; kinds in turn, the rest at random.

    Lengths are 15 to 90 minutes times the factor of the kind. Two attacks on one entity are at
    least `gap` apart.

    Raises:
        ValueError: they do not fit.
    """
    rng = random_numbers(seed, count, 2)
    planned: list[Attack] = []
    for i in range(count):
        kind = kinds[i % len(kinds)]
        drawn = (_draw(rng, traffic, kind, start, end, strengths) for _ in range(MAX_DRAWS))
        attack = next((a for a in drawn if _fits(a, planned, end, gap)), None)
        if attack is None:
            raise ValueError(
                f"{count} attacks do not fit between {start} and {end}: "
                "plan fewer attacks or a longer span"
            )
        planned.append(attack)
    return sorted(planned, key=lambda a: (a.start, a.geo, a.platform))


def _draw(
    rng: np.random.Generator,
    traffic: Traffic,
    kind: str,
    start: datetime,
    end: datetime,
    strengths: tuple[float, float],
) -> Attack:
    geo, platform = traffic.entities[rng.integers(len(traffic.entities))]
    length = max(6, round(int(rng.integers(15, 91)) * KINDS[kind].length))
    first = minute_of(start) + int(rng.integers(max(1, minute_of(end) - minute_of(start))))
    begin = datetime.fromtimestamp(first * 60, UTC)
    return Attack(
        kind=kind,
        geo=geo,
        platform=platform,
        start=begin,
        end=begin + timedelta(minutes=length),
        strength=round(float(rng.uniform(*strengths)), 2),
    )


def _fits(attack: Attack, planned: Iterable[Attack], end: datetime, gap: timedelta) -> bool:
    same = (a for a in planned if (a.geo, a.platform) == (attack.geo, attack.platform))
    return attack.end <= end and all(
        attack.start >= a.end + gap or attack.end + gap <= a.start for a in same
    )
