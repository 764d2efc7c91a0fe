"""Clicks of whole minutes, as columns of numbers.

Each minute has its own random numbers, from the seed and the minute alone: a minute is the same, event ids included,
whether it is generated live, in catch-up or as history. An attack has its own random numbers too and leaves every
normal click as it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, Self

import numpy as np

from adnomaly.attacks import Attack
from adnomaly.synthetic.population import ADS, ADS_PER_CAMPAIGN, BOTS, CAMPAIGNS, Population
from adnomaly.synthetic.traffic import Traffic, random_numbers

_MINUTE_US = 60_000_000
_BOT_DEVICES = 3


@dataclass(frozen=True, slots=True)
class Clicks:
    """n clicks ordered by time, each field (n,). Numbers index the arrays of `Population` and `Traffic.entities`.

    Attributes:
        time_us: microseconds since 1970 UTC.
        id_bits: 62 random bits of the event id.
    """

    time_us: np.ndarray
    id_bits: np.ndarray
    entity: np.ndarray
    user: np.ndarray
    agent: np.ndarray
    ad: np.ndarray
    cpc: np.ndarray
    ctr: np.ndarray
    conversion: np.ndarray
    bounce: np.ndarray

    def __len__(self) -> int:
        return len(self.time_us)

    def take(self, index: np.ndarray | slice) -> Self:
        """The clicks at `index` (positions, a mask or a slice), in its order."""
        return type(self)(*(getattr(self, f.name)[index] for f in fields(self)))

    @classmethod
    def merge(cls, parts: Sequence[Self]) -> Self:
        """All clicks of `parts`, ordered by time."""
        joined = cls(
            *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls))
        )
        return joined.take(np.argsort(joined.time_us, kind="stable"))


@dataclass(frozen=True, slots=True)
class _Draws:
    """Raw random numbers of n clicks; what they mean is computed for many minutes at once."""

    minute: np.ndarray
    offset_us: np.ndarray
    id_bits: np.ndarray
    uniform: np.ndarray
    normal: np.ndarray

    @classmethod
    def of(cls, rng: np.random.Generator, minute: int, count: int) -> Self:
        offset_us = np.sort((rng.random(count) * _MINUTE_US).astype(np.int64))
        id_bits = rng.integers(0, 2**62, count, dtype=np.uint64)
        return cls(
            np.full(count, minute),
            offset_us,
            id_bits,
            rng.random((4, count)),
            rng.standard_normal((3, count)),
        )

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        return cls(
            *(
                np.concatenate([getattr(part, f.name) for part in parts], axis=-1)
                for f in fields(cls)
            )
        )


class _Meaning(NamedTuple):
    """What n clicks are about, before noise: numbers, means of CTR and bounce rate, and the probability of a conversion."""

    entity: np.ndarray
    user: np.ndarray
    agent: np.ndarray
    ad: np.ndarray
    ctr: np.ndarray
    bounce: np.ndarray
    conversion: np.ndarray | float


class ClickSource:
    """Generates the clicks of one `Traffic`, an hour in a few hundredths of a second at 20 clicks per second."""

    def __init__(self, traffic: Traffic) -> None:
        self.traffic = traffic
        self.population = Population(traffic)

    def clicks(self, first_minute: int, minutes: int, attacks: Sequence[Attack] = ()) -> Clicks:
        """Every click of `minutes` minutes from `first_minute` on, ordered by time."""
        span = np.arange(first_minute, first_minute + minutes)
        draws = _Draws.join(
            [
                self._normal_draws(minute, rate)
                for minute, rate in zip(span.tolist(), self.traffic.volume(span), strict=True)
            ]
        )
        clicks = self._normal_clicks(draws, first_minute, span)
        touching = [
            a
            for a in attacks
            if a.first_minute < first_minute + minutes and a.end_minute > first_minute
        ]
        if not touching:
            return clicks
        added = []
        for attack in touching:
            clicks = self._without_lost(clicks, attack)
            added.append(self._added(attack, span))
        return Clicks.merge([clicks, *added])

    def _normal_draws(self, minute: int, rate: float) -> _Draws:
        rng = random_numbers(self.traffic.seed, minute)
        return _Draws.of(rng, minute, int(rng.poisson(rate)))

    def _normal_clicks(self, draws: _Draws, first_minute: int, span: np.ndarray) -> Clicks:
        row = draws.minute - first_minute
        entity = self._entities(row, span, draws.uniform[0])
        at = (row, entity)
        means = self.traffic.ctr_means(span)[at], self.traffic.bounce_means(span)[at]
        user = self._regular_users(entity, draws.uniform[1], self.traffic.pool(span)[at])
        ad = self._usual_ads(entity, draws.uniform[2], self.traffic.leader(span)[at])
        return self._finish(
            draws,
            _Meaning(
                entity,
                user,
                self.population.agent_of[user],
                ad,
                *means,
                self.population.conversion[entity],
            ),
        )

    def _finish(self, draws: _Draws, meaning: _Meaning) -> Clicks:
        """Noise around the means, clipped to what a click may hold; rounded far below the noise, for short messages."""
        traffic, usual_cpc = self.traffic, self.population.cpc[meaning.ad // ADS_PER_CAMPAIGN]
        return Clicks(
            time_us=draws.minute * _MINUTE_US + draws.offset_us,
            id_bits=draws.id_bits,
            entity=meaning.entity,
            user=meaning.user,
            agent=meaning.agent,
            ad=meaning.ad,
            cpc=np.round(np.maximum(usual_cpc + traffic.noise_std_cpc * draws.normal[0], 0), 4),
            ctr=np.round(np.clip(meaning.ctr + traffic.noise_std_ctr * draws.normal[1], 0, 1), 6),
            conversion=(draws.uniform[3] < meaning.conversion).astype(np.int8),
            bounce=np.round(
                np.clip(meaning.bounce + traffic.noise_std_bounce * draws.normal[2], 0, 1), 6
            ),
        )

    def _entities(self, row: np.ndarray, span: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """The entity of each click by the shares of its minute, looked up in all minutes at once."""
        shares = np.cumsum(self.traffic.rates(span), axis=1)
        steps = shares / shares[:, -1:] + np.arange(len(span))[:, None]
        found = np.searchsorted(steps.ravel(), uniform + row, side="right") - row * shares.shape[1]
        return found.clip(min=0, max=shares.shape[1] - 1)

    def _regular_users(
        self, entity: np.ndarray, uniform: np.ndarray, pool: np.ndarray
    ) -> np.ndarray:
        """Squaring makes activity fall with the root of the rank: a few users come back again and again, most rarely."""
        return self.population.first_user[entity] + (
            self.population.users[entity] * pool * uniform * uniform
        ).astype(np.int64)

    def _usual_ads(self, entity: np.ndarray, uniform: np.ndarray, leader: np.ndarray) -> np.ndarray:
        rank = np.searchsorted(self.population.ad_cdf, uniform**leader, side="right").clip(
            max=ADS - 1
        )
        return self.population.ad_of[entity, rank]

    def _without_lost(self, clicks: Clicks, attack: Attack) -> Clicks:
        if not attack.lost:
            return clicks
        minute = clicks.time_us // _MINUTE_US
        hit = (
            (clicks.entity == self.traffic.entity(attack.geo, attack.platform))
            & (minute >= attack.first_minute)
            & (minute < attack.end_minute)
        )
        # Which click is lost is decided by its own random bits, so it does not depend on how many minutes are generated at once.
        lost = (clicks.id_bits % 100_003) < attack.lost * 100_003
        return clicks.take(~(hit & lost))

    def _added(self, attack: Attack, span: np.ndarray) -> Clicks:
        """The clicks that the attack adds within `span`."""
        number = self.traffic.entity(attack.geo, attack.platform)
        inside = span[(span >= attack.first_minute) & (span < attack.end_minute)]
        rngs = [
            random_numbers(self.traffic.seed, minute, attack.stream) for minute in inside.tolist()
        ]
        rates = self.traffic.rates(inside)[:, number] * attack.extra
        draws = _Draws.join(
            [
                _Draws.of(rng, minute, int(rng.poisson(rate)))
                for rng, minute, rate in zip(rngs, inside.tolist(), rates, strict=True)
            ]
        )
        entity, profile, at = (
            np.full(len(draws.minute), number),
            attack.profile,
            (draws.minute - inside[0], number),
        )
        pool, leader = self.traffic.pool(inside)[at], self.traffic.leader(inside)[at]
        user = (
            self._attackers(attack, draws.uniform[1])
            if profile.users
            else self._regular_users(entity, draws.uniform[1], pool)
        )
        agent = self._one_device(user, number) if profile.users else self.population.agent_of[user]
        ad = (
            self._usual_ads(entity, draws.uniform[2], leader)
            if not profile.campaigns
            else self._few_ads(attack, number, draws.uniform[2])
        )
        conversion = (
            self.population.conversion[number] if profile.conversion is None else profile.conversion
        )
        ctr, bounce = (
            self.traffic.ctr_means(inside)[at] * profile.ctr,
            self.traffic.bounce_means(inside)[at] * profile.bounce,
        )
        return self._finish(draws, _Meaning(entity, user, agent, ad, ctr, bounce, conversion))

    def _attackers(self, attack: Attack, uniform: np.ndarray) -> np.ndarray:
        first = attack.stream % (BOTS - attack.profile.users)
        return self.population.first_bot + first + (attack.profile.users * uniform).astype(np.int64)

    def _one_device(self, user: np.ndarray, number: int) -> np.ndarray:
        """Attackers copy a few devices of the entity's own users."""
        copied = self.population.agent_of[
            self.population.first_user[number] : self.population.first_user[number] + _BOT_DEVICES
        ]
        return copied[user % len(copied)]

    def _few_ads(self, attack: Attack, number: int, uniform: np.ndarray) -> np.ndarray:
        """All ads of a few campaigns of middle size."""
        first = CAMPAIGNS // 4 + attack.stream % (CAMPAIGNS // 2)
        rank = first * ADS_PER_CAMPAIGN + (
            attack.profile.campaigns * ADS_PER_CAMPAIGN * uniform
        ).astype(np.int64)
        return self.population.ad_of[number, rank]
