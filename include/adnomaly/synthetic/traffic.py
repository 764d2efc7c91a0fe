"""The model of normal traffic: rates and means of clicks per minute and entity.

Live traffic, catch-up, history and simulated windows draw from it.
A *minute* is an integer: minutes since 1970-01-01T00:00Z. An *entity* is one geo on one platform.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Final, Self, get_args, get_type_hints

import numpy as np

from adnomaly.arrays import Floats, Ints
from adnomaly.errors import InvalidSetting
from adnomaly.events import Click
from adnomaly.settings import Settings
from adnomaly.synthetic.variation import (
    DAY,
    LOCAL_HOURS,
    REFERENCE_GEO,
    BenignSurge,
    Variation,
    holidays,
    local_offsets,
    surges_between,
    variation,
)

PLATFORMS: tuple[str, ...] = get_args(get_type_hints(Click)["platform"])
"""The platforms that the event schema allows."""

CTR_LEVEL_SPREAD = 0.20
BOUNCE_LEVEL_SPREAD = 0.08
"""Standard deviation of the natural logarithm of an entity's level."""

MEAN_POOL = 0.7
"""Mean share of active users when roughness is above 0, which leaves room for more."""

PLAIN: Final[Mapping[str, Any]] = {
    "world_roughness": 0.0,
    "local_clocks": False,
    "holiday_mult": 1.0,
    "promotions_per_day": 0.0,
}
HARD: Final[Mapping[str, Any]] = {
    "world_roughness": 1.0,
    "local_clocks": True,
    "holiday_mult": 0.7,
    "promotions_per_day": 2.2,
}

_LEVELS = 1
"""Stream number of the levels' random numbers."""


