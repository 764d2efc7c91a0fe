"""Clicks of whole minutes.

Each minute has random numbers of its own, from the seed and the minute alone: a minute is the
same, event ids included, whether it is generated live, in catch-up or as history. An attack has
random numbers of its own, too, and leaves every normal click unchanged.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from adnomaly.arrays import Floats, Ints
from adnomaly.attacks import Attack
from adnomaly.synthetic.clicks import MINUTE_US, Clicks, Draws
from adnomaly.synthetic.population import ADS, ADS_PER_CAMPAIGN, BOTS, CAMPAIGNS, Population
from adnomaly.synthetic.traffic import Traffic, random_numbers

_BOT_DEVICES = 3


class _Attributes(NamedTuple):
    """Attributes of n clicks before noise; `ctr`, `bounce` and `conversion` are means."""

    entity: Ints
    user: Ints
    agent: Ints
    ad: Ints
    ctr: Floats
    bounce: Floats
    conversion: Floats | float


class ClickSource:
    """Generate the clicks of one `Traffic`: an hour at 20 clicks per second in about 50 ms."""

    def __init__(self, traffic: Traffic) -> None:
        self.traffic = traffic
        self.population = Population(traffic)

    def clicks(self, first_minute: int, minutes: int, attacks: Sequence[Attack] = ()) -> Clicks:
        """Every click of `minutes` minutes from `first_minute` on, ordered by time."""
        span = np.arange(first_minute, first_minute + minutes)
        draws = Draws.join(
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
        for attack in touching:
            clicks = self._without_lost(clicks, attack)
        return Clicks.merge([clicks, *(self._added(attack, span) for attack in touching)])

    def _normal_draws(self, minute: int, rate: float) -> Draws:
        rng = random_numbers(self.traffic.seed, minute)
        return Draws.of(rng, minute, int(rng.poisson(rate)))

    def _normal_clicks(self, draws: Draws, first_minute: int, span: Ints) -> Clicks:
        row = draws.minute - first_minute
        entity = self._entities(row, span, draws.uniform[0])
        at = (row, entity)
        means = self.traffic.ctr_means(span)[at], self.traffic.bounce_means(span)[at]
        user = self._regular_users(entity, draws.uniform[1], self.traffic.pool(span)[at])
        ad = self._regular_ads(entity, draws.uniform[2], self.traffic.leader(span)[at])
        return self._finish(
            draws,
            _Attributes(
                entity,
                user,
                self.population.agent_of[user],
                ad,
                *means,
                self.population.conversion[entity],
            ),
        )

    def _finish(self, draws: Draws, attributes: _Attributes) -> Clicks:
        """Add noise, clip to valid ranges, and round far below the noise for short messages."""
        traffic, cpc = self.traffic, self.population.cpc[attributes.ad // ADS_PER_CAMPAIGN]
        return Clicks(
            time_us=draws.minute * MINUTE_US + draws.offset_us,
            id_bits=draws.id_bits,
            entity=attributes.entity,
            user=attributes.user,
            agent=attributes.agent,
            ad=attributes.ad,
            cpc=np.round(np.maximum(cpc + traffic.noise_std_cpc * draws.normal[0], 0), 4),
            ctr=np.round(
                np.clip(attributes.ctr + traffic.noise_std_ctr * draws.normal[1], 0, 1), 6
            ),
            conversion=(draws.uniform[3] < attributes.conversion).astype(np.int8),
            bounce=np.round(
                np.clip(attributes.bounce + traffic.noise_std_bounce * draws.normal[2], 0, 1), 6
            ),
        )

    def _entities(self, row: Ints, span: Ints, uniform: Floats) -> Ints:
        """The entity of each click by the shares of its minute, for all minutes at once."""
        shares = np.cumsum(self.traffic.rates(span), axis=1)
        steps = shares / shares[:, -1:] + np.arange(len(span))[:, None]
        position = np.searchsorted(steps.ravel(), uniform + row, side="right")
        entity: Ints = (position - row * shares.shape[1]).clip(min=0, max=shares.shape[1] - 1)
        return entity

    def _regular_users(self, entity: Ints, uniform: Floats, pool: Floats) -> Ints:
        """Users whose activity falls with the root of the rank, by squaring: few return often."""
        rank = (self.population.users[entity] * pool * uniform * uniform).astype(np.int64)
        user: Ints = self.population.first_user[entity] + rank
        return user

    def _regular_ads(self, entity: Ints, uniform: Floats, leader: Floats) -> Ints:
        rank = np.searchsorted(self.population.ad_cdf, uniform**leader, side="right")
        ad: Ints = self.population.ad_of[entity, rank.clip(max=ADS - 1)]
        return ad

    def _without_lost(self, clicks: Clicks, attack: Attack) -> Clicks:
        if not attack.lost:
            return clicks
        minute = clicks.time_us // MINUTE_US
        hit = (
            (clicks.entity == self.traffic.entity(attack.geo, attack.platform))
            & (minute >= attack.first_minute)
            & (minute < attack.end_minute)
        )
        # Decided by the random bits of the click, so independent of the generated span.
        lost = (clicks.id_bits % 100_003) < attack.lost * 100_003
        return clicks.take(~(hit & lost))

    def _added(self, attack: Attack, span: Ints) -> Clicks:
        """The clicks that the attack adds within `span`."""
        number = self.traffic.entity(attack.geo, attack.platform)
        inside = span[(span >= attack.first_minute) & (span < attack.end_minute)]
        rates = self.traffic.rates(inside)[:, number] * attack.extra
        draws = Draws.join(
            [
                self._attack_draws(attack, minute, rate)
                for minute, rate in zip(inside.tolist(), rates, strict=True)
            ]
        )
        return self._finish(draws, self._attack_attributes(attack, draws, inside, number))

    def _attack_draws(self, attack: Attack, minute: int, rate: float) -> Draws:
        rng = random_numbers(self.traffic.seed, minute, attack.stream)
        return Draws.of(rng, minute, int(rng.poisson(rate)))

    def _attack_attributes(
        self, attack: Attack, draws: Draws, inside: Ints, number: int
    ) -> _Attributes:
        profile, at = attack.profile, (draws.minute - inside[0], number)
        entity = np.full(len(draws.minute), number)
        if profile.users:
            user = self._attackers(attack, draws.uniform[1])
            agent = self._one_device(user, number)
        else:
            user = self._regular_users(entity, draws.uniform[1], self.traffic.pool(inside)[at])
            agent = self.population.agent_of[user]
        if profile.campaigns:
            ad = self._few_ads(attack, number, draws.uniform[2])
        else:
            ad = self._regular_ads(entity, draws.uniform[2], self.traffic.leader(inside)[at])
        conversion = profile.conversion
        return _Attributes(
            entity,
            user,
            agent,
            ad,
            ctr=self.traffic.ctr_means(inside)[at] * profile.ctr,
            bounce=self.traffic.bounce_means(inside)[at] * profile.bounce,
            conversion=self.population.conversion[number] if conversion is None else conversion,
        )

    def _attackers(self, attack: Attack, uniform: Floats) -> Ints:
        first = attack.stream % (BOTS - attack.profile.users)
        return self.population.first_bot + first + (attack.profile.users * uniform).astype(np.int64)

    def _one_device(self, user: Ints, number: int) -> Ints:
        """Attackers copy a few devices of the entity's users."""
        first = self.population.first_user[number]
        copied = self.population.agent_of[first : first + _BOT_DEVICES]
        agent: Ints = copied[user % len(copied)]
        return agent

    def _few_ads(self, attack: Attack, number: int, uniform: Floats) -> Ints:
        """All ads of a few campaigns of medium size."""
        first = CAMPAIGNS // 4 + attack.stream % (CAMPAIGNS // 2)
        place = (attack.profile.campaigns * ADS_PER_CAMPAIGN * uniform).astype(np.int64)
        ad: Ints = self.population.ad_of[number, first * ADS_PER_CAMPAIGN + place]
        return ad
