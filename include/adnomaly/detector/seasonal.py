"""The seasonal baseline: a smooth curve over the day per entity, for weekdays and weekends.

For weeks of overlapping windows. Scoring needs no history, so single windows can be compared.
"""

from typing import Any, Final, Self

import numpy as np

from adnomaly.arrays import Bools, Floats, Ints
from adnomaly.detector.baseline import Comparison
from adnomaly.detector.day_curve import MAD, MIN_HOUR_ROWS, STEPS, curve, fill
from adnomaly.detector.grid import Grid
from adnomaly.detector.spec import Spec
from adnomaly.detector.transforms import LINEAR, choose_transforms, inverse_transform, transform
from adnomaly.detector.variance import MIN_SD, deviation, fit_variance

MIN_DAYS: Final = 13.5
REFINEMENTS: Final = 2
_DAY_S: Final = 86400


class SeasonalBaseline:
    """Per entity and feature: the curve of a day, and the variance around it.

    Attributes:
        center: at the middle of each hour, (E, 2, 24, F); NaN where unknown.
        variance: a + b / count, (E, F, 2).
        pooled: median and robust deviation over all entities, (F, 2).
    """

    kind: Final = "slots"
    scores_rows: Final = True
    has_forecast: Final = True

    def __init__(
        self,
        spec: Spec,
        transforms: tuple[str, ...],
        center: Floats,
        variance: Floats,
        pooled: Floats,
    ) -> None:
        self.spec, self.transforms = spec, transforms
        self.center, self.variance, self.pooled = center, variance, pooled
        self._curve = curve(center)

    @property
    def knows_entities(self) -> bool:
        return bool(np.isfinite(self.center).all(axis=(1, 2, 3)).any())

    @staticmethod
    def suits(grid: Grid) -> bool:
        """Two weeks, with at least 24 windows of an entity in each of the 48 hours."""
        if grid.days < MIN_DAYS:
            return False
        side, hour = _hours(grid)
        windows = np.isfinite(grid.values[..., 0]).sum(axis=1) / max(1, grid.values.shape[1])
        per_hour = np.bincount(side * 24 + hour, weights=windows, minlength=48)
        return bool(per_hour.min() >= MIN_HOUR_ROWS)

    @classmethod
    def fit(cls, grid: Grid, spec: Spec) -> Self:
        """Hourly medians, refined so that the curve fits, then the variance around the curve."""
        transforms = choose_transforms(grid.values, spec)
        value = transform(grid.values, transforms)
        side, hour = _hours(grid)
        groups = [(s, h, np.flatnonzero((side == s) & (hour == h))) for s, h in np.ndindex(2, 24)]
        center = np.zeros((value.shape[1], 2, 24, value.shape[2]))
        no_variance = np.ones((*center.shape[::3], 2))
        pooled = _pooled(value)
        # An hour's median is not the value at its middle where the curve bends: add the residual.
        for refinement in range(REFINEMENTS + 1):
            residual = value - cls(spec, transforms, center, no_variance, pooled)._expected(grid)
            for s, h, rows in groups:
                step = _medians(residual[rows])
                center[:, s, h] += step if refinement == 0 else np.nan_to_num(step)
            if refinement == 0:
                center = fill(center)
        draft = cls(spec, transforms, center, no_variance, pooled)
        expected = draft._expected(grid)
        variance = fit_variance(value - expected, draft._counts(grid.values, expected), spec)
        return cls(spec, transforms, center, variance, pooled)

    def compare(self, grid: Grid) -> Comparison:
        """All windows (T, E, F); entities after those of the fit are unknown."""
        expected = self._expected(grid)
        variance = np.full((grid.values.shape[1], *self.variance.shape[1:]), np.nan)
        variance[: len(self.variance)] = self.variance
        sd = self._deviation(variance, grid.values, expected)
        return Comparison(transform(grid.values, self.transforms), expected, sd)

    def compare_rows(
        self, values: Floats, end_s: Ints, entity: Ints, size_s: int
    ) -> tuple[Comparison, Bools]:
        """Single windows (n, F), see `Baseline.compare_rows`."""
        point, share, side = _curve_position(end_s, size_s)
        low = self._curve[entity, side, point]
        high = self._curve[entity, side, (point + 1) % (24 * STEPS)]
        by_entity = low + (high - low) * share[:, None]
        needed = list(self.spec.required)
        known: Bools = (
            (entity >= 0)
            & np.isfinite(by_entity[:, needed]).all(axis=1)
            & np.isfinite(self.variance[entity][:, needed]).all(axis=(1, 2))
        )
        expected = np.where(known[:, None], by_entity, self.pooled[:, 0])
        sd = np.where(
            known[:, None],
            self._deviation(self.variance[entity], values, expected),
            self.pooled[:, 1],
        )
        return Comparison(transform(values, self.transforms), expected, sd), known

    def compare_pooled(self, grid: Grid) -> Comparison:
        """All windows against the distribution over all entities."""
        value = transform(grid.values, self.transforms)
        center, sd = (np.broadcast_to(part, value.shape) for part in self.pooled.T)
        return Comparison(value, center, sd)

    def _expected(self, grid: Grid) -> Floats:
        point, share, side = _curve_position(grid.end_s, grid.cadence.size_s)
        table = np.moveaxis(self._curve, 0, 2)  # side, point, entity, feature
        low, high = table[side, point], table[side, (point + 1) % (24 * STEPS)]
        out = np.full(grid.values.shape, np.nan)
        out[:, : len(self.center)] = low + (high - low) * share[:, None, None]
        return out

    def _deviation(self, variance: Floats, values: Floats, expected: Floats) -> Floats:
        """Standard deviation (..., F); of a linear ratio at least the effect of one event."""
        counts = self._counts(values, expected)
        sd = deviation(variance, counts)
        for f, (measure, name) in enumerate(zip(self.spec.measures, self.transforms, strict=True)):
            if measure.weight_by and name == LINEAR:
                sd[..., f] = np.maximum(sd[..., f], 1 / np.maximum(counts[..., f], 1))
        return sd

    def _counts(self, values: Floats, expected: Floats) -> Floats:
        """Events behind each feature: observed ones for a ratio, expected ones for a count."""
        counts = np.ones(values.shape)
        baseline = inverse_transform(expected, self.transforms)
        for f in range(counts.shape[-1]):
            weight = self.spec.weight(f)
            if weight is not None:
                counts[..., f] = baseline[..., f] if weight == f else values[..., weight]
        return counts

    def to_plain(self) -> dict[str, Any]:
        """As stored in preprocess.json, where transforms are `links` and variance is `noise`."""
        return {
            "kind": self.kind,
            "links": self.transforms,
            "center": self.center,
            "noise": self.variance,
            "pooled": self.pooled,
        }

    @classmethod
    def from_plain(cls, raw: dict[str, Any], spec: Spec) -> Self:
        baseline = cls(spec, tuple(raw["links"]), raw["center"], raw["noise"], raw["pooled"])
        shapes = [a.shape for a in (baseline.center, baseline.variance, baseline.pooled)]
        entities, features = len(baseline.center), len(spec.measures)
        if shapes != [(entities, 2, 24, features), (entities, features, 2), (features, 2)]:
            raise ValueError(f"center, noise and pooled have the shapes {shapes}; train again")
        if not (baseline.pooled[:, 1] > 0).all():
            raise ValueError(f"pooled deviations are {baseline.pooled[:, 1]}, must be above 0")
        return baseline


