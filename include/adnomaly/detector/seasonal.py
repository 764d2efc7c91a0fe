"""The slot table: what is usual per entity and hour of the day, on weekdays and at weekends, as a smooth curve.

For weeks of windows that overlap. It needs no history at the time of scoring, so a single row can be compared with it.
"""

from typing import Any, Final, NamedTuple, Self

import numpy as np

from adnomaly.detector.day_curve import MAD, SLOT_ROWS, STEPS, curve, fill
from adnomaly.detector.grid import Grid
from adnomaly.detector.spec import Spec
from adnomaly.detector.transforms import LINEAR, choose_transforms, inverse_transform, transform
from adnomaly.detector.variance import MIN_SD, deviation, fit_variance

MIN_DAYS: Final = 13.5
REFINEMENTS: Final = 2
CLIP: Final = 1000.0
_DAY_S: Final = 86400


class Comparison(NamedTuple):
    """Windows against what is usual, each (T, E, F), on the scale of the links.

    Attributes:
        value: the feature.
        expected: NaN for an entity that is not known.
        sd: standard deviation expected of it.
    """

    value: np.ndarray
    expected: np.ndarray
    sd: np.ndarray

    @property
    def z(self) -> np.ndarray:
        """Robust standard deviations from what is expected."""
        return np.clip((self.value - self.expected) / self.sd, -CLIP, CLIP)


