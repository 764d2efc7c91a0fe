"""The one model of normal traffic: how many clicks, and how they look on average, per minute and entity.

Live traffic, catch-up, history and simulated windows all draw from it, so they can be compared.
A *minute* is an integer: minutes since 1970-01-01T00:00Z. An *entity* is one geo on one platform.
"""

import re
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cached_property
from typing import Self, get_args, get_type_hints

import numpy as np
from scipy.special import ndtr

from adnomaly.errors import InvalidSetting
from adnomaly.events import Click
from adnomaly.settings import Settings

PLATFORMS: tuple[str, ...] = get_args(get_type_hints(Click)["platform"])
"""What the event schema allows."""

CTR_LEVEL_SPREAD = 0.20
BOUNCE_LEVEL_SPREAD = 0.08
"""Standard deviation of the natural logarithm of an entity's own level: entities differ, as they do in life."""

_LEVELS = 1
"""Stream number of the levels' random numbers."""


def minute_of(moment: datetime) -> int:
    """The minute that holds `moment` (which must know its time zone)."""
    return int(moment.timestamp() // 60)


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Parameters of normal traffic; the fields mean what the settings of the same name mean.

    `base_eps` is the mean over a weekday. Volume and CTR are highest at `peak_hour_utc`, the bounce rate is lowest there.
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
    hash_salt: bytes = field(repr=False)

    def __post_init__(self) -> None:
        unknown = [p for p in self.platforms if p not in PLATFORMS] + [g for g in self.geos if not re.fullmatch("[A-Z]{2}", g)]
        if unknown:
            raise InvalidSetting(
                f"GEO_WEIGHTS needs two capitals per geo and PLATFORM_WEIGHTS one of {', '.join(PLATFORMS)}; got {', '.join(unknown)}"
            )

    @classmethod
    def from_settings(cls, settings: Settings, **changes: object) -> Self:
        """The traffic that the settings describe, with single fields replaced by `changes`."""
        values = {f.name: getattr(settings, f.name) for f in fields(cls) if f.name != "hash_salt"}
        return cls(**(values | {"hash_salt": settings.hash_salt.get_secret_value().encode()} | changes))

    @cached_property
    def entities(self) -> tuple[tuple[str, str], ...]:
        """(geo, platform) of every entity; its position is the entity's number everywhere in this package."""
        return tuple((geo, platform) for geo in self.geos for platform in self.platforms)

    @cached_property
    def shares(self) -> np.ndarray:
        """Share of all clicks per entity, (E,), summing to 1."""
        product = np.outer(list(self.geos.values()), list(self.platforms.values())).ravel()
        return product / product.sum()

    @cached_property
    def ctr_levels(self) -> np.ndarray:
        """The entity's own CTR against `ctr_base`, (E,)."""
        return self._levels(CTR_LEVEL_SPREAD, 0)

    @cached_property
    def bounce_levels(self) -> np.ndarray:
        """The entity's own bounce rate against `bounce_base`, (E,)."""
        return self._levels(BOUNCE_LEVEL_SPREAD, 1)

    def entity(self, geo: str, platform: str) -> int:
        """Number of an entity.

        Raises:
            ValueError: the settings have no such geo or platform.
        """
        try:
            return self.entities.index((geo, platform))
        except ValueError:
            raise ValueError(f"no traffic for {geo} {platform}: use a geo of GEO_WEIGHTS and a platform of PLATFORM_WEIGHTS") from None

    def volume(self, minutes: np.ndarray) -> np.ndarray:
        """Expected clicks in each minute over all entities, same shape as `minutes`."""
        weekday = (minutes // 1440 + 3) % 7  # 1970-01-01 was a Thursday
        return 60 * self.base_eps * (1 + self.diurnal_ampl * self._swing(minutes)) * np.where(weekday >= 5, self.weekend_mult, 1.0)

    def rates(self, minutes: np.ndarray) -> np.ndarray:
        """Expected clicks per minute and entity, (M, E)."""
        return self.volume(minutes)[:, None] * self.shares

    def ctr_means(self, minutes: np.ndarray) -> np.ndarray:
        """Mean CTR of a normal click per minute and entity before clipping to [0, 1], (M, E)."""
        return np.outer(self.ctr_base * (1 + self.ctr_diurnal_ampl * self._swing(minutes)), self.ctr_levels)

    def bounce_means(self, minutes: np.ndarray) -> np.ndarray:
        """Mean bounce rate of a normal click per minute and entity before clipping to [0, 1], (M, E)."""
        return np.outer(self.bounce_base * (1 - self.bounce_diurnal_ampl * self._swing(minutes)), self.bounce_levels)

    def _swing(self, minutes: np.ndarray) -> np.ndarray:
        """+1 at the peak hour, -1 twelve hours from it. Taken in the middle of each minute."""
        hours = (np.asarray(minutes) % 1440 + 0.5) / 60
        return np.cos((hours - self.peak_hour_utc) * (2 * np.pi / 24))

    def _levels(self, spread: float, column: int) -> np.ndarray:
        rng = random_numbers(self.seed, 0, _LEVELS)
        return np.exp(spread * rng.standard_normal((2, len(self.entities))).clip(-2, 2))[column]


def random_numbers(seed: int, minute: int, stream: int = 0) -> np.random.Generator:
    """The random numbers of one minute; `stream` keeps independent uses of the same minute apart."""
    return np.random.default_rng((seed % 2**64, minute, stream))


def clipped_moments(mean: np.ndarray, std: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of a normal number after clipping to [0, 1]."""
    if std == 0:
        return np.clip(mean, 0, 1), np.zeros_like(mean)
    low, high = -mean / std, (1 - mean) / std
    inside, above = ndtr(high) - ndtr(low), 1 - ndtr(high)
    at_low, at_high = _density(low), _density(high)
    first = mean * inside + std * (at_low - at_high) + above
    second = (mean**2 + std**2) * inside + std * (mean * at_low - (mean + 1) * at_high) + above
    return first, np.maximum(second - first**2, 0)


def _density(z: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