def minute_of(moment: datetime) -> int:
    """The minute that contains `moment`, which must have a time zone."""
    return int(moment.timestamp() // 60)


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Parameters of normal traffic, named like their settings.

    `base_eps` is the mean over a weekday. Volume and CTR are highest at `peak_hour_utc`, the bounce
    rate is lowest there; with `local_clocks`, peaks, weekends and holidays follow local time.
    """

    base_eps: float
    diurnal_ampl: float
    peak_hour_utc: float
    weekend_mult: float
    geos: dict[str, float]
    platforms: dict[str, float]
    ctr_base: float
    ctr_diurnal_ampl: float
    bounce_base: float
    bounce_diurnal_ampl: float
    noise_std_ctr: float
    noise_std_bounce: float
    noise_std_cpc: float
    seed: int
    world_roughness: float
    local_clocks: bool
    holiday_mult: float
    promotions_per_day: float
    hash_salt: bytes = field(repr=False)

    def __post_init__(self) -> None:
        unknown = [p for p in self.platforms if p not in PLATFORMS] + [
            g for g in self.geos if not re.fullmatch("[A-Z]{2}", g)
        ]
        if unknown:
            raise InvalidSetting(
                "GEO_WEIGHTS needs two capitals per geo and PLATFORM_WEIGHTS one of "
                f"{', '.join(PLATFORMS)}; got {', '.join(unknown)}"
            )

    @classmethod
    def from_settings(cls, settings: Settings, **changes: object) -> Self:
        """The traffic of the settings, with fields replaced by `changes`."""
        values = {f.name: getattr(settings, f.name) for f in fields(cls) if f.name != "hash_salt"}
        return cls(
            **(values | {"hash_salt": settings.hash_salt.get_secret_value().encode()} | changes)
        )

    @cached_property
    def entities(self) -> tuple[tuple[str, str], ...]:
        """(geo, platform) of every entity; the position is the entity's number in this package."""
        return tuple((geo, platform) for geo in self.geos for platform in self.platforms)

    @cached_property
    def shares(self) -> Floats:
        """Share of all clicks per entity, (E,), summing to 1."""
        product = np.outer(list(self.geos.values()), list(self.platforms.values())).ravel()
        shares: Floats = product / product.sum()
        return shares

    @cached_property
    def ctr_levels(self) -> Floats:
        """CTR of each entity as a multiple of `ctr_base`, (E,)."""
        return self._levels(CTR_LEVEL_SPREAD, 0)

    @cached_property
    def bounce_levels(self) -> Floats:
        """Bounce rate of each entity as a multiple of `bounce_base`, (E,)."""
        return self._levels(BOUNCE_LEVEL_SPREAD, 1)

    def entity(self, geo: str, platform: str) -> int:
        """The number of an entity.

        Raises:
            ValueError: the settings have no such geo or platform.
        """
        try:
            return self.entities.index((geo, platform))
        except ValueError:
            raise ValueError(
                f"no traffic for {geo} {platform}: "
                "use a geo of GEO_WEIGHTS and a platform of PLATFORM_WEIGHTS"
            ) from None

    def hard(self) -> Self:
        """The same traffic in the hard scenario, with every kind of variation."""
        return replace(self, **HARD)

    def plain(self) -> Self:
        """The same traffic in the plain scenario: one clock, no noise but that of single clicks."""
        return replace(self, **PLAIN)

    def volume(self, minutes: Ints) -> Floats:
        """Expected clicks in each minute over all entities, (M,)."""
        total: Floats = self.rates(minutes).sum(axis=1)
        return total

    def rates(self, minutes: Ints) -> Floats:
        """Expected clicks per minute and entity, (M, E), benign surges included.

        The minutes must be consecutive.
        """
        local = self._local(minutes)
        weekday = (local // DAY + 3) % 7  # 1970-01-01 was a Thursday
        rates: Floats = (
            60 * self.base_eps * self.shares * (1 + self.diurnal_ampl * self._swing(minutes))
        )
        rates = (
            rates
            * np.where(weekday >= 5, self.weekend_mult, 1.0)
            * np.exp(self.variation(minutes).volume)
        )
        if self.holiday_mult != 1:
            by_geo = holidays(self._local_of_geos(minutes), list(self.geos))
            rates[np.repeat(by_geo, len(self.platforms), axis=1)] *= self.holiday_mult
        first = int(minutes[0])
        for surge in self.benign_surges(first, int(minutes[-1]) + 1):
            rows = slice(max(0, surge.start - first), surge.end - first)
            rates[rows, surge.entity] *= 1 + surge.lift
        return rates

    def ctr_means(self, minutes: Ints) -> Floats:
        """Mean CTR of a normal click before clipping to [0, 1], (M, E)."""
        plain = self.ctr_base * (1 + self.ctr_diurnal_ampl * self._swing(minutes)) * self.ctr_levels
        means: Floats = plain * np.exp(self.variation(minutes).ctr)
        return means

    def bounce_means(self, minutes: Ints) -> Floats:
        """Mean bounce rate of a normal click before clipping to [0, 1], (M, E)."""
        plain = (
            self.bounce_base
            * (1 - self.bounce_diurnal_ampl * self._swing(minutes))
            * self.bounce_levels
        )
        return plain + self.variation(minutes).bounce

    def pool(self, minutes: Ints) -> Floats:
        """Share of each entity's users that is active, (M, E), in (0, 1]; 1 without roughness."""
        mean = MEAN_POOL if self.world_roughness > 0 else 1.0
        return np.minimum(mean * np.exp(self.variation(minutes).pool), 1.0)

    def leader(self, minutes: Ints) -> Floats:
        """Exponent that shifts clicks to large campaigns, (M, E); 1 changes nothing."""
        return np.exp(self.variation(minutes).leader)

    def benign_surges(self, first: int, last: int) -> list[BenignSurge]:
        """The benign surges that overlap the minutes [first, last)."""
        return surges_between(self.seed, first, last, len(self.entities), self.promotions_per_day)

    def variation(self, minutes: Ints) -> Variation:
        """Deviations of consecutive minutes from the plain model; the last result is cached."""
        key = (int(minutes[0]), len(minutes))
        cached = self._last_variation.get(key)
        if cached is None:
            cached = variation(self.seed, minutes, len(self.entities), self.world_roughness)
            self._last_variation.clear()
            self._last_variation[key] = cached
        return cached

    @cached_property
    def _last_variation(self) -> dict[tuple[int, int], Variation]:
        """The last variation, by its first minute and number of minutes."""
        return {}

    def _local_of_geos(self, minutes: Ints) -> Ints:
        """Minutes of local time per geo, (M, G)."""
        offsets = (
            local_offsets(list(self.geos))
            if self.local_clocks
            else np.zeros(len(self.geos), np.int64)
        )
        return minutes[:, None] + offsets

    def _local(self, minutes: Ints) -> Ints:
        """Minutes of local time per entity, (M, E)."""
        return np.repeat(self._local_of_geos(minutes), len(self.platforms), axis=1)

    def _swing(self, minutes: Ints) -> Floats:
        """+1 at the peak hour, -1 twelve hours from it, (M, E), at the middle of each minute."""
        hours = (self._local(minutes) % DAY + 0.5) / 60
        peak = self.peak_hour_utc + (LOCAL_HOURS[REFERENCE_GEO] if self.local_clocks else 0.0)
        swing: Floats = np.cos((hours - peak) * (2 * np.pi / 24))
        return swing

    def _levels(self, spread: float, column: int) -> Floats:
        rng = random_numbers(self.seed, 0, _LEVELS)
        noise = rng.standard_normal((2, len(self.entities))).clip(-2, 2)
        levels: Floats = np.exp(spread * noise)[column]
        return levels


def random_numbers(seed: int, minute: int, stream: int = 0) -> np.random.Generator:
    """The random numbers of one minute; `stream` separates independent uses of the same minute."""
    return np.random.default_rng((seed % 2**64, minute, stream))
