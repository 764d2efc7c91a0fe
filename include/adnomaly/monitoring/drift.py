"""Have inputs or scores moved away from training? The population stability index, with limits that the training days themselves set.

PSI is the symmetric Kullback-Leibler divergence of two histograms. The usual limits (0.1, 0.25) are custom, not theory (Yurdakul,
Statistical properties of population stability index, 2018), and days differ from each other for honest reasons. So a limit is what
the most unusual day of training had, with a margin, and never below 0.25.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Self

import numpy as np

BINS: Final = 10
MIN_LIMIT: Final = 0.25
MARGIN: Final = 1.5
MIN_VALUES: Final = 200
"""Values below which nothing is said."""
_EMPTY: Final = 1e-3


class DriftMeasure(NamedTuple):
    """One thing that `watch_model` looked at. Up to `most` it calls for nothing; None where there was too little to say."""

    measure: str
    subject: str
    value: float | None
    limit: float

    @property
    def ok(self) -> bool:
        return self.value is None or self.value <= self.limit


class Reference(NamedTuple):
    """How one quantity was distributed in training. `edges` are inner ones, (BINS - 1,); `shares` of the bins, (BINS,)."""

    edges: np.ndarray
    shares: np.ndarray
    limit: float

    @classmethod
    def of(cls, values: np.ndarray, day: np.ndarray) -> Self | None:
        """The reference of values (n,), with the day of each, (n,); None of too few."""
        known = np.isfinite(values)
        values, day = values[known], day[known]
        if len(values) < MIN_VALUES:
            return None
        edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
        draft = cls(edges, _shares(values, edges), MIN_LIMIT)
        days = [draft.psi(values[day == d]) for d in np.unique(day)]
        return draft._replace(
            limit=max(
                MIN_LIMIT, MARGIN * max((found for found in days if found is not None), default=0.0)
            )
        )

    def psi(self, values: np.ndarray) -> float | None:
        """The index of other values, (n,); None of too few."""
        values = values[np.isfinite(values)]
        if len(values) < MIN_VALUES:
            return None
        shares = _shares(values, self.edges)
        return float(np.sum((shares - self.shares) * np.log(shares / self.shares)))

    def to_plain(self) -> dict[str, Any]:
        return {"edges": self.edges.tolist(), "shares": self.shares.tolist(), "most": self.limit}

    @classmethod
    def from_plain(cls, raw: Mapping[str, Any]) -> Self:
        return cls(np.array(raw["edges"]), np.array(raw["shares"]), float(raw["most"]))


def _shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return np.maximum(counts / len(values), _EMPTY)


def most_incidents(budget_per_day: float, days: float) -> float:
    """False incidents in some days that a detector which keeps its budget stays below in 99 of 100 times (Poisson, rounded up)."""
    mean = budget_per_day * days
    return float(np.ceil(mean + 2.33 * np.sqrt(mean) + 1))
