"""From which height on a window is reported: for a budget of false incidents a day over the whole platform.

History is not labelled, and holds attacks. They are the highest of it, so the budget's own height cannot be read off. What lies
lower, where incidents come many times a day, is mostly normal; the logarithm of its rate falls about linearly with the height,
and the line is continued to the budget. An attack counts at every lower height, too, so incidents that rise far above the limit
found are taken out whole, and the line is drawn again, until nothing changes. In 18 histories with 0, 2 and 5 attacks a day this
realised 0.1 to 1.6 of the budget, where the plain line realised 0 to 1.6 and lost up to two thirds of the recall.
"""

from typing import Final, NamedTuple

import numpy as np

from adnomaly.detector.grid import Cadence
from adnomaly.detector.grouping import count, merge_steps

LOWEST_FACTOR: Final = 5.0
HIGHEST_FACTOR: Final = 30.0
"""The line is drawn through rates of 5 to 30 times the budget."""
POINTS: Final = 10
FEWEST: Final = 5
MOST_FLAGGED: Final = 0.10
"""Heights that flag a larger share of the windows say nothing about rare ones."""
AIM: Final = 0.7
"""Share of the budget that is aimed at: incidents of a fortnight are few, and vary."""
ROUNDS: Final = 10
CLEAR: Final = 0.2
"""An incident that rises so far above the limit is taken for an attack, and left out with the hour before and after it."""
BELOW: Final = 0.4
MARGIN_S: Final = 3600
SETTLED: Final = 0.01
PRIOR_HEIGHT: Final = 3.6
"""Where history is too short to show any rate: about 5 deviations on one axis."""
LEAST_DAYS: Final = 1.0


class Limit(NamedTuple):
    """A height, and where it comes from.

    Attributes:
        per_day: incidents a day that the line expects at it.
        days: of history behind it; 0 when it is the prior.
    """

    height: float
    per_day: float
    days: float


def calibrate(height: np.ndarray, cadence: Cadence, budget_per_day: float) -> Limit:
    """The limit for heights (T, E) of a stretch of history that nothing was fitted on; NaN where a window has none."""
    found, floor = _line(height, cadence, budget_per_day)
    left = height
    for _ in range(ROUNDS):
        left = _without_attacks(left, cadence, floor, found.height)
        again, floor = _line(left, cadence, budget_per_day)
        if not again.days or found.height - again.height < SETTLED:
            break
        found = again
    return found


def _without_attacks(
    height: np.ndarray, cadence: Cadence, floor: float, limit: float
) -> np.ndarray:
    """Without the incidents that rise clearly above a limit; the floor is where an incident is seen to begin and to end."""
    out, margin, near = height.copy(), cadence.steps(MARGIN_S), merge_steps(cadence)
    for e in range(height.shape[1]):
        rows = np.flatnonzero(np.nan_to_num(height[:, e], nan=-np.inf) >= min(floor, limit - BELOW))
        for own in np.split(rows, np.flatnonzero(np.diff(rows) > near) + 1):
            if len(own) and height[own, e].max() > limit + CLEAR:
                out[max(0, own[0] - margin) : own[-1] + 1 + margin, e] = np.nan
    return out


def _line(height: np.ndarray, cadence: Cadence, budget_per_day: float) -> tuple[Limit, float]:
    """The height at which the line through the rates of lower heights reaches the budget, and the lowest of these heights."""
    known = np.isfinite(height)
    days = known.any(axis=1).sum() * cadence.slide_s / 86400
    if days < LEAST_DAYS:
        return Limit(PRIOR_HEIGHT, float("nan"), 0.0), PRIOR_HEIGHT
    filled = np.where(known, height, -np.inf)
    values = np.sort(filled[known])
    lowest = values[int((1 - MOST_FLAGGED) * (len(values) - 1))]
    most = min(HIGHEST_FACTOR * budget_per_day * days, count(filled >= lowest, cadence))
    least = max(LOWEST_FACTOR * budget_per_day * days, FEWEST)
    if most < 2 * least:
        least = max(most / (HIGHEST_FACTOR / LOWEST_FACTOR), FEWEST)
    wanted = np.unique(np.geomspace(least, max(most, least), POINTS).round())
    heights = np.array([_height_of(filled, values, cadence, n) for n in wanted])
    rates = np.array([count(filled >= h, cadence) for h in heights], np.float64)
    usable = rates > 0
    if len(np.unique(heights[usable])) < 3:
        return Limit(max(PRIOR_HEIGHT, float(values[-1])), float("nan"), float(days)), PRIOR_HEIGHT
    slope, level = np.polyfit(
        heights[usable], np.log(rates[usable] / days), 1, w=np.sqrt(rates[usable])
    )
    if slope >= 0:
        return Limit(float(values[-1]), float("nan"), float(days)), float(heights.min())
    height_at = (np.log(AIM * budget_per_day) - level) / slope
    return Limit(float(height_at), float(np.exp(level + slope * height_at)), float(days)), float(
        heights.min()
    )


def _height_of(filled: np.ndarray, values: np.ndarray, cadence: Cadence, incidents: float) -> float:
    """The lowest height, among the values, from which on there are at most so many incidents."""
    low, high = (
        0,
        len(values) - 1,
    )  # positions from the top: flagging at `low` is within, at `high` perhaps not
    top = values[::-1]
    step = 1
    while low + step < high and count(filled >= top[low + step], cadence) <= incidents:
        low, step = low + step, step * 2
    high = min(low + step, high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (middle, high) if count(filled >= top[middle], cadence) <= incidents else (low, middle)
        )
    return float(top[low])
