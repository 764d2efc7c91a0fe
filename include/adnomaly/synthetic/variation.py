"""Variation of normal traffic: local clocks, autocorrelated noise, drift, holidays, benign surges.

A function of the seed and the minute alone: a minute is the same whether it is generated live, in
catch-up or as history. Noise is drawn at knots and interpolated linearly; knots from half an hour
to two weeks apart give noise that is autocorrelated like that of real series.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from adnomaly.arrays import Bools, Floats, Ints

DAY: Final = 1440

LOCAL_HOURS: Final = {
    "US": -5.0, "CA": -5.0, "BR": -3.0, "UK": 0.0, "FR": 1.0, "DE": 1.0, "IT": 1.0, "IN": 5.5, "JP": 9.0, "AU": 10.0,
}  # fmt: skip
"""Standard time of each geo against UTC, of its capital or most of its people; others use UTC."""
REFERENCE_GEO: Final = "US"
"""Its traffic peaks at PEAK_HOUR_UTC; other geos peak at the same local hour."""

HOLIDAYS: Final[dict[tuple[int, int], tuple[str, ...]]] = {
    (1, 1): tuple(LOCAL_HOURS), (5, 1): ("BR", "FR", "DE", "IT"), (7, 4): ("US",), (7, 14): ("FR",), (8, 15): ("FR", "IT", "IN"),
    (10, 3): ("DE",), (12, 25): ("US", "CA", "BR", "UK", "FR", "DE", "IT", "AU"), (12, 26): ("UK", "DE", "AU", "CA"),
}  # fmt: skip
"""Public holidays with a fixed date, by month and day."""

COMMON_SHARE: Final = 0.3
"""Share of the variance of the noise that all entities share."""

SURGE_LIFT: Final = (0.25, 1.0)
SURGE_MINUTES: Final = (60, 360)


class Noise(NamedTuple):
    """Standard deviations of noise whose knots are `minutes` apart, at roughness 1.

    Attributes:
        volume, ctr: of the natural logarithm.
        bounce: of the rate itself.
        pool: of the logarithm of the number of active users.
        leader: of the logarithm of the exponent that shifts clicks to large campaigns.
    """

    minutes: int
    volume: float
    ctr: float
    bounce: float
    pool: float
    leader: float


NOISE: Final = (
    Noise(30, volume=0.050, ctr=0.020, bounce=0.008, pool=0.06, leader=0.03),
    Noise(120, volume=0.065, ctr=0.025, bounce=0.009, pool=0.06, leader=0.03),
    Noise(DAY, volume=0.100, ctr=0.030, bounce=0.010, pool=0.10, leader=0.04),
    Noise(14 * DAY, volume=0.080, ctr=0.030, bounce=0.005, pool=0.10, leader=0.04),
)
"""Sized from real 5-minute series of counts and rates: a day deviates by 10 %, an hour by 8 %."""

_LINE_GAIN: Final = float(np.sqrt(1.5))
"""Linear interpolation of independent knots has two thirds of their variance on average."""
_BLOCK: Final = 64


@dataclass(frozen=True, slots=True)
class BenignSurge:
    """More clicks of an entity's normal users in [start, end), minutes since 1970 UTC."""

    entity: int
    start: int
    end: int
    lift: float


class Variation(NamedTuple):
    """Deviations from the plain model, each (M, E): logarithms, for `bounce` the rate itself."""

    volume: Floats
    ctr: Floats
    bounce: Floats
    pool: Floats
    leader: Floats


def variation(seed: int, minutes: Ints, entities: int, roughness: float) -> Variation:
    """Noise of consecutive minutes; zeros at roughness 0."""
    total = np.zeros((5, len(minutes), entities))
    if roughness > 0:
        for number, noise in enumerate(NOISE):
            total += np.array(noise[1:])[:, None, None] * _lines(
                seed, number, noise.minutes, minutes, entities
            )
    return Variation(*(roughness * total))


def _lines(seed: int, number: int, spacing: int, minutes: Ints, entities: int) -> Floats:
    """Standard noise of five kinds, (5, M, E), interpolated between knots."""
    first, last = int(minutes[0]) // spacing, int(minutes[-1]) // spacing + 1
    blocks = range(first // _BLOCK, last // _BLOCK + 1)
    knots = np.concatenate([_knots(seed, number, block, entities) for block in blocks], axis=1)
    at = (minutes[:, None] - blocks[0] * _BLOCK * spacing) / spacing
    below = np.floor(at).astype(np.int64)[:, 0]
    share = (at - below[:, None])[None]
    above = np.minimum(below + 1, knots.shape[1] - 1)
    lines: Floats = knots[:, below] * (1 - share) + knots[:, above] * share
    return lines


@lru_cache(maxsize=4096)
def _knots(seed: int, number: int, block: int, entities: int) -> Floats:
    """Standard normal knots (5, 64, E) with a common part."""
    rng = np.random.default_rng((seed % 2**64, number, block % 2**63, 77))
    single = rng.standard_normal((5, _BLOCK, entities))
    common = rng.standard_normal((5, _BLOCK, 1))
    knots: Floats = _LINE_GAIN * (
        np.sqrt(1 - COMMON_SHARE) * single + np.sqrt(COMMON_SHARE) * common
    )
    return knots


def local_offsets(geos: list[str]) -> Ints:
    """Minutes that each geo's clock is ahead of UTC, (G,) int64."""
    return np.array([round(60 * LOCAL_HOURS.get(geo, 0.0)) for geo in geos], np.int64)


def holidays(local_minutes: Ints, geos: list[str]) -> Bools:
    """Whether each minute of local time (M, G) is a public holiday of its geo."""
    days = local_minutes // DAY
    holiday = np.zeros(days.shape, bool)
    for day in np.unique(days).tolist():
        moment = date(1970, 1, 1) + timedelta(days=day)
        observed = HOLIDAYS.get((moment.month, moment.day), ())
        for column, geo in enumerate(geos):
            if geo in observed:
                holiday[:, column] |= days[:, column] == day
    return holiday


@lru_cache(maxsize=4096)
def surges_of_day(seed: int, day: int, entities: int, per_day: float) -> tuple[BenignSurge, ...]:
    """The benign surges that begin on one UTC day (days since 1970)."""
    rng = np.random.default_rng((seed % 2**64, day % 2**63, 99))
    surges = []
    for _ in range(int(rng.poisson(per_day))):
        # The order of draws is part of the traffic of a seed.
        start = day * DAY + int(rng.integers(DAY))
        length = int(rng.integers(*SURGE_MINUTES, endpoint=True))
        entity, lift = int(rng.integers(entities)), float(rng.uniform(*SURGE_LIFT))
        surges.append(BenignSurge(entity, start, start + length, lift))
    return tuple(surges)


def surges_between(
    seed: int, first: int, last: int, entities: int, per_day: float
) -> list[BenignSurge]:
    """The benign surges that overlap the minutes [first, last), by start."""
    if per_day <= 0:
        return []
    days = range((first - SURGE_MINUTES[1]) // DAY, last // DAY + 1)
    surges = [
        surge
        for day in days
        for surge in surges_of_day(seed, day, entities, per_day)
        if surge.start < last and surge.end > first
    ]
    return sorted(surges, key=lambda surge: (surge.start, surge.entity))


def moment_of(minute: int) -> datetime:
    """Start of a minute."""
    return datetime.fromtimestamp(minute * 60, UTC)
