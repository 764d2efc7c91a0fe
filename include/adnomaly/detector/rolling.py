"""The rolling baseline: the week before each window, and the same time on earlier days.

For short histories and hourly windows. The expected value is the median of the 7 days before, plus
the share of the entity's deviation at this time of day that it is known to repeat. The standard
deviation averages the robust spreads of these 7 days and of all earlier windows.
"""

from typing import Any, Final, Self

import numpy as np
import pandas as pd

from adnomaly.arrays import Bools, Floats, Ints
from adnomaly.detector.baseline import Comparison
from adnomaly.detector.day_curve import MAD
from adnomaly.detector.grid import Grid
from adnomaly.detector.spec import Spec

WEEK_S: Final = 7 * 86400
HISTORY_DAYS: Final = 28
"""History that a bundle carries, so that the first windows it scores have a past."""
MIN_ROWS: Final = 24
MIN_S: Final = 86400
"""An entity warms up for 24 windows and a day."""
MIN_ERRORS: Final = 12
"""Residuals needed for a spread."""

SAME_TIME_DAYS: Final = 7
MIN_SAME_TIME_DAYS: Final = 2
HALF_HOUR_S: Final = 1800
MAX_DEVIATION: Final = 3.0
"""Larger deviations are clipped before they shape the daily pattern."""
PRIOR: Final = 20.0
MIN_SHARE_OF_SD: Final = 0.05
"""Lower bound of the spread as a share of the plain sd, for series that rest at a value."""
MIN_SPREAD: Final = 1e-9


class RollingBaseline:
    """Fits nothing: every window is compared with the windows before it."""

    kind: Final = "trailing"
    scores_rows: Final = False
    has_forecast: Final = False
    knows_entities: Final = True

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.transforms: tuple[str, ...] = ("linear",) * len(spec.measures)

    @classmethod
    def fit(cls, grid: Grid, spec: Spec) -> Self:
        return cls(spec)

    def compare(self, grid: Grid) -> Comparison:
        """All windows; `expected` is NaN for the first day of an entity."""
        expected, sd = np.full(grid.values.shape, np.nan), np.full(grid.values.shape, np.nan)
        for f in range(grid.values.shape[2]):
            expected[..., f], sd[..., f] = self._feature(grid, f)
        return Comparison(grid.values, expected, sd)

    def compare_rows(
        self, values: Floats, end_s: Ints, entity: Ints, size_s: int
    ) -> tuple[Comparison, Bools]:
        raise NotImplementedError("a rolling baseline needs the windows before each window")

    def compare_pooled(self, grid: Grid) -> Comparison:
        raise NotImplementedError("a rolling baseline has no pooled distribution")

    def _feature(self, grid: Grid, f: int) -> tuple[Floats, Floats]:
        """Expected value and standard deviation of one feature, (T, E)."""
        value, week = pd.DataFrame(grid.values[..., f]), grid.cadence.steps(WEEK_S)
        min_rows = max(MIN_ROWS, grid.cadence.steps(MIN_S))
        before = value.shift(1).rolling(week, min_periods=min_rows)
        level, plain_sd = before.median(), before.std()
        residual = value - level
        spread = (MAD * residual.abs().shift(1).rolling(week, min_periods=1).median()).clip(
            lower=MIN_SPREAD
        )
        deviations = (residual / spread).clip(-MAX_DEVIATION, MAX_DEVIATION)
        expected = level + _same_time(deviations, grid) * spread
        error = (value - expected).abs().shift(1)
        min_sd = MIN_SHARE_OF_SD * plain_sd
        recent, ever = (
            np.maximum(MAD * errors.median(), min_sd)
            for errors in (
                error.rolling(week, min_periods=MIN_ERRORS),
                error.expanding(min_periods=MIN_ERRORS),
            )
        )
        sd = np.sqrt((recent**2 + ever**2) / 2)
        with_counting = self._counting(grid, f, expected.to_numpy(), sd.to_numpy())
        return expected.to_numpy(), np.maximum(with_counting, MIN_SPREAD)

    def _counting(self, grid: Grid, f: int, expected: Floats, sd: Floats) -> Floats:
        """Add counting noise: a count is Poisson, a ratio of few events is less certain."""
        weight = self.spec.weight(f)
        if weight is None:
            return sd
        if weight == f:
            poisson: Floats = np.maximum(sd, np.sqrt(np.fmax(expected, 1)))
            return poisson
        count = pd.DataFrame(grid.values[..., weight])
        week = grid.cadence.steps(WEEK_S)
        baseline = count.shift(1).rolling(week, min_periods=MIN_ROWS).median().to_numpy()
        scaled: Floats = sd * np.sqrt(np.fmax(1, baseline / np.fmax(count.to_numpy(), 1)))
        return scaled

    def to_plain(self) -> dict[str, Any]:
        return {"kind": self.kind}

    @classmethod
    def from_plain(cls, raw: dict[str, Any], spec: Spec) -> Self:
        return cls(spec)


def _same_time(deviations: pd.DataFrame, grid: Grid) -> pd.DataFrame:
    """Deviation expected from the same time on earlier days, (T, E); 0 while it is unknown.

    The repeated share is the regression slope on earlier days over the last four weeks.
    """
    day, half = grid.per_day(), grid.cadence.steps(HALF_HOUR_S)
    if day < MIN_SAME_TIME_DAYS or len(deviations) <= MIN_SAME_TIME_DAYS * day:
        return deviations * 0.0
    around = deviations.rolling(2 * half + 1, center=True, min_periods=1).mean()
    earlier = np.stack(
        [around.shift(day * back).to_numpy() for back in range(1, SAME_TIME_DAYS + 1)]
    )
    enough = np.isfinite(earlier).sum(axis=0) >= MIN_SAME_TIME_DAYS
    pattern = np.zeros(deviations.shape)
    pattern[enough] = np.nanmedian(earlier[:, enough], axis=0)
    now, then = deviations.fillna(0.0), pd.DataFrame(pattern)
    month = 4 * grid.cadence.steps(WEEK_S)
    covariance, variance = (
        (now * then).shift(1).rolling(month, min_periods=1).sum(),
        (then**2).shift(1).rolling(month, min_periods=1).sum(),
    )
    return (covariance / (variance + PRIOR)).clip(0, 1).fillna(0.0) * then
