"""From which height on a window is reported: for a budget of false incidents a day over the whole platform.

History is not labelled, and holds attacks. They are the highest of it, so the budget's own height cannot be read off. What lies
lower, where incidents come many times a day, is mostly normal; the logarithm of its rate falls about linearly with the height,
and the line is continued to the budget. An attack counts at every lower height, too, so incidents that rise far above the limit
found are taken out whole, and the line is drawn again, until nothing changes. In 18 histories with 0, 2 and 5 attacks a day this
realised 0.1 to 1.6 of the budget, where the plain line realised 0 to 1.6 and lost up to two thirds of the recall.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, Self

import numpy as np

from adnomaly.detector.grid import Cadence
from adnomaly.detector.grouping import count, merge_steps

MIN_FACTOR: Final = 5.0
MAX_FACTOR: Final = 30.0
"""The line is drawn through rates of 5 to 30 times the budget."""
POINTS: Final = 10
MIN_INCIDENTS: Final = 5
MAX_FLAGGED: Final = 0.10
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
MIN_DAYS: Final = 1.0


class Threshold(NamedTuple):
    """A height, and where it comes from.

    Attributes:
        per_day: incidents a day that the line expects at it.
        days: of history behind it; 0 when it is the prior.
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


def choose_threshold(raw_score: np.ndarray, cadence: Cadence, budget_per_day: float) -> Threshold:
    """The limit for heights (T, E) of a stretch of history that nothing was fitted on; NaN where a window has none."""
    found, floor = _line(raw_score, cadence, budget_per_day)
    left = raw_score
    for _ in range(ROUNDS):
        left = _without_attacks(left, cadence, floor, found.raw_score)
        again, floor = _line(left, cadence, budget_per_day)
        if not again.days or found.raw_score - again.raw_score < SETTLED:
            break
        found = again
    return found


def _without_attacks(
    raw_score: np.ndarray, cadence: Cadence, floor: float, limit: float
) -> np.ndarray:
    """Without the incidents that rise clearly above a limit; the floor is where an incident is seen to begin and to end."""
    out, margin, near = raw_score.copy(), cadence.steps(MARGIN_S), merge_steps(cadence)
    for e in range(raw_score.shape[1]):
        rows = np.flatnonzero(
            np.nan_to_num(raw_score[:, e], nan=-np.inf) >= min(floor, limit - BELOW)
        )
        for own in np.split(rows, np.flatnonzero(np.diff(rows) > near) + 1):
            if len(own) and raw_score[own, e].max() > limit + CLEAR:
                out[max(0, own[0] - margin) : own[-1] + 1 + margin, e] = np.nan
    return out


def _line(
    raw_score: np.ndarray, cadence: Cadence, budget_per_day: float
) -> tuple[Threshold, float]:
    """The height at which the line through the rates of lower heights reaches the budget, and the lowest of these heights."""
    known = np.isfinite(raw_score)
    days = known.any(axis=1).sum() * cadence.slide_s / 86400
    if days < MIN_DAYS:
        return Threshold(PRIOR_HEIGHT, float("nan"), 0.0), PRIOR_HEIGHT
    filled = np.where(known, raw_score, -np.inf)
    values = np.sort(filled[known])
    lowest = values[int((1 - MAX_FLAGGED) * (len(values) - 1))]
    most = min(MAX_FACTOR * budget_per_day * days, count(filled >= lowest, cadence))
    least = max(MIN_FACTOR * budget_per_day * days, MIN_INCIDENTS)
    if most < 2 * least:
        least = max(most / (MAX_FACTOR / MIN_FACTOR), MIN_INCIDENTS)
    wanted = np.unique(np.geomspace(least, max(most, least), POINTS).round())
    raw_scores = np.array([_height_of(filled, values, cadence, n) for n in wanted])
    rates = np.array([count(filled >= h, cadence) for h in raw_scores], np.float64)
    usable = rates > 0
    if len(np.unique(raw_scores[usable])) < 3:
        return Threshold(
            max(PRIOR_HEIGHT, float(values[-1])), float("nan"), float(days)
        ), PRIOR_HEIGHT
    slope, level = np.polyfit(
        raw_scores[usable], np.log(rates[usable] / days), 1, w=np.sqrt(rates[usable])
    )
    if slope >= 0:
        return Threshold(float(values[-1]), float("nan"), float(days)), float(raw_scores.min())
    height_at = (np.log(AIM * budget_per_day) - level) / slope
    return Threshold(
        float(height_at), float(np.exp(level + slope * height_at)), float(days)
    ), float(raw_scores.min())


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
