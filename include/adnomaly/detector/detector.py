"""The whole detector: fitted on history, it judges the windows that follow."""

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np

from adnomaly.detector import grouping
from adnomaly.detector.feature_sets import COURSE, ENTITY, GLOBAL, View, fit_view, scored
from adnomaly.detector.forecast import Memory
from adnomaly.detector.grid import Cadence, Grid
from adnomaly.detector.seasonal import SlotTable, Standing
from adnomaly.detector.smoothing import needed_before, persistent
from adnomaly.detector.spec import Spec
from adnomaly.detector.thresholds import Limit, calibrate
from adnomaly.detector.transforms import unlinked
from adnomaly.detector.whitening import COMPANY, Axes

if TYPE_CHECKING:
    from sklearn.ensemble import IsolationForest

    from adnomaly.detector.rolling import Trailing

THRESHOLD: Final = 0.5
BAND_Z: Final = 3.0
"""Robust standard deviations around what is expected, in which nearly all normal windows lie."""
HELD_OUT: Final = 0.25
"""Share of history, its end, that limits are calibrated on by a detector fitted on the rest."""
GATE_SHARE: Final = 0.003
"""The most conspicuous windows of history, that do not become usual."""
CONTRACT: Final = "contract"
ALL: Final = "all"


class Judged(NamedTuple):
    """Every window of a grid, each (T, E) or (T, E, F).

    Attributes:
        score: from 0 to below 1; NaN while the entity warms up, or where there is no window.
        flagged: score >= 0.5, unless the whole platform is down.
        expected: in the features' own units.
        z: robust standard deviations from what is expected.
        low, high: what lies 3 deviations below and above what is expected, in the features' own units.
        down: the whole platform is down, (T,).
        there: the entity has been seen, (T, E).
    """

    score: np.ndarray
    flagged: np.ndarray
    expected: np.ndarray
    z: np.ndarray
    low: np.ndarray
    high: np.ndarray
    down: np.ndarray
    there: np.ndarray


