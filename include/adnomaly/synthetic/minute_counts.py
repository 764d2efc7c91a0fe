"""Simulated minutes per entity, and their sums over windows: clicks, users, largest campaign.

Clicks are Poisson, sums are normal with the exact moments of clicks. Users click independently, so
the number of distinct users has a known mean and variance, given their activities; so have bots.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from scipy.special import ndtr

from adnomaly.arrays import Floats, Ints
from adnomaly.attacks import Attack
from adnomaly.synthetic.population import ADS_PER_CAMPAIGN, Population
from adnomaly.synthetic.traffic import Traffic
from adnomaly.windows import SIZE, SLIDE

WIDTH: Final = SIZE // SLIDE
LEADERS: Final = 4
"""Campaigns that can be the largest of a window without an attack."""
ACTIVITIES: Final = 2000
"""Ranks of users over which means are taken."""
_MIN_ACTIVITY, _MAX_ACTIVITY = 1e-5, 100.0


class Cells(NamedTuple):
    """Counts and sums per minute and entity, each (M, E); leaders (M, E, K).

    Attributes:
        rate: expected clicks of regular users.
        regular: clicks of regular users.
        pool: active users.
        bots, bot_users: clicks of attackers, and the number of attackers.
        leaders: clicks on each of the largest campaigns.
        drained: clicks of attackers on one of their target campaigns.
        noise: standard normal noise of the number of distinct users.
    """

    rate: Floats
    clicks: Floats
    ctr: Floats
    bounce: Floats
    regular: Floats
    pool: Floats
    bots: Floats
    bot_users: Floats
    leaders: Floats
    drained: Floats
    noise: Floats


def simulate_cells(
    traffic: Traffic, first: int, count: int, seed: int, attacks: Sequence[Attack]
) -> Cells:
    """The minutes [first, first + count), attacks included."""
    rng = np.random.default_rng((seed % 2**64, first, count))
    minutes = np.arange(first, first + count)
    rates, ctr, bounce = (
        traffic.rates(minutes),
        traffic.ctr_means(minutes),
        traffic.bounce_means(minutes),
    )
    population = Population(traffic)
    delivered = np.ones_like(rates)
    attacked = [(attack, _rows(traffic, attack, first)) for attack in attacks]
    for attack, at in attacked:
        delivered[at] *= 1 - attack.lost
    regular, ctr_sum, bounce_sum = _draw(rng, traffic, rates * delivered, ctr, bounce)
    shares = _leading_shares(traffic, population, minutes)
    cells = Cells(
        rate=rates * delivered,
        clicks=regular.copy(),
        ctr=ctr_sum,
        bounce=bounce_sum,
        regular=regular,
        pool=traffic.pool(minutes) * population.users,
        bots=np.zeros_like(rates),
        bot_users=np.zeros_like(rates),
        leaders=rng.binomial(regular.astype(np.int64)[..., None], shares).astype(np.float64),
        drained=np.zeros_like(rates),
        noise=np.asarray(rng.standard_normal(rates.shape)),
    )
    for attack, at in attacked:
        if attack.extra:
            _add(rng, traffic, cells, attack, at, (rates[at], ctr[at], bounce[at], shares[at]))
    return cells


def _rows(traffic: Traffic, attack: Attack, first: int) -> tuple[slice, int]:
    """The minutes and the entity of an attack, as an index into (M, E)."""
    minutes = slice(max(0, attack.first_minute - first), max(0, attack.end_minute - first))
    return minutes, traffic.entity(attack.geo, attack.platform)


def _add(
    rng: np.random.Generator,
    traffic: Traffic,
    cells: Cells,
    attack: Attack,
    at: tuple[slice, int],
    normal: tuple[Floats, Floats, Floats, Floats],
) -> None:
    """Add an attack's clicks to its minutes, given the entity's normal rates, means and shares."""
    rates, ctr, bounce, shares = normal
    kind = attack.profile
    clicks, *sums = _draw(rng, traffic, rates * attack.extra, ctr * kind.ctr, bounce * kind.bounce)
    for cell, more in zip((cells.clicks, cells.ctr, cells.bounce), (clicks, *sums), strict=True):
        cell[at] += more
    if kind.campaigns:
        cells.drained[at] += rng.binomial(clicks.astype(np.int64), 1 / kind.campaigns)
    else:
        cells.leaders[at] += rng.binomial(clicks.astype(np.int64)[:, None], shares)
    if kind.users:
        cells.bots[at] += clicks
        cells.bot_users[at] = kind.users
    else:
        cells.regular[at] += clicks
        cells.rate[at] += rates * attack.extra


def _draw(
    rng: np.random.Generator,
    traffic: Traffic,
    rates: Floats,
    ctr: Floats,
    bounce: Floats,
) -> tuple[Floats, Floats, Floats]:
    clicks = rng.poisson(rates).astype(np.float64)
    sums = [
        clicks * mean + np.sqrt(clicks * variance) * rng.standard_normal(clicks.shape)
        for mean, variance in (
            clipped_moments(ctr, traffic.noise_std_ctr),
            clipped_moments(bounce, traffic.noise_std_bounce),
        )
    ]
    return clicks, sums[0], sums[1]


def _leading_shares(traffic: Traffic, population: Population, minutes: Ints) -> Floats:
    """Share of each of the largest campaigns, (M, E, K)."""
    edges = np.concatenate(
        [[0.0], population.ad_cdf[ADS_PER_CAMPAIGN - 1 :: ADS_PER_CAMPAIGN][:LEADERS]]
    )
    bent = edges ** (1 / traffic.leader(minutes)[..., None])
    return np.diff(bent, axis=-1)


def distinct_users(traffic: Traffic, cells: Cells) -> Floats:
    """Users with a click in each window, (M - 4, E): at least 1, at most its clicks."""
    clicks, pool = roll(cells.regular), cells.pool[WIDTH // 2 : len(cells.pool) - WIDTH // 2]
    activity = np.log(np.clip(roll(cells.rate) / pool, _MIN_ACTIVITY, _MAX_ACTIVITY))
    grid, *moments = _activities()
    mean, variance, covariance = (np.interp(activity, grid, part) * pool for part in moments)
    expected = np.exp(activity) * pool
    std = np.sqrt(np.maximum(variance - covariance**2 / expected, 0))
    drawn = (
        mean
        + covariance / expected * (clicks - expected)
        + std * roll(cells.noise) / np.sqrt(WIDTH)
    )
    users = np.clip(np.round(drawn), np.minimum(1, clicks), clicks)
    bots = np.max(
        [cells.bot_users[i : len(cells.bot_users) - WIDTH + 1 + i] for i in range(WIDTH)], axis=0
    )
    clicks_of_bots = roll(cells.bots)
    active = np.where(bots > 0, bots * -np.expm1(-clicks_of_bots / np.maximum(bots, 1)), 0)
    total: Floats = users + np.minimum(np.round(active), clicks_of_bots)
    return total


@lru_cache(maxsize=1)
def _activities() -> tuple[Floats, Floats, Floats, Floats]:
    """Per user, by the logarithm of clicks per user, each (400,).

    The grid, the share of users with a click, its variance and its covariance with the clicks.
    A user's activity falls with the root of the rank: 1 / (2 sqrt(u)) of the mean at rank share u.
    """
    rank = (np.arange(ACTIVITIES) + 0.5) / ACTIVITIES
    clicks = np.geomspace(_MIN_ACTIVITY, _MAX_ACTIVITY, 400)
    expected = clicks[:, None] / (2 * np.sqrt(rank))
    none = np.exp(-expected)
    return (
        np.log(clicks),
        (1 - none).mean(axis=1),
        (none * (1 - none)).mean(axis=1),
        (expected * none).mean(axis=1),
    )


def largest_campaign(cells: Cells) -> Floats:
    """Clicks on the largest campaign of each window, (M - 4, E): at least 1, at most its clicks."""
    leaders = np.max([roll(cells.leaders[..., k]) for k in range(cells.leaders.shape[2])], axis=0)
    clicks, largest = roll(cells.clicks), np.maximum(leaders, roll(cells.drained))
    return np.clip(largest, np.minimum(1, clicks), clicks)


def roll(cells: Floats) -> Floats:
    """Sums over the minutes of each window, (M - 4, ...)."""
    return sum((cells[i : len(cells) - WIDTH + 1 + i] for i in range(WIDTH)), start=np.zeros(1))


def clipped_moments(mean: Floats, std: float) -> tuple[Floats, Floats]:
    """Mean and variance of a normal variable after clipping to [0, 1]."""
    if std == 0:
        return np.clip(mean, 0, 1), np.zeros_like(mean)
    low, high = -mean / std, (1 - mean) / std
    inside, above = ndtr(high) - ndtr(low), 1 - ndtr(high)
    at_low, at_high = _density(low), _density(high)
    first = mean * inside + std * (at_low - at_high) + above
    second = (mean**2 + std**2) * inside + std * (mean * at_low - (mean + 1) * at_high) + above
    return first, np.maximum(second - first**2, 0)


def _density(z: Floats) -> Floats:
    density: Floats = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    return density
