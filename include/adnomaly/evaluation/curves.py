"""ROC and precision-recall of one detector, from one sort of its scores."""

from typing import NamedTuple, Self

import numpy as np


class Curve(NamedTuple):
    """Flagged windows from the highest score down, at each distinct score.

    Attributes:
        hits: flagged windows that overlap an attack.
        flagged: all flagged windows.
        attacks, windows: their totals.
    """

    hits: np.ndarray
    flagged: np.ndarray
    attacks: int
    windows: int

    @classmethod
    def of(cls, truth: np.ndarray, scores: np.ndarray) -> Self:
        """The curve of scores (n,), with truth (n,) bool."""
        order = np.argsort(scores, kind="stable")[::-1]
        ordered = scores[order]
        last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
        return cls(np.cumsum(truth[order])[last], last + 1, int(truth.sum()), len(truth))

    @property
    def recall(self) -> np.ndarray:
        return self.hits / self.attacks

    @property
    def precision(self) -> np.ndarray:
        return self.hits / self.flagged

    @property
    def false_share(self) -> np.ndarray:
        """Share of the normal windows that are flagged."""
        return (self.flagged - self.hits) / (self.windows - self.attacks)

    @property
    def roc_auc(self) -> float:
        """Chance is 0.5."""
        x, y = np.append(0.0, self.false_share), np.append(0.0, self.recall)
        return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))

    @property
    def pr_auc(self) -> float:
        """Average precision; chance is the share of attack windows."""
        return float(np.sum(np.diff(np.append(0.0, self.recall)) * self.precision))
