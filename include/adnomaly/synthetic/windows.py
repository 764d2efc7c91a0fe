"""Windows straight from the model of traffic, without clicks: weeks of all entities in about a second.

Counts are Poisson and sums are normal with the exact moments of the clicks, so windows have the same distribution as
windows computed from generated clicks. The numbers themselves differ: use it to train and to judge, not to compare.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from adnomaly.attacks import Attack
from adnomaly.synthetic.minute_counts import distinct_users, largest_campaign, roll, simulate_cells
from adnomaly.synthetic.traffic import Traffic, minute_of
from adnomaly.windows import SIZE, SLIDE

SCHEMA = pa.schema([
    ("window_start", pa.timestamp("us", "UTC")),
    ("window_end", pa.timestamp("us", "UTC")),
    ("geo", pa.string()),
    ("platform", pa.string()),
    ("ctr_avg", pa.float64()),
    ("bounce_rate_avg", pa.float64()),
    ("event_count", pa.int64()),
    ("unique_user_ratio", pa.float64()),
    ("campaign_top_share", pa.float64()),
])  # fmt: skip

_MINUTE_US = 60_000_000


def simulate_windows(
    traffic: Traffic, start: datetime, days: float, seed: int, attacks: Sequence[Attack] = ()
) -> pa.Table:
    """Every full window within [start, start + days) that holds at least one click, ordered by end, geo and platform position.

    The same arguments give the same table. `seed` draws the noise; the entities' levels come from `traffic.seed`.

    Returns:
        A table of `SCHEMA`.
    """
    first, count = minute_of(start), round(timedelta(days=days) / SLIDE)
    cells = simulate_cells(traffic, first, count, seed, attacks)
    clicks, ctr, bounce = (roll(part) for part in (cells.clicks, cells.ctr, cells.bounce))
    users, leader = distinct_users(traffic, cells), largest_campaign(cells)
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
            users[at, entity] / n,
            leader[at, entity] / n,
        ],
        schema=SCHEMA,
    )


def attack_of(windows: pa.Table, attacks: Sequence[Attack]) -> np.ndarray:
    """For each window the position in `attacks` of the one it overlaps (the last when several do), else -1; (n,) int64."""
    starts, ends = (
        windows[name].to_numpy().astype("datetime64[us]").astype(np.int64)
        for name in ("window_start", "window_end")
    )
    geos, platforms = (windows[name].to_numpy(zero_copy_only=False) for name in ("geo", "platform"))
    hit = np.full(windows.num_rows, -1)
    for position, attack in enumerate(attacks):
        inside = (ends > attack.first_minute * _MINUTE_US) & (
            starts < attack.end_minute * _MINUTE_US
        )
        hit[inside & (geos == attack.geo) & (platforms == attack.platform)] = position
    return hit
