"""From which height on a window is reported: for a budget of false incidents a day over the whole platform.

History is not labelled, and holds attacks. They are the highest of it, so the budget's own height cannot be read off; what
lies lower, where incidents come many times a day, is nearly all normal. The logarithm of their rate falls about linearly with
the height, and the line is continued to the budget.
"""

from typing import Final, NamedTuple

import numpy as np

from adnomaly.detector.grid import Cadence
from adnomaly.detector.incidents import count

LOWEST_FACTOR: Final = 5.0
HIGHEST_FACTOR: Final = 30.0
"""The line is drawn through rates of 5 to 30 times the budget."""
POINTS: Final = 10
FEWEST: Final = 5
MOST_FLAGGED: Final = 0.10
"""Heights that flag a larger share of the windows say nothing about rare ones."""
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
    known = np.isfinite(height)
    days = known.any(axis=1).sum() * cadence.slide_s / 86400
    if days < LEAST_DAYS:
        return Limit(PRIOR_HEIGHT, float("nan"), 0.0)
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
        return Limit(max(PRIOR_HEIGHT, float(values[-1])), float("nan"), float(days))
    slope, level = np.polyfit(heights[usable], np.log(rates[usable] / days), 1, w=np.sqrt(rates[usable]))
    if slope >= 0:
        return Limit(float(values[-1]), float("nan"), float(days))
    height_at = (np.log(budget_per_day) - level) / slope
    return Limit(float(height_at), float(np.exp(level + slope * height_at)), float(days))


def _height_of(filled: np.ndarray, values: np.ndarray, cadence: Cadence, incidents: float) -> float:
    """The lowest height, among the values, from which on there are at most so many incidents."""
    low, high = 0, len(values) - 1  # positions from the top: flagging at `low` is within, at `high` perhaps not
    top = values[::-1]
    step = 1
    while low + step < high and count(filled >= top[low + step], cadence) <= incidents:
        low, step = low + step, step * 2
    high = min(low + step, high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(filled >= top[middle], cadence) <= incidents else (low, middle)
    return float(top[low])
