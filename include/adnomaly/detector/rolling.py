"""The trailing baseline: what was usual in the week before, and at the same time of the days before.

For short histories and for windows that come once an hour. Expected value of a window: the median of the 7 days before it, plus
the share that this entity is known to repeat of its usual difference at this time of the day. Deviation: the mean of the robust
spreads of these 7 days and of all there was before. Only earlier windows count.
"""

from typing import Any, Final, Self

import numpy as np
import pandas as pd

from adnomaly.detector.day_curve import MAD
from adnomaly.detector.grid import Grid
from adnomaly.detector.seasonal import Comparison
from adnomaly.detector.spec import Spec

WEEK_S: Final = 7 * 86400
HISTORY_DAYS: Final = 28
"""Windows that a bundle keeps of its training, so that the first windows it scores have a past."""
MIN_ROWS: Final = 24
MIN_S: Final = 86400
"""So many windows of an entity, and a day, before there is something to compare it with."""
MIN_ERRORS: Final = 12
"""Windows after these before it is known how far off is far."""

SAME_TIME_DAYS: Final = 7
SAME_TIME_LEAST: Final = 2
HALF_HOUR_S: Final = 1800
LIMIT: Final = 3.0
"""Larger differences, in deviations, do not move the usual course of a day any further."""
PRIOR: Final = 20.0
MIN_SHARE_OF_SD: Final = 0.05
"""The spread is at least this share of the plain standard deviation: series that rest at one value have no robust spread."""
MIN_SPREAD: Final = 1e-9


class RollingBaseline:
    """Needs no fit: it looks at the windows before each window."""

    kind: Final = "trailing"

    def __init__(self, spec: Spec) -> None:
        self.spec, self.transforms = spec, ("linear",) * len(spec.measures)

    @classmethod
    def fit(cls, grid: Grid, spec: Spec) -> Self:
        return cls(spec)

    def compare(self, grid: Grid) -> Comparison:
        """The windows of a grid; `expected` is NaN for the first day of an entity."""
        expected, sd = np.full(grid.values.shape, np.nan), np.full(grid.values.shape, np.nan)
        for f in range(grid.values.shape[2]):
            expected[..., f], sd[..., f] = self._feature(grid, f)
        return Comparison(grid.values, expected, sd)

    def _feature(self, grid: Grid, f: int) -> tuple[np.ndarray, np.ndarray]:
        value, week = pd.DataFrame(grid.values[..., f]), grid.cadence.steps(WEEK_S)
        least_rows = max(MIN_ROWS, grid.cadence.steps(MIN_S))
        before = value.shift(1).rolling(week, min_periods=least_rows)
        level, plain_sd = before.median(), before.std()
        left = value - level
        spread = (MAD * left.abs().shift(1).rolling(week, min_periods=1).median()).clip(
            lower=MIN_SPREAD
        )
        expected = level + _same_time((left / spread).clip(-LIMIT, LIMIT), grid) * spread
        error = (value - expected).abs().shift(1)
        least = MIN_SHARE_OF_SD * plain_sd
        recent, ever = (
            np.maximum(MAD * seen.median(), least)
            for seen in (
                error.rolling(week, min_periods=MIN_ERRORS),
                error.expanding(min_periods=MIN_ERRORS),
            )
        )
        sd = np.sqrt((recent**2 + ever**2) / 2)
        return expected.to_numpy(), np.maximum(
            self._counting(grid, f, expected.to_numpy(), sd.to_numpy()), MIN_SPREAD
        )

    def _counting(self, grid: Grid, f: int, expected: np.ndarray, sd: np.ndarray) -> np.ndarray:
        """At least the noise of counting: a count is Poisson, a ratio of fewer events than usual is less certain."""
        weight = self.spec.weight(f)
        if weight is None:
            return sd
        if weight == f:
            return np.maximum(sd, np.sqrt(np.fmax(expected, 1)))
        count = pd.DataFrame(grid.values[..., weight])
        usual = (
            count.shift(1)
            .rolling(grid.cadence.steps(WEEK_S), min_periods=MIN_ROWS)
            .median()
            .to_numpy()
        )
        return sd * np.sqrt(np.fmax(1, usual / np.fmax(count.to_numpy(), 1)))

    def to_plain(self) -> dict[str, Any]:
        return {"kind": self.kind}

    @classmethod
    def from_plain(cls, raw: dict[str, Any], spec: Spec) -> Self:
        return cls(spec)


def _same_time(left: pd.DataFrame, grid: Grid) -> pd.DataFrame:
    """What each entity repeats of its usual difference at this time of the day, in deviations; 0 while that is not known.

    The share that is repeated is the slope of the differences on those of the same time on earlier days, over four weeks.
    """
    day, half = grid.per_day(), grid.cadence.steps(HALF_HOUR_S)
    if day < SAME_TIME_LEAST or len(left) <= SAME_TIME_LEAST * day:
        return left * 0.0
    around = left.rolling(2 * half + 1, center=True, min_periods=1).mean()
    earlier = np.stack(
        [around.shift(day * back).to_numpy() for back in range(1, SAME_TIME_DAYS + 1)]
    )
    known = np.isfinite(earlier).sum(axis=0)
    usual = np.zeros(left.shape)
    enough = known >= SAME_TIME_LEAST
    usual[enough] = np.nanmedian(earlier[:, enough], axis=0)
    now, then = left.fillna(0.0), pd.DataFrame(usual)
    month = 4 * grid.cadence.steps(WEEK_S)
    together, alone = (
        (now * then).shift(1).rolling(month, min_periods=1).sum(),
        (then**2).shift(1).rolling(month, min_periods=1).sum(),
    )
    return (together / (alone + PRIOR)).clip(0, 1).fillna(0.0) * then
