"""Choose a threshold for a budget of false incidents a day over the whole platform.

History is unlabelled and holds attacks, whose raw scores are its highest, so the threshold cannot
be read off at the budget. At lower raw scores, where incidents come many times a day, most are
normal, and the logarithm of their rate falls about linearly with the raw score: the line is
extrapolated to the budget. Attacks count at every lower raw score too. So incidents far above the
threshold are removed and the line is fitted again, until it no longer moves. In 18 histories with
0, 2 and 5 attacks a day this realised 0.1 to 1.6 times the budget; the plain line realised 0 to 1.6
and lost up to two thirds of the recall.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, Self

import numpy as np

from adnomaly.arrays import Floats
from adnomaly.detector.grid import Cadence
from adnomaly.detector.grouping import count, merge_steps

MIN_FACTOR: Final = 5.0
MAX_FACTOR: Final = 30.0
"""The line is fitted to rates of 5 to 30 times the budget."""
POINTS: Final = 10
MIN_INCIDENTS: Final = 5
MAX_FLAGGED: Final = 0.10
"""Raw scores that flag a larger share of the windows are not used."""
AIM: Final = 0.7
"""Share of the budget to aim at: incidents of a fortnight are few, and vary."""
ROUNDS: Final = 10
CLEAR: Final = 0.2
"""An incident this far above the threshold is removed, with an hour before and after it."""
BELOW: Final = 0.4
MARGIN_S: Final = 3600
SETTLED: Final = 0.01
PRIOR_RAW_SCORE: Final = 3.6
"""Threshold of a history too short for rates: about 5 standard deviations on one coordinate."""
MIN_DAYS: Final = 1.0


class Threshold(NamedTuple):
    """A raw score, and its origin.

    Attributes:
        per_day: expected incidents a day; NaN when not fitted.
        days: of history behind it; 0 for the prior.
    """

    raw_score: float
    per_day: float
    days: float

    def to_plain(self) -> dict[str, float]:
        """As stored in threshold.json and card.json, where the raw score is called `height`."""
        return {"height": self.raw_score, "per_day": self.per_day, "days": self.days}

    @classmethod
    def from_plain(cls, raw: Mapping[str, float | None]) -> Self:
        """The threshold that `to_plain` wrote; null is NaN."""
        values = (raw[name] for name in ("height", "per_day", "days"))
        return cls(*(float("nan") if value is None else float(value) for value in values))


def choose_threshold(raw_score: Floats, cadence: Cadence, budget_per_day: float) -> Threshold:
    """The threshold for raw scores (T, E) of history outside the fit; NaN for missing windows."""
    chosen, floor = _fit_line(raw_score, cadence, budget_per_day)
    remaining = raw_score
    for _ in range(ROUNDS):
        remaining = _without_attacks(remaining, cadence, floor, chosen.raw_score)
        refined, floor = _fit_line(remaining, cadence, budget_per_day)
        if not refined.days or chosen.raw_score - refined.raw_score < SETTLED:
            break
        chosen = refined
    return chosen


def _without_attacks(raw_score: Floats, cadence: Cadence, floor: float, threshold: float) -> Floats:
    """Remove incidents clearly above a threshold; they begin and end at the floor."""
    out, margin, near = raw_score.copy(), cadence.steps(MARGIN_S), merge_steps(cadence)
    for e in range(raw_score.shape[1]):
        rows = np.flatnonzero(
            np.nan_to_num(raw_score[:, e], nan=-np.inf) >= min(floor, threshold - BELOW)
        )
        for incident in np.split(rows, np.flatnonzero(np.diff(rows) > near) + 1):
            if len(incident) and raw_score[incident, e].max() > threshold + CLEAR:
                out[max(0, incident[0] - margin) : incident[-1] + 1 + margin, e] = np.nan
    return out


def _fit_line(
    raw_score: Floats, cadence: Cadence, budget_per_day: float
) -> tuple[Threshold, float]:
    """Where the line through the log rates reaches the budget, and the lowest raw score used."""
    known = np.isfinite(raw_score)
    days = known.any(axis=1).sum() * cadence.slide_s / 86400
    if days < MIN_DAYS:
        return Threshold(PRIOR_RAW_SCORE, float("nan"), 0.0), PRIOR_RAW_SCORE
    filled = np.where(known, raw_score, -np.inf)
    values = np.sort(filled[known])
    points = _points(filled, values, cadence, budget_per_day, days)
    rates = np.array([count(filled >= point, cadence) for point in points], np.float64)
    usable = rates > 0
    if len(np.unique(points[usable])) < 3:
        highest = max(PRIOR_RAW_SCORE, float(values[-1]))
        return Threshold(highest, float("nan"), float(days)), PRIOR_RAW_SCORE
    slope, level = np.polyfit(
        points[usable], np.log(rates[usable] / days), 1, w=np.sqrt(rates[usable])
    )
    if slope >= 0:
        return Threshold(float(values[-1]), float("nan"), float(days)), float(points.min())
    at = (np.log(AIM * budget_per_day) - level) / slope
    expected = float(np.exp(level + slope * at))
    return Threshold(float(at), expected, float(days)), float(points.min())


def _points(
    filled: Floats, values: Floats, cadence: Cadence, budget_per_day: float, days: float
) -> Floats:
    """Raw scores at which the rate of incidents is measured."""
    lowest = values[int((1 - MAX_FLAGGED) * (len(values) - 1))]
    max_count = min(MAX_FACTOR * budget_per_day * days, count(filled >= lowest, cadence))
    min_count = max(MIN_FACTOR * budget_per_day * days, MIN_INCIDENTS)
    if max_count < 2 * min_count:
        min_count = max(max_count / (MAX_FACTOR / MIN_FACTOR), MIN_INCIDENTS)
    counts = np.unique(np.geomspace(min_count, max(max_count, min_count), POINTS).round())
    return np.array([_lowest_raw_score(filled, values, cadence, n) for n in counts])


def _lowest_raw_score(
    filled: Floats, values: Floats, cadence: Cadence, max_incidents: float
) -> float:
    """The lowest of the values that gives at most this many incidents."""
    descending = values[::-1]

    def within(position: int) -> bool:
        return count(filled >= descending[position], cadence) <= max_incidents

    low, high, step = 0, len(values) - 1, 1  # `low` is within, `high` perhaps not
    while low + step < high and within(low + step):
        low, step = low + step, step * 2
    high = min(low + step, high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if within(middle) else (low, middle)
    return float(descending[low])
