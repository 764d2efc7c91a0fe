"""The whole detector: fitted on history, it judges the windows that follow."""

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np

from adnomaly.detector import grouping
from adnomaly.detector.feature_sets import (
    ENTITY_BASELINE,
    GLOBAL_BASELINE,
    IN_CONTEXT,
    FeatureSet,
    fit_feature_set,
    normalize,
)
from adnomaly.detector.forecast import ResidualForecast
from adnomaly.detector.grid import Cadence, Grid
from adnomaly.detector.seasonal import Comparison, SeasonalBaseline
from adnomaly.detector.smoothing import lookback, smooth
from adnomaly.detector.spec import Spec
from adnomaly.detector.thresholds import Threshold, choose_threshold
from adnomaly.detector.transforms import inverse_transform
from adnomaly.detector.whitening import COMPANY, Whitening

if TYPE_CHECKING:
    from sklearn.ensemble import IsolationForest

    from adnomaly.detector.rolling import RollingBaseline

THRESHOLD: Final = 0.5
BAND_Z: Final = 3.0
"""Robust standard deviations around what is expected, in which nearly all normal windows lie."""
HELD_OUT: Final = 0.25
"""Share of history, its end, that limits are calibrated on by a detector fitted on the rest."""
GATE_SHARE: Final = 0.003
"""The most conspicuous windows of history, that do not become usual."""
REQUIRED_FEATURES: Final = "contract"
ALL_FEATURES: Final = "all"