class SeasonalBaseline:
    """Per entity and feature: the curve of a day, and the noise around it.

    Attributes:
        center: at the middle of each hour, (E, 2, 24, F); NaN where it is not known.
        noise: variance a + b / count, (E, F, 2).
        pooled: median and robust deviation of all entities together, (F, 2).
    """

    kind: Final = "slots"

    def __init__(
        self,
        spec: Spec,
        transforms: tuple[str, ...],
        center: np.ndarray,
        noise: np.ndarray,
        pooled: np.ndarray,
    ) -> None:
        self.spec, self.transforms, self.center, self.variance, self.pooled = (
            spec,
            transforms,
            center,
            noise,
            pooled,
        )
        self._curve = curve(center)

    @staticmethod
    def suits(grid: Grid) -> bool:
        """There are at least 24 windows of an entity in each of its 48 slots, over two weeks."""
        if grid.days < MIN_DAYS:
            return False
        side, hour = _slots(grid)
        windows = np.isfinite(grid.values[..., 0]).sum(axis=1) / max(1, grid.values.shape[1])
        per_slot = np.bincount(side * 24 + hour, weights=windows, minlength=48)
        return bool(per_slot.min() >= SLOT_ROWS)

    @classmethod
    def fit(cls, grid: Grid, spec: Spec) -> Self:
        """Medians per slot, bent into a curve through the hours' middles, and the noise around that curve."""
        transforms = choose_transforms(grid.values, spec)
        value = transform(grid.values, transforms)
        side, hour = _slots(grid)
        groups = [(s, h, np.flatnonzero((side == s) & (hour == h))) for s, h in np.ndindex(2, 24)]
        center = np.zeros((value.shape[1], 2, 24, value.shape[2]))
        noise = np.ones((*center.shape[::3], 2))
        pooled = _pooled(value)
        # The median over an hour is not the value at its middle where the day's curve bends: what is left is added.
        for refinement in range(REFINEMENTS + 1):
            left = value - cls(spec, transforms, center, noise, pooled)._expected(grid)
            for s, h, rows in groups:
                step = _medians(left[rows])
                center[:, s, h] += step if refinement == 0 else np.nan_to_num(step)
            if refinement == 0:
                center = fill(center)
        draft = cls(spec, transforms, center, noise, pooled)
        expected = draft._expected(grid)
        return cls(
            spec,
            transforms,
            center,
            fit_variance(value - expected, draft._counts(grid.values, expected), spec),
            pooled,
        )

    def compare(self, grid: Grid) -> Comparison:
        """The windows of a grid whose first entities are the table's; others are not known."""
        expected = self._expected(grid)
        noise = np.full((grid.values.shape[1], *self.variance.shape[1:]), np.nan)
        noise[: len(self.variance)] = self.variance
        return Comparison(
            transform(grid.values, self.transforms),
            expected,
            self._deviation(noise, grid.values, expected),
        )

    def compare_rows(
        self, values: np.ndarray, end_s: np.ndarray, number: np.ndarray, size_s: int
    ) -> tuple[Comparison, np.ndarray]:
        """Single windows (n, F), each against its entity, by number, or against all entities where that is not known.

        Args:
            number: of the entity, (n,); -1 for one that the table does not have.

        Returns:
            Their standing, each (n, F), and which of them are against their own entity, (n,).
        """
        below, share, side = _place(end_s, size_s)
        low, high = (
            self._curve[number, side, below],
            self._curve[number, side, (below + 1) % (24 * STEPS)],
        )
        own = low + (high - low) * share[:, None]
        needed = list(self.spec.required)
        known = (
            (number >= 0)
            & np.isfinite(own[:, needed]).all(axis=1)
            & np.isfinite(self.variance[number][:, needed]).all(axis=(1, 2))
        )
        expected = np.where(known[:, None], own, self.pooled[:, 0])
        sd = np.where(
            known[:, None],
            self._deviation(self.variance[number], values, expected),
            self.pooled[:, 1],
        )
        return Comparison(transform(values, self.transforms), expected, sd), known

    def compare_pooled(self, grid: Grid) -> Comparison:
        """The windows of a grid against all entities together."""
        value = transform(grid.values, self.transforms)
        center, sd = (np.broadcast_to(part, value.shape) for part in self.pooled.T)
        return Comparison(value, center, sd)

    def _expected(self, grid: Grid) -> np.ndarray:
        below, share, side = _place(grid.end_s, grid.cadence.size_s)
        table = np.moveaxis(self._curve, 0, 2)  # side, step, entity, feature
        low, high = table[side, below], table[side, (below + 1) % (24 * STEPS)]
        out = np.full(grid.values.shape, np.nan)
        out[:, : len(self.center)] = low + (high - low) * share[:, None, None]
        return out

    def _deviation(self, noise: np.ndarray, values: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """Standard deviation expected of each feature, (..., F): at least what one event of the window makes of a ratio."""
        counts = self._counts(values, expected)
        sd = deviation(noise, counts)
        for f, (measure, link) in enumerate(zip(self.spec.measures, self.transforms, strict=True)):
            if measure.weight_by and link == LINEAR:
                sd[..., f] = np.maximum(sd[..., f], 1 / np.maximum(counts[..., f], 1))
        return sd

    def _counts(self, values: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """Events behind each feature: those of the window for a ratio, those expected for a count."""
        counts = np.ones(values.shape)
        usual = inverse_transform(expected, self.transforms)
        for f in range(counts.shape[-1]):
            weight = self.spec.weight(f)
            if weight is not None:
                counts[..., f] = usual[..., f] if weight == f else values[..., weight]
        return counts

    def to_plain(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "links": self.transforms,
            "center": self.center,
            "noise": self.variance,
            "pooled": self.pooled,
        }

    @classmethod
    def from_plain(cls, raw: dict[str, Any], spec: Spec) -> Self:
        table = cls(spec, tuple(raw["links"]), raw["center"], raw["noise"], raw["pooled"])
        shapes, (count, width) = (
            [a.shape for a in (table.center, table.variance, table.pooled)],
            (len(table.center), len(spec.measures)),
        )
        if (
            shapes != [(count, 2, 24, width), (count, width, 2), (width, 2)]
            or not (table.pooled[:, 1] > 0).all()
        ):
            raise ValueError(
                f"the slot table has the shapes {shapes}, or a deviation that is not above 0"
            )
        return table


def _place(end_s: np.ndarray, size_s: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The last point of the day's curve before each window's middle, how far it is to the next, and weekday (0) or weekend (1)."""
    middle = end_s - size_s / 2
    steps = (middle % _DAY_S / 3600 - 0.5) * STEPS
    below = np.floor(steps).astype(np.int64)
    return below % (24 * STEPS), steps - below, _side(middle)


def _side(middle: np.ndarray) -> np.ndarray:
    return ((middle // _DAY_S + 3) % 7 >= 5).astype(np.int64)  # 1970-01-01 was a Thursday


def _slots(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Weekday (0) or weekend (1), and hour, of each window's middle, UTC."""
    middle = grid.end_s - grid.cadence.size_s / 2
    return _side(middle), (middle % _DAY_S // 3600).astype(np.int64)


def _medians(rows: np.ndarray) -> np.ndarray:
    """Median over the first axis of (n, E, F), NaN where fewer than 24 are known."""
    known = np.isfinite(rows).sum(axis=0)
    out = np.full(rows.shape[1:], np.nan)
    for e, f in zip(*np.nonzero(known >= SLOT_ROWS), strict=True):
        column = rows[:, e, f]
        out[e, f] = np.median(column[np.isfinite(column)])
    return out


def _pooled(value: np.ndarray) -> np.ndarray:
    """Median and robust deviation of each feature over everything, (F, 2); 0 and 1 where nothing is known."""
    out = np.tile([0.0, 1.0], (value.shape[-1], 1))
    for f in range(len(out)):
        column = value[..., f][np.isfinite(value[..., f])]
        if len(column):
            center = np.median(column)
            out[f] = center, max(MAD * np.median(np.abs(column - center)), MIN_SD)
    return out
