"""Windows simulated from the traffic model, without clicks: weeks of all entities in a second.

Counts are Poisson and sums are normal with the exact moments of clicks, so the windows have the
distribution of windows computed from generated clicks, but not the same values. Use them to train
and to evaluate, not to compare with a stream.

To add a feature, add its entry in `adnomaly.features` and its function to `SIMULATED` here.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from adnomaly.arrays import Floats
from adnomaly.arrow import TIME
from adnomaly.attacks import Attack
from adnomaly.features import ENTITY, FEATURES, Feature
from adnomaly.synthetic.minute_counts import (
    Cells,
    distinct_users,
    largest_campaign,
    roll,
    simulate_cells,
)
from adnomaly.synthetic.traffic import Traffic, minute_of
from adnomaly.windows import SIZE, SLIDE

SCHEMA: Final = pa.schema(
    [
        ("window_start", TIME),
        ("window_end", TIME),
        *((name, pa.string()) for name in ENTITY),
        *((f.name, pa.int64() if f.dtype == "int64" else pa.float64()) for f in FEATURES),
    ]
)

_MINUTE_US: Final = 60_000_000


class Simulation(NamedTuple):
    """Simulated minutes (M, E) and the clicks of each window (M - 4, E)."""

    traffic: Traffic
    cells: Cells
    clicks: Floats

    def per_click(self, sums: Floats) -> Floats:
        """Sums (M - 4, E) divided by the clicks of their window; 0 where there are none."""
        means: Floats = sums / np.maximum(self.clicks, 1)
        return means


Simulate = Callable[[Simulation], Floats]
"""One feature of all windows, (M - 4, E); values of windows without clicks are ignored."""


def ctr_avg(simulation: Simulation) -> Floats:
    return np.clip(simulation.per_click(roll(simulation.cells.ctr)), 0, 1)


def bounce_rate_avg(simulation: Simulation) -> Floats:
    return np.clip(simulation.per_click(roll(simulation.cells.bounce)), 0, 1)


def event_count(simulation: Simulation) -> Floats:
    return simulation.clicks


def unique_user_ratio(simulation: Simulation) -> Floats:
    return simulation.per_click(distinct_users(simulation.traffic, simulation.cells))


def campaign_top_share(simulation: Simulation) -> Floats:
    return simulation.per_click(largest_campaign(simulation.cells))


SIMULATED: Final[Mapping[str, Simulate]] = {
    function.__name__: function
    for function in (ctr_avg, bounce_rate_avg, event_count, unique_user_ratio, campaign_top_share)
}
"""The simulation of each feature, by its name in `FEATURES`."""


def simulate_windows(
    traffic: Traffic, start: datetime, days: float, seed: int, attacks: Sequence[Attack] = ()
) -> pa.Table:
    """Every full window within [start, start + days) that holds a click, by end, geo and platform.

    Deterministic. `seed` draws the noise; the entities' levels come from `traffic.seed`.

    Returns:
        A table of `SCHEMA`.
    """
    first, count = minute_of(start), round(timedelta(days=days) / SLIDE)
    cells = simulate_cells(traffic, first, count, seed, attacks)
    simulation = Simulation(traffic, cells, roll(cells.clicks))
    row, entity = np.nonzero(simulation.clicks)
    begin = (first + row) * _MINUTE_US
    geos, platforms = (pa.array(names) for names in zip(*traffic.entities, strict=True))
    columns = [
        pa.array(begin, TIME),
        pa.array(begin + SIZE // timedelta(microseconds=1), TIME),
        geos.take(pa.array(entity)),
        platforms.take(pa.array(entity)),
        *(simulate_feature(f, simulation)[row, entity].astype(f.dtype) for f in FEATURES),
    ]
    return pa.table(columns, schema=SCHEMA)


def simulate_feature(feature: Feature, simulation: Simulation) -> Floats:
    """A feature of all windows, (M - 4, E).

    Raises:
        NotImplementedError: the feature has no function in `SIMULATED`.
    """
    if feature.name not in SIMULATED:
        raise NotImplementedError(
            f"feature {feature.name!r} cannot be simulated: "
            "add its function to SIMULATED in adnomaly/synthetic/windows.py"
        )
    return SIMULATED[feature.name](simulation)
