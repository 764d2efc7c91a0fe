"""Drift of inputs and scores: population stability index, with limits from the training days.

PSI is the symmetric Kullback-Leibler divergence of two histograms. The common limits (0.1, 0.25)
are conventions, not theory (Yurdakul, Statistical properties of population stability index, 2018),
and days differ for legitimate reasons. So the limit is the largest PSI of a training day plus a
margin, at least 0.25.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Self

import numpy as np

from adnomaly.arrays import Floats, Ints

BINS: Final = 10
MIN_LIMIT: Final = 0.25
MARGIN: Final = 1.5
MIN_VALUES: Final = 200
"""With fewer values there is no result."""
_EMPTY: Final = 1e-3


class DriftMeasure(NamedTuple):
    """One measurement of `watch_model`; None with too little data. Acceptable up to `limit`."""

    measure: str
    subject: str
    value: float | None
    limit: float

    @property
    def ok(self) -> bool:
        return self.value is None or self.value <= self.limit


class Reference(NamedTuple):
    """Distribution of one quantity in training.

    Attributes:
        edges: inner bin edges, (BINS - 1,) or fewer.
        shares: of the values in each bin, one more than edges.
        limit: largest acceptable PSI.
    """

    edges: Floats
    shares: Floats
    limit: float

    @classmethod
    def of(cls, values: Floats, day: Ints) -> Self | None:
        """The reference of values (n,) and their days (n,); None with too few values."""
        known = np.isfinite(values)
        values, day = values[known], day[known]
        if len(values) < MIN_VALUES:
            return None
        edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
        draft = cls(edges, _shares(values, edges), MIN_LIMIT)
        days = [draft.psi(values[day == d]) for d in np.unique(day)]
        worst = max((psi for psi in days if psi is not None), default=0.0)
        return draft._replace(limit=max(MIN_LIMIT, MARGIN * worst))

    def psi(self, values: Floats) -> float | None:
        """PSI of other values (n,); None with too few values."""
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


def _shares(values: Floats, edges: Floats) -> Floats:
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return np.maximum(counts / len(values), _EMPTY)


def max_incidents(budget_per_day: float, days: float) -> float:
    """99 % quantile of false incidents of a detector within its budget (Poisson, rounded up)."""
    mean = budget_per_day * days
    return float(np.ceil(mean + 2.33 * np.sqrt(mean) + 1))
