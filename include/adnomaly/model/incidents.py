"""Incidents: flagged windows of one entity, at most 30 minutes apart, are one incident for each started hour.

An alarm that never stops is many false incidents, not one.
"""

from typing import Final

import numpy as np

from adnomaly.model.columns import Columns

MERGE_S: Final = 30 * 60
LONGEST_S: Final = 60 * 60


class Timeline:
    """Windows by entity and time, with scores; answers how many incidents a threshold gives.

    Args:
        scores: of the windows, (n,).
        attack: number of the attack that each window overlaps, else -1, (n,); without it no window is of an attack.
    """

    def __init__(self, windows: Columns, scores: np.ndarray, attack: np.ndarray | None = None) -> None:
        quiet = np.arange(len(windows)) if attack is None else np.flatnonzero(np.asarray(attack) < 0)
        quiet = quiet[np.lexsort((windows.end_s[quiet], windows.entity[quiet]))]
        self._entity, self._end_s, self._scores = windows.entity[quiet], windows.end_s[quiet], np.asarray(scores)[quiet]
        self.days = days_of(windows)

    def false_incidents(self, threshold: float) -> int:
        """Incidents of flagged windows that overlap no attack."""
        flagged = np.flatnonzero(self._scores >= threshold)
        if not len(flagged):
            return 0
        ends = self._end_s[flagged]
        apart = np.flatnonzero((np.diff(self._entity[flagged]) != 0) | (np.diff(ends) > MERGE_S))
        length_s = ends[np.append(apart, len(ends) - 1)] - ends[np.append(0, apart + 1)]
        return int(np.sum(length_s // LONGEST_S + 1))

    def threshold_for(self, incidents: float) -> float:
        """The lowest threshold, among the scores, from which on there are at most so many false incidents.

        Few windows are flagged at the thresholds of interest, so they are looked at from the highest score down.
        """
        scores = np.unique(self._scores)[::-1]
        low, high = 0, len(scores)  # flagging from scores[low] is within the budget, from scores[high] it is not
        step = 1
        while low + step < len(scores) and self.false_incidents(scores[low + step]) <= incidents:
            low, step = low + step, step * 2
        high = min(low + step, len(scores))
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.false_incidents(scores[middle]) <= incidents else (low, middle)
        if self.false_incidents(scores[low]) > incidents:
            return float(np.nextafter(scores[0], np.inf))
        return float(scores[low])


def days_of(windows: Columns) -> float:
    """The time that the windows cover, in days, at least a minute."""
    return max(windows.days, 1 / 1440)