def _curve_position(end_s: Ints, size_s: int) -> tuple[Ints, Floats, Ints]:
    """Last curve point before each window's middle, distance to it, weekday (0) or weekend (1)."""
    middle = end_s - size_s / 2
    steps = (middle % _DAY_S / 3600 - 0.5) * STEPS
    point = np.floor(steps).astype(np.int64)
    return point % (24 * STEPS), steps - point, _side(middle)


def _side(middle: Floats) -> Ints:
    return ((middle // _DAY_S + 3) % 7 >= 5).astype(np.int64)  # 1970-01-01 was a Thursday


def _hours(grid: Grid) -> tuple[Ints, Ints]:
    """Weekday (0) or weekend (1), and hour in UTC, of each window's middle."""
    middle = grid.end_s - grid.cadence.size_s / 2
    return _side(middle), (middle % _DAY_S // 3600).astype(np.int64)


def _medians(rows: Floats) -> Floats:
    """Median over the first axis of (n, E, F); NaN with fewer than 24 values."""
    known = np.isfinite(rows).sum(axis=0)
    out = np.full(rows.shape[1:], np.nan)
    for e, f in zip(*np.nonzero(known >= MIN_HOUR_ROWS), strict=True):
        column = rows[:, e, f]
        out[e, f] = np.median(column[np.isfinite(column)])
    return out


def _pooled(value: Floats) -> Floats:
    """Median and robust deviation of each feature, (F, 2); 0 and 1 without any value."""
    out = np.tile([0.0, 1.0], (value.shape[-1], 1))
    for f in range(len(out)):
        column = value[..., f][np.isfinite(value[..., f])]
        if len(column):
            center = np.median(column)
            out[f] = center, max(MAD * np.median(np.abs(column - center)), MIN_SD)
    return out