class GridScores(NamedTuple):
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
        baseline: "SeasonalBaseline | RollingBaseline",
        residual_forecast: ResidualForecast | None,
        feature_sets: dict[str, FeatureSet],
        gate: float,
    ) -> None:
        self.spec, self.cadence, self.names, self.baseline, self.residual_forecast, self.gate = (
            spec,
            cadence,
            names,
            baseline,
            residual_forecast,
            gate,
        )
        self.feature_sets = {
            name: feature_sets[name]
            for name in (REQUIRED_FEATURES, ALL_FEATURES)
            if name in feature_sets
        }
        self.forests = {}

    @classmethod
    def fit(
        cls,
        grid: Grid,
        spec: Spec,
        *,
        budget_per_day: float,
        seed: int,
        seasonal: bool | None = None,
    ) -> Self:
        """A detector whose limits come from the last quarter of history, seen by one that was fitted on the rest of it.

        Args:
            slots: whether a slot table says what is usual, or what came before each window; None leaves it to the history.
                Only with a slot table can it judge a window alone.
        """
        thresholds = cls.find_thresholds(
            grid, spec, budget_per_day=budget_per_day, seed=seed, seasonal=seasonal
        )
        whole = cls._fit(
            grid,
            spec,
            budget_per_day,
            seed,
            seasonal=SeasonalBaseline.suits(grid) if seasonal is None else seasonal,
        )
        for name, feature_set in whole.feature_sets.items():
            whole.feature_sets[name] = feature_set._replace(thresholds=thresholds[name])
        return whole

    @classmethod
    def find_thresholds(
        cls,
        grid: Grid,
        spec: Spec,
        *,
        budget_per_day: float,
        seed: int,
        seasonal: bool | None = None,
    ) -> dict[str, dict[str, Threshold]]:
        """The limits of a detector of this history, by view and by how windows are looked at."""
        split = int(len(grid.end_s) * (1 - HELD_OUT))
        first = grid.between(0, split)
        suits = SeasonalBaseline.suits(grid) if seasonal is None else seasonal
        # A quarter is only held out where a slot table can do without it; a trailing baseline sees earlier windows only, anyway.
        apart = suits and (SeasonalBaseline.suits(first) or seasonal is not None)
        feature_sets = tuple(cls._columns(grid, spec))
        draft = cls._fit(first if apart else grid, spec, budget_per_day, seed, seasonal=suits)
        if set(draft.feature_sets) != set(feature_sets):  # history got its further features lately
            apart, draft = False, cls._fit(grid, spec, budget_per_day, seed, seasonal=suits)
        raw_scores = draft.raw_scores(grid, split if apart else 0)
        return {
            name: {
                how: choose_threshold(raw, grid.cadence, budget_per_day) for how, raw in by.items()
            }
            for name, by in raw_scores.items()
        }

    @classmethod
    def _fit(
        cls, grid: Grid, spec: Spec, budget_per_day: float, seed: int, *, seasonal: bool
    ) -> Self:
        from adnomaly.detector.rolling import RollingBaseline

        baseline = (SeasonalBaseline if seasonal else RollingBaseline).fit(grid, spec)
        comparison = baseline.compare(grid)
        z = comparison.z
        residual_forecast = ResidualForecast.fit(z, grid.cadence, _far_out(z)) if seasonal else None
        left = z
        if residual_forecast is not None:
            left, forecast = residual_forecast.innovations(z, lambda _, rows: _far_out(z[rows]))
            comparison = _shifted(comparison, forecast, residual_forecast)
        detector = cls(
            spec, grid.cadence, grid.names, baseline, residual_forecast, {}, float("inf")
        )
        lift = detector.lift(grid.values, comparison)
        for name, columns in cls._columns(grid, spec).items():
            whitening = detector._fit_whitening(left, lift, columns, grid, budget_per_day)
            coordinates = whitening.apply(left, lift)
            detector.feature_sets[name], detector.forests[name] = fit_feature_set(
                whitening, coordinates.reshape(-1, len(columns)), seed
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
        feature_sets = {REQUIRED_FEATURES: required}
        if len(required) < len(spec.measures) and whole:
            feature_sets[ALL_FEATURES] = tuple(range(len(spec.measures)))
        return feature_sets

    def _fit_whitening(
        self,
        left: np.ndarray,
        lift: np.ndarray,
        columns: tuple[int, ...],
        grid: Grid,
        budget_per_day: float,
    ) -> Whitening:
        """Axes that allow for rises of volume alone, where those alone would use up the budget."""
        volume = self.spec.volume if self.spec.volume in columns and len(columns) > 1 else None
        whitening = Whitening.fit(left.reshape(-1, left.shape[-1]), columns, volume)
        lone = whitening.volume_only_spikes(left, lift)
        known_days = max(np.isfinite(left).any(axis=(1, 2)).sum() / grid.per_day(), 1 / 24)
        begun = grouping.number(lone, grid.end_s, grid.cadence)[0] == grid.end_s[:, None]
        often = begun.sum() > budget_per_day * known_days
        return whitening.with_tolerance(lift[lone]) if often else whitening

    def lift(self, values: np.ndarray, comparison: Comparison) -> np.ndarray:
        """ln of volume against what was expected, (...); 0 where there is no volume. Arguments (..., F)."""
        volume = self.spec.volume
        if volume is None:
            return np.zeros(values.shape[:-1])
        expected = inverse_transform(comparison.expected, self.baseline.transforms)[..., volume]
        return np.log1p(values[..., volume]) - np.log1p(np.maximum(expected, 0))

    def _residuals(self, grid: Grid) -> tuple[Comparison, np.ndarray]:
        """Windows against what is usual and remembered, and their innovations."""
        comparison = self.baseline.compare(grid)
        if self.residual_forecast is None:
            return comparison, comparison.z
        z = comparison.z
        whitening = list(self.feature_sets.values())[-1].whitening
        lift = self.lift(grid.values, comparison)

        def outliers(left: np.ndarray, rows: slice) -> np.ndarray:
            return (
                np.linalg.norm(np.nan_to_num(whitening.apply(left, lift[rows])), axis=-1)
                > self.gate
            )

        residual_forecast = self.residual_forecast.for_entities(len(grid.names))
        left, forecast = residual_forecast.innovations(z, outliers)
        return _shifted(comparison, forecast, residual_forecast), left

    def raw_scores(self, grid: Grid, since: int = 0) -> dict[str, dict[str, np.ndarray]]:
        """Of each view, by how windows are looked at, (T, E); of the rows from `since` on."""
        found: dict[str, dict[str, np.ndarray]] = {name: {} for name in self.feature_sets}
        for how, (comparison, left) in self._residuals_by_baseline(grid).items():
            lift = self.lift(grid.values, comparison)[since:]
            for name, feature_set in self.feature_sets.items():
                raw = feature_set.raw_score(feature_set.whitening.apply(left[since:], lift))
                found[name][how] = smooth(raw, grid.cadence) if how == IN_CONTEXT else raw
        return found

    def _residuals_by_baseline(self, grid: Grid) -> dict[str, tuple[Comparison, np.ndarray]]:
        looks = {IN_CONTEXT: self._residuals(grid)}
        if isinstance(self.baseline, SeasonalBaseline):
            for how, comparison in (
                (ENTITY_BASELINE, self.baseline.compare(grid)),
                (GLOBAL_BASELINE, self.baseline.compare_pooled(grid)),
            ):
                looks[how] = comparison, comparison.z
        return looks

    def score(self, grid: Grid, since: int = 0, *, known_from: int | None = None) -> GridScores:
        """Every window of a grid whose first entities are the detector's. A window's result depends on rows at or before it only.

        Args:
            since: the first row that is scored; those before it are its past.
            known_from: an entity is on the platform from its first window in this row or a later one on, `since` when None: a file
                of a few entities is not taken for an outage of the others.
        """
        comparison, left = self._residuals(grid)
        lift = self.lift(grid.values, comparison)
        begin = max(0, since - lookback(grid.cadence, since))
        score = np.full(grid.values.shape[:2], np.nan)
        for (
            feature_set
        ) in self.feature_sets.values():  # the second view, of all features, speaks where it can
            raw = smooth(
                feature_set.raw_score(feature_set.whitening.apply(left[begin:], lift[begin:])),
                grid.cadence,
            )
            score[begin:] = np.where(
                np.isfinite(raw),
                normalize(raw, feature_set.thresholds[IN_CONTEXT].raw_score),
                score[begin:],
            )
        score[:since] = np.nan
        there = _seen(grid, since if known_from is None else known_from)
        down = self._down(grid, comparison, there)
        flagged = (np.nan_to_num(score) >= THRESHOLD) & ~down[:, None]
        score = np.where(down[:, None] & (score >= THRESHOLD), THRESHOLD * 0.99, score)
        width, transforms = BAND_Z * comparison.sd, self.baseline.transforms
        expected, low, high = (
            inverse_transform(comparison.expected + by, transforms) for by in (0.0, -width, width)
        )
        return GridScores(score, flagged, expected, left, low, high, down, there)

    def _down(self, grid: Grid, comparison: Comparison, there: np.ndarray) -> np.ndarray:
        volume = self.spec.volume
        if volume is None:
            return np.zeros(len(grid.end_s), bool)
        missing = np.isnan(grid.values[..., volume]) & there
        enough = (
            inverse_transform(comparison.expected, self.baseline.transforms)[..., volume]
            >= grouping.MIN_EXPECTED
        )
        return grouping.platform_down(comparison.z[..., volume], missing & enough, there)

    def to_plain(self) -> dict[str, Any]:
        """Everything but the models and the limits."""
        return {
            "spec": self.spec,
            "cadence": self.cadence,
            "names": self.names,
            "usual": self.baseline.to_plain(),
            "memory": self.residual_forecast and self.residual_forecast.to_plain(),
            "gate": self.gate,
            "axes": {
                name: feature_set.whitening.to_plain()
                for name, feature_set in self.feature_sets.items()
            },
        }


def _seen(grid: Grid, since: int) -> np.ndarray:
    """Entities with a window in this row or an earlier one, but not before `since`, (T, E)."""
    present = np.isfinite(grid.values).any(axis=2)
    present[:since] = False
    return np.logical_or.accumulate(present, axis=0)


def _far_out(z: np.ndarray) -> np.ndarray:
    return (np.abs(np.nan_to_num(z)) > 2 * COMPANY).any(axis=-1)


def _shifted(
    comparison: Comparison, forecast: np.ndarray, residual_forecast: ResidualForecast
) -> Comparison:
    """What is expected after the memory was asked, with the deviation that this leaves."""
    return comparison._replace(
        expected=comparison.expected + forecast * comparison.sd,
        sd=comparison.sd * residual_forecast.scale,
    )
