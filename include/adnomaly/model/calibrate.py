"""The threshold for a budget of false incidents a day over the whole platform, from a week that follows training.

The week is not labelled. Its rate of incidents falls about exponentially with the threshold, so a line is fitted to the
logarithm of the rate, from ten times the budget down to the budget: one long attack in the week, or one lucky hour, moves
the line less than it moves a single quantile. Where the week is too short to show the budget, the same line is continued,
and the result says so.
"""

from typing import Final

import numpy as np

from adnomaly.errors import NotEnoughHistory
from adnomaly.model.bundle import Threshold
from adnomaly.model.columns import Columns
from adnomaly.model.incidents import Timeline, days_of

MOST_FACTOR: Final = 10.0
"""The line begins at this multiple of the budget."""
FEWEST_INCIDENTS: Final = 5
"""Fewer incidents than this in the whole week do not tell a rate."""
POINTS: Final = 12
LEAST_DAYS: Final = 1.0


def calibrate(windows: Columns, scores: np.ndarray, *, budget_per_day: float) -> Threshold:
    """The threshold at which this budget of incidents is expected.

    Raises:
        NotEnoughHistory: less than a day of windows, or too few incidents at any threshold to see a rate.
    """
    days = days_of(windows)
    if windows.days < LEAST_DAYS:
        raise NotEnoughHistory(f"calibration needs {LEAST_DAYS:g} days of windows after training, got {windows.days:.2f}")
    timeline = Timeline(windows, scores)
    budget = budget_per_day * days
    lowest = max(budget, FEWEST_INCIDENTS)
    counts = np.unique(np.geomspace(lowest, max(MOST_FACTOR * budget, 6 * FEWEST_INCIDENTS), POINTS).round())
    thresholds = np.array([timeline.threshold_for(count) for count in counts])
    rates = np.array([timeline.false_incidents(t) for t in thresholds])
    usable = rates >= FEWEST_INCIDENTS
    if len(np.unique(thresholds[usable])) < 3:
        raise NotEnoughHistory(f"calibration sees too few different incidents in {days:.1f} days: {rates.tolist()}")
    # Counts are Poisson: the logarithm of one has a variance of 1 / count.
    slope, level = np.polyfit(thresholds[usable], np.log(rates[usable]), 1, w=np.sqrt(rates[usable]))
    if slope >= 0:
        raise NotEnoughHistory("calibration sees no fewer incidents at higher thresholds")
    threshold = min((np.log(budget) - level) / slope, (1 + float(scores.max())) / 2)
    return Threshold(
        threshold=float(threshold),
        incidents_per_day=float(np.exp(level + slope * threshold) / days),
        extrapolated=bool(budget < FEWEST_INCIDENTS),
        windows=len(windows),
        days=round(days, 3),
    )