class Detector:
    """Fitted parts: what is usual, the memory (for a slot table), and one view per set of features.

    Attributes:
        views: `contract` sees the required features, `all`, the last of them, sees all features, where a window holds them all.
        gate: radius, per view, from which on a window does not become usual.
        forests: what the views' models were exported from; only where it was fitted.
    """

    forests: "dict[str, IsolationForest]"

    def __init__(
        self,
        spec: Spec,
        cadence: Cadence,
        names: tuple[str, ...],
        usual: "SlotTable | Trailing",
        memory: Memory | None,
        views: dict[str, View],
        gate: float,
    ) -> None:
        self.spec, self.cadence, self.names, self.usual, self.memory, self.gate = (
            spec,
            cadence,
            names,
            usual,
            memory,
            gate,
        )
        self.views = {name: views[name] for name in (CONTRACT, ALL) if name in views}
        self.forests = {}

    @classmethod
    def fit(
        cls, grid: Grid, spec: Spec, *, budget_per_day: float, seed: int, slots: bool | None = None
    ) -> Self:
        """A detector whose limits come from the last quarter of history, seen by one that was fitted on the rest of it.

        Args:
            slots: whether a slot table says what is usual, or what came before each window; None leaves it to the history.
                Only with a slot table can it judge a window alone.
        """
        limits = cls.find_limits(grid, spec, budget_per_day=budget_per_day, seed=seed, slots=slots)
        whole = cls._fit(
            grid,
            spec,
            budget_per_day,
            seed,
            slots=SlotTable.suits(grid) if slots is None else slots,
        )
        for name, view in whole.views.items():
            whole.views[name] = view._replace(limits=limits[name])
        return whole

    @classmethod
    def find_limits(
        cls, grid: Grid, spec: Spec, *, budget_per_day: float, seed: int, slots: bool | None = None
    ) -> dict[str, dict[str, Limit]]:
        """The limits of a detector of this history, by view and by how windows are looked at."""
        split = int(len(grid.end_s) * (1 - HELD_OUT))
        first = grid.between(0, split)
        suits = SlotTable.suits(grid) if slots is None else slots
        # A quarter is only held out where a slot table can do without it; a trailing baseline sees earlier windows only, anyway.
        apart = suits and (SlotTable.suits(first) or slots is not None)
        views = tuple(cls._columns(grid, spec))
        draft = cls._fit(first if apart else grid, spec, budget_per_day, seed, slots=suits)
        if set(draft.views) != set(views):  # history got its further features lately
            apart, draft = False, cls._fit(grid, spec, budget_per_day, seed, slots=suits)
        heights = draft.heights(grid, split if apart else 0)
        return {
            name: {
                how: calibrate(height, grid.cadence, budget_per_day) for how, height in by.items()
            }
            for name, by in heights.items()
        }

    @classmethod
    def _fit(cls, grid: Grid, spec: Spec, budget_per_day: float, seed: int, *, slots: bool) -> Self:
        from adnomaly.detector.rolling import Trailing

        usual = (SlotTable if slots else Trailing).fit(grid, spec)
        standing = usual.standing(grid)
        z = standing.z
        memory = Memory.fit(z, grid.cadence, _far_out(z)) if slots else None
        left = z
        if memory is not None:
            left, forecast = memory.innovations(z, lambda _, rows: _far_out(z[rows]))
            standing = _shifted(standing, forecast, memory)
        detector = cls(spec, grid.cadence, grid.names, usual, memory, {}, float("inf"))
        lift = detector.lift(grid.values, standing)
        for name, columns in cls._columns(grid, spec).items():
            axes = detector._axes(left, lift, columns, grid, budget_per_day)
            coordinates = axes.apply(left, lift)
            detector.views[name], detector.forests[name] = fit_view(
                axes, coordinates.reshape(-1, len(columns)), seed
            )
            radius = np.linalg.norm(coordinates, axis=-1)
            detector.gate = (
                float(np.nanquantile(radius, 1 - GATE_SHARE))
                if np.isfinite(radius).any()
                else float("inf")
            )
        return detector

    @staticmethod
    def _columns(grid: Grid, spec: Spec) -> dict[str, tuple[int, ...]]:
        """Features of each view. There is a second one when most windows of history hold the optional features."""
        required = spec.required
        whole = (
            np.isfinite(grid.values).all(axis=2).sum()
            > 0.5 * np.isfinite(grid.values[..., required[0]]).sum()
        )
        views = {CONTRACT: required}
        if len(required) < len(spec.measures) and whole:
            views[ALL] = tuple(range(len(spec.measures)))
        return views

    def _axes(
        self,
        left: np.ndarray,
        lift: np.ndarray,
        columns: tuple[int, ...],
        grid: Grid,
        budget_per_day: float,
    ) -> Axes:
        """Axes that allow for rises of volume alone, where those alone would use up the budget."""
        volume = self.spec.volume if self.spec.volume in columns and len(columns) > 1 else None
        axes = Axes.fit(left.reshape(-1, left.shape[-1]), columns, volume)
        lone = axes.lone_rise(left, lift)
        known_days = max(np.isfinite(left).any(axis=(1, 2)).sum() / grid.per_day(), 1 / 24)
        begun = grouping.number(lone, grid.end_s, grid.cadence)[0] == grid.end_s[:, None]
        often = begun.sum() > budget_per_day * known_days
        return axes.allowing(lift[lone]) if often else axes

    def lift(self, values: np.ndarray, standing: Standing) -> np.ndarray:
        """ln of volume against what was expected, (...); 0 where there is no volume. Arguments (..., F)."""
        volume = self.spec.volume
        if volume is None:
            return np.zeros(values.shape[:-1])
        expected = unlinked(standing.expected, self.usual.links)[..., volume]
        return np.log1p(values[..., volume]) - np.log1p(np.maximum(expected, 0))

    def _look(self, grid: Grid) -> tuple[Standing, np.ndarray]:
        """Windows against what is usual and remembered, and their innovations."""
        standing = self.usual.standing(grid)
        if self.memory is None:
            return standing, standing.z
        z = standing.z
        axes = list(self.views.values())[-1].axes
        lift = self.lift(grid.values, standing)

        def conspicuous(left: np.ndarray, rows: slice) -> np.ndarray:
            return np.linalg.norm(np.nan_to_num(axes.apply(left, lift[rows])), axis=-1) > self.gate

        memory = self.memory.for_entities(len(grid.names))
        left, forecast = memory.innovations(z, conspicuous)
        return _shifted(standing, forecast, memory), left

    def heights(self, grid: Grid, since: int = 0) -> dict[str, dict[str, np.ndarray]]:
        """Of each view, by how windows are looked at, (T, E); of the rows from `since` on."""
        found: dict[str, dict[str, np.ndarray]] = {name: {} for name in self.views}
        for how, (standing, left) in self._looks(grid).items():
            lift = self.lift(grid.values, standing)[since:]
            for name, view in self.views.items():
                height = view.height(view.axes.apply(left[since:], lift))
                found[name][how] = persistent(height, grid.cadence) if how == COURSE else height
        return found

    def _looks(self, grid: Grid) -> dict[str, tuple[Standing, np.ndarray]]:
        looks = {COURSE: self._look(grid)}
        if isinstance(self.usual, SlotTable):
            for how, standing in (
                (ENTITY, self.usual.standing(grid)),
                (GLOBAL, self.usual.pooled_standing(grid)),
            ):
                looks[how] = standing, standing.z
        return looks

    def judge(self, grid: Grid, since: int = 0, *, known_from: int | None = None) -> Judged:
        """Every window of a grid whose first entities are the detector's. A window's result depends on rows at or before it only.

        Args:
            since: the first row that is scored; those before it are its past.
            known_from: an entity is on the platform from its first window in this row or a later one on, `since` when None: a file
                of a few entities is not taken for an outage of the others.
        """
        standing, left = self._look(grid)
        lift = self.lift(grid.values, standing)
        begin = max(0, since - needed_before(grid.cadence, since))
        score = np.full(grid.values.shape[:2], np.nan)
        for view in self.views.values():  # the second view, of all features, speaks where it can
            height = persistent(
                view.height(view.axes.apply(left[begin:], lift[begin:])), grid.cadence
            )
            score[begin:] = np.where(
                np.isfinite(height), scored(height, view.limits[COURSE].height), score[begin:]
            )
        score[:since] = np.nan
        there = _seen(grid, since if known_from is None else known_from)
        down = self._down(grid, standing, there)
        flagged = (np.nan_to_num(score) >= THRESHOLD) & ~down[:, None]
        score = np.where(down[:, None] & (score >= THRESHOLD), THRESHOLD * 0.99, score)
        width, links = BAND_Z * standing.sd, self.usual.links
        expected, low, high = (
            unlinked(standing.expected + by, links) for by in (0.0, -width, width)
        )
        return Judged(score, flagged, expected, left, low, high, down, there)

    def _down(self, grid: Grid, standing: Standing, there: np.ndarray) -> np.ndarray:
        volume = self.spec.volume
        if volume is None:
            return np.zeros(len(grid.end_s), bool)
        missing = np.isnan(grid.values[..., volume]) & there
        enough = (
            unlinked(standing.expected, self.usual.links)[..., volume] >= grouping.LEAST_EXPECTED
        )
        return grouping.platform_down(standing.z[..., volume], missing & enough, there)

    def to_plain(self) -> dict[str, Any]:
        """Everything but the models and the limits."""
        return {
            "spec": self.spec,
            "cadence": self.cadence,
            "names": self.names,
            "usual": self.usual.to_plain(),
            "memory": self.memory and self.memory.to_plain(),
            "gate": self.gate,
            "axes": {name: view.axes.to_plain() for name, view in self.views.items()},
        }


def _seen(grid: Grid, since: int) -> np.ndarray:
    """Entities with a window in this row or an earlier one, but not before `since`, (T, E)."""
    present = np.isfinite(grid.values).any(axis=2)
    present[:since] = False
    return np.logical_or.accumulate(present, axis=0)


def _far_out(z: np.ndarray) -> np.ndarray:
    return (np.abs(np.nan_to_num(z)) > 2 * COMPANY).any(axis=-1)


def _shifted(standing: Standing, forecast: np.ndarray, memory: Memory) -> Standing:
    """What is expected after the memory was asked, with the deviation that this leaves."""
    return standing._replace(
        expected=standing.expected + forecast * standing.sd, sd=standing.sd * memory.scale
    )
