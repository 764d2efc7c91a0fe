"""The slot table: what is usual per entity and hour of the day, on weekdays and at weekends, as a smooth curve.

For weeks of windows that overlap. It needs no history at the time of scoring, so a single row can be compared with it.
"""

from typing import Any, Final, NamedTuple, Self

import numpy as np

from adnomaly.detector.grid import Grid
from adnomaly.detector.links import choose_links, linked, unlinked
from adnomaly.detector.noise import deviation, fit_noise
from adnomaly.detector.spec import Spec
from adnomaly.model.daycurve import SLOT_ROWS, curve, fill
from adnomaly.model.slots import STEPS

LEAST_DAYS: Final = 13.5
REFINEMENTS: Final = 2
CLIP: Final = 1000.0
_DAY_S: Final = 86400


class Standing(NamedTuple):
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


class SlotTable:
    """Per entity and feature: the curve of a day, and the noise around it.

    Attributes:
        center: at the middle of each hour, (E, 2, 24, F); NaN where it is not known.
        noise: variance a + b / count, (E, F, 2).
    """

    kind: Final = "slots"

    def __init__(self, spec: Spec, links: tuple[str, ...], center: np.ndarray, noise: np.ndarray) -> None:
        self.spec, self.links, self.center, self.noise = spec, links, center, noise
        self._curve = curve(center)

    @staticmethod
    def suits(grid: Grid) -> bool:
        """There are at least 24 windows of an entity in each of its 48 slots, over two weeks."""
        if grid.days < LEAST_DAYS:
            return False
        side, hour = _slots(grid)
        windows = np.isfinite(grid.values[..., 0]).sum(axis=1) / max(1, grid.values.shape[1])
        per_slot = np.bincount(side * 24 + hour, weights=windows, minlength=48)
        return bool(per_slot.min() >= SLOT_ROWS)

    @classmethod
    def fit(cls, grid: Grid, spec: Spec) -> Self:
        """Medians per slot, bent into a curve through the hours' middles, and the noise around that curve."""
        links = choose_links(grid.values, spec)
        value = linked(grid.values, links)
        side, hour = _slots(grid)
        groups = [(s, h, np.flatnonzero((side == s) & (hour == h))) for s, h in np.ndindex(2, 24)]
        center = np.zeros((value.shape[1], 2, 24, value.shape[2]))
        noise = np.ones((*center.shape[::3], 2))
        # The median over an hour is not the value at its middle where the day's curve bends: what is left is added.
        for refinement in range(REFINEMENTS + 1):
            left = value - cls(spec, links, center, noise)._expected(grid)
            for s, h, rows in groups:
                step = _medians(left[rows])
                center[:, s, h] += step if refinement == 0 else np.nan_to_num(step)
            if refinement == 0:
                center = fill(center)
        draft = cls(spec, links, center, noise)
        expected = draft._expected(grid)
        return cls(spec, links, center, fit_noise(value - expected, draft._counts(grid, expected), spec))

    def standing(self, grid: Grid) -> Standing:
        """The windows of a grid whose first entities are the table's; others are not known."""
        expected = self._expected(grid)
        noise = np.full((grid.values.shape[1], *self.noise.shape[1:]), np.nan)
        noise[: len(self.noise)] = self.noise
        return Standing(linked(grid.values, self.links), expected, deviation(noise, self._counts(grid, expected)))

    def _expected(self, grid: Grid) -> np.ndarray:
        middle = grid.end_s - grid.cadence.size_s / 2
        steps = (middle % _DAY_S / 3600 - 0.5) * STEPS
        below = np.floor(steps).astype(np.int64)
        share, side = (steps - below)[:, None, None], _slots(grid)[0]
        table = np.moveaxis(self._curve, 0, 2)  # side, step, entity, feature
        low, high = table[side, below % (24 * STEPS)], table[side, (below + 1) % (24 * STEPS)]
        out = np.full(grid.values.shape, np.nan)
        out[:, : len(self.center)] = low + (high - low) * share
        return out

    def _counts(self, grid: Grid, expected: np.ndarray) -> np.ndarray:
        """Events behind each feature: those of the window for a ratio, those expected for a count."""
        counts = np.ones(grid.values.shape)
        usual = unlinked(expected, self.links)
        for f in range(counts.shape[2]):
            weight = self.spec.weight(f)
            if weight is not None:
                counts[..., f] = usual[..., f] if weight == f else grid.values[..., weight]
        return counts

    def to_plain(self) -> dict[str, Any]:
        return {"kind": self.kind, "links": self.links, "center": self.center, "noise": self.noise}

    @classmethod
    def from_plain(cls, raw: dict[str, Any], spec: Spec) -> Self:
        return cls(spec, tuple(raw["links"]), raw["center"], raw["noise"])


def _slots(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Weekday (0) or weekend (1), and hour, of each window's middle, UTC."""
    middle = grid.end_s - grid.cadence.size_s / 2
    weekday = (middle // _DAY_S + 3) % 7  # 1970-01-01 was a Thursday
    return (weekday >= 5).astype(np.int64), (middle % _DAY_S // 3600).astype(np.int64)


def _medians(rows: np.ndarray) -> np.ndarray:
    """Median over the first axis of (n, E, F), NaN where fewer than 24 are known."""
    known = np.isfinite(rows).sum(axis=0)
    out = np.full(rows.shape[1:], np.nan)
    for e, f in zip(*np.nonzero(known >= SLOT_ROWS), strict=True):
        column = rows[:, e, f]
        out[e, f] = np.median(column[np.isfinite(column)])
    return out
