"""Windows straight from the model of traffic, without clicks: weeks of all entities in about a second.

Counts are Poisson and sums are normal with the exact moments of the clicks, so windows have the same distribution as
windows computed from generated clicks. The numbers themselves differ: use it to train and to judge, not to compare.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from adnomaly.synthetic.attacks import Attack
from adnomaly.synthetic.traffic import Traffic, clipped_moments, minute_of
from adnomaly.windows import SIZE, SLIDE

SCHEMA = pa.schema([
    ("window_start", pa.timestamp("us", "UTC")),
    ("window_end", pa.timestamp("us", "UTC")),
    ("geo", pa.string()),
    ("platform", pa.string()),
    ("ctr_avg", pa.float64()),
    ("bounce_rate_avg", pa.float64()),
    ("event_count", pa.int64()),
])  # fmt: skip

_MINUTE_US = 60_000_000


def simulate_windows(traffic: Traffic, start: datetime, days: float, seed: int, attacks: Sequence[Attack] = ()) -> pa.Table:
    """Every full window within [start, start + days) that holds at least one click, ordered by end, geo and platform position.

    The same arguments give the same table. `seed` draws the noise; the entities' levels come from `traffic.seed`.

    Returns:
        A table of `SCHEMA`.
    """
    first, count = minute_of(start), round(timedelta(days=days) / SLIDE)
    clicks, ctr, bounce = (_roll(cells) for cells in _minutes(traffic, first, count, seed, attacks))
    at, entity = np.nonzero(clicks)
    n = clicks[at, entity]
    begin = (first + at) * _MINUTE_US
    geos, platforms = (pa.array(names) for names in zip(*traffic.entities, strict=True))
    return pa.table(
        [
            pa.array(begin, pa.timestamp("us", "UTC")),
            pa.array(begin + SIZE // timedelta(microseconds=1), pa.timestamp("us", "UTC")),
            geos.take(pa.array(entity)),
            platforms.take(pa.array(entity)),
            np.clip(ctr[at, entity] / n, 0, 1),
            np.clip(bounce[at, entity] / n, 0, 1),
            n.astype(np.int64),
        ],
        schema=SCHEMA,
    )


def attack_of(windows: pa.Table, attacks: Sequence[Attack]) -> np.ndarray:
    """For each window the position in `attacks` of the one it overlaps (the last when several do), else -1; (n,) int64."""
    starts, ends = (windows[name].to_numpy().astype("datetime64[us]").astype(np.int64) for name in ("window_start", "window_end"))
    geos, platforms = (windows[name].to_numpy(zero_copy_only=False) for name in ("geo", "platform"))
    hit = np.full(windows.num_rows, -1)
    for position, attack in enumerate(attacks):
        inside = (ends > attack.first_minute * _MINUTE_US) & (starts < attack.end_minute * _MINUTE_US)
        hit[inside & (geos == attack.geo) & (platforms == attack.platform)] = position
    return hit


def _minutes(traffic: Traffic, first: int, count: int, seed: int, attacks: Sequence[Attack]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clicks, sum of CTR and sum of bounce rates per minute and entity, each (M, E)."""
    rng = np.random.default_rng((seed % 2**64, first, count))
    minutes = np.arange(first, first + count)
    rates, ctr_means, bounce_means = traffic.rates(minutes), traffic.ctr_means(minutes), traffic.bounce_means(minutes)
    kept = np.ones_like(rates)
    spans = [(attack, slice(max(0, attack.first_minute - first), max(0, attack.end_minute - first))) for attack in attacks]
    for attack, span in spans:
        kept[span, traffic.entity(attack.geo, attack.platform)] *= 1 - attack.lost
    cells = _draw(rng, traffic, rates * kept, ctr_means, bounce_means)
    for attack, span in spans:
        at = (span, traffic.entity(attack.geo, attack.platform))
        added = _draw(rng, traffic, rates[at] * attack.extra, ctr_means[at] * attack.profile.ctr, bounce_means[at] * attack.profile.bounce)
        for cell, more in zip(cells, added, strict=True):
            cell[at] += more
    return cells


def _draw(
    rng: np.random.Generator, traffic: Traffic, rates: np.ndarray, ctr: np.ndarray, bounce: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    clicks = rng.poisson(rates).astype(np.float64)
    sums = [
        clicks * mean + np.sqrt(clicks * variance) * rng.standard_normal(clicks.shape)
        for mean, variance in (clipped_moments(ctr, traffic.noise_std_ctr), clipped_moments(bounce, traffic.noise_std_bounce))
    ]
    return clicks, sums[0], sums[1]


def _roll(cells: np.ndarray) -> np.ndarray:
    """Sums over each run of SIZE / SLIDE minutes, (M - 4, E)."""
    width = SIZE // SLIDE
    return sum(cells[i : len(cells) - width + 1 + i] for i in range(width))
