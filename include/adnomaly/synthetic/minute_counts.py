"""Minutes of simulated traffic per entity, and what five of them make: counts, sums, distinct users, the largest campaign.

Clicks are Poisson, sums are normal with the exact moments of clicks. Users click independently of each other, so the number of
those who click at least once has a known mean and variance, given their activities; bots likewise.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from adnomaly.attacks import Attack
from adnomaly.synthetic.population import ADS_PER_CAMPAIGN, Population
from adnomaly.synthetic.traffic import Traffic, clipped_moments
from adnomaly.windows import SIZE, SLIDE

WIDTH: Final = SIZE // SLIDE
LEADERS: Final = 4
"""Campaigns that can be the largest of a window without an attack."""
ACTIVITIES: Final = 2000
_MIN_ACTIVITY, _MAX_ACTIVITY = 1e-5, 100.0


class Cells(NamedTuple):
    """Per minute and entity, each (M, E); leaders (M, E, K).

    Attributes:
        rate: expected clicks of regular users.
        regular: clicks of regular users.
        pool: users that are about.
        bots, bot_users: clicks of attackers, and how many they are.
        leaders: clicks on each of the largest campaigns.
        drained: clicks of attackers on one of the campaigns they aim at.
    """

    rate: np.ndarray
    clicks: np.ndarray
    ctr: np.ndarray
    bounce: np.ndarray
    regular: np.ndarray
    pool: np.ndarray
    bots: np.ndarray
    bot_users: np.ndarray
    leaders: np.ndarray
    drained: np.ndarray
    noise: np.ndarray


def simulate_cells(
    traffic: Traffic, first: int, count: int, seed: int, attacks: Sequence[Attack]
) -> Cells:
    """The minutes first to before first + count, with the attacks mixed in."""
    rng = np.random.default_rng((seed % 2**64, first, count))
    minutes = np.arange(first, first + count)
    rates, ctr, bounce = (
        traffic.rates(minutes),
        traffic.ctr_means(minutes),
        traffic.bounce_means(minutes),
    )
    population = Population(traffic)
    kept = np.ones_like(rates)
    spans = [
        (
            a,
            (
                slice(max(0, a.first_minute - first), max(0, a.end_minute - first)),
                traffic.entity(a.geo, a.platform),
            ),
        )
        for a in attacks
    ]
    for attack, at in spans:
        kept[at] *= 1 - attack.lost
    regular, ctr_sum, bounce_sum = _draw(rng, traffic, rates * kept, ctr, bounce)
    shares = _leading_shares(traffic, population, minutes)
    cells = Cells(
        rates * kept, regular.copy(), ctr_sum, bounce_sum, regular, traffic.pool(minutes) * population.users,
        np.zeros_like(rates), np.zeros_like(rates), rng.binomial(regular.astype(np.int64)[..., None], shares).astype(np.float64),
        np.zeros_like(rates), rng.standard_normal(rates.shape),
    )  # fmt: skip
    for attack, at in spans:
        if attack.extra:
            _add(rng, traffic, cells, attack, at, (rates[at], ctr[at], bounce[at], shares[at]))
    return cells


def _add(
    rng: np.random.Generator,
    traffic: Traffic,
    cells: Cells,
    attack: Attack,
    at: tuple[slice, int],
    usual: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Mix an attack's clicks into its minutes."""
    rates, ctr, bounce, shares = usual
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
    rates: np.ndarray,
    ctr: np.ndarray,
    bounce: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    clicks = rng.poisson(rates).astype(np.float64)
    sums = [
        clicks * mean + np.sqrt(clicks * variance) * rng.standard_normal(clicks.shape)
        for mean, variance in (
            clipped_moments(ctr, traffic.noise_std_ctr),
            clipped_moments(bounce, traffic.noise_std_bounce),
        )
    ]
    return clicks, sums[0], sums[1]


def _leading_shares(traffic: Traffic, population: Population, minutes: np.ndarray) -> np.ndarray:
    """Share of each of the largest campaigns, (M, E, K)."""
    edges = np.concatenate(
        [[0.0], population.ad_cdf[ADS_PER_CAMPAIGN - 1 :: ADS_PER_CAMPAIGN][:LEADERS]]
    )
    bent = edges ** (1 / traffic.leader(minutes)[..., None])
    return np.diff(bent, axis=-1)


def distinct_users(traffic: Traffic, cells: Cells) -> np.ndarray:
    """Users with at least one click in each window, (M - 4, E), at least 1 and at most its clicks."""
    clicks, pool = roll(cells.regular), cells.pool[WIDTH // 2 : len(cells.pool) - WIDTH // 2]
    each = np.log(np.clip(roll(cells.rate) / pool, _MIN_ACTIVITY, _MAX_ACTIVITY))
    grid, some, spread, along = _activities()
    mean, variance, shared = (np.interp(each, grid, part) * pool for part in (some, spread, along))
    expected = np.exp(each) * pool
    rest = (
        np.sqrt(np.maximum(variance - shared**2 / expected, 0)) * roll(cells.noise) / np.sqrt(WIDTH)
    )
    users = np.clip(
        np.round(mean + shared / expected * (clicks - expected) + rest),
        np.minimum(1, clicks),
        clicks,
    )
    bots = np.max(
        [cells.bot_users[i : len(cells.bot_users) - WIDTH + 1 + i] for i in range(WIDTH)], axis=0
    )
    clicks_of_bots = roll(cells.bots)
    active = np.where(bots > 0, bots * -np.expm1(-clicks_of_bots / np.maximum(bots, 1)), 0)
    return users + np.minimum(np.round(active), clicks_of_bots)


@lru_cache(maxsize=1)
def _activities() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """By the logarithm of clicks per user: share of users with a click, its variance, its covariance with the clicks, per user.

    A user's activity falls with the root of the rank: at rank share u it is 1 / (2 sqrt(u)) of the mean.
    """
    rank = (np.arange(ACTIVITIES) + 0.5) / ACTIVITIES
    clicks = np.geomspace(_MIN_ACTIVITY, _MAX_ACTIVITY, 400)
    own = clicks[:, None] / (2 * np.sqrt(rank))
    none = np.exp(-own)
    return (
        np.log(clicks),
        (1 - none).mean(axis=1),
        (none * (1 - none)).mean(axis=1),
        (own * none).mean(axis=1),
    )


def largest_campaign(cells: Cells) -> np.ndarray:
    """Clicks on the largest campaign of each window, (M - 4, E), at least 1 and at most its clicks."""
    leaders = np.max([roll(cells.leaders[..., k]) for k in range(cells.leaders.shape[2])], axis=0)
    most = np.maximum(leaders, roll(cells.drained))
    clicks = roll(cells.clicks)
    return np.clip(most, np.minimum(1, clicks), clicks)


def roll(cells: np.ndarray) -> np.ndarray:
    """Sums over each run of SIZE / SLIDE minutes, (M - 4, ...)."""
    return sum((cells[i : len(cells) - WIDTH + 1 + i] for i in range(WIDTH)), start=np.zeros(1))
