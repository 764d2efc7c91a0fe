"""The fitted detector: scores windows in context, and single windows."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from adnomaly.arrays import Bools, Floats, Ints
from adnomaly.detector import grouping
from adnomaly.detector.baseline import Baseline, Comparison
from adnomaly.detector.feature_sets import (
    ALL_FEATURES,
    ENTITY_BASELINE,
    GLOBAL_BASELINE,
    IN_CONTEXT,
    REQUIRED_FEATURES,
    FeatureSet,
    ForestScores,
    combine,
    normalize,
)
from adnomaly.detector.forecast import ResidualForecast
from adnomaly.detector.grid import Cadence, Grid
from adnomaly.detector.residuals import from_comparison
from adnomaly.detector.scores import GridScores, SingleScores
from adnomaly.detector.seasonal import SeasonalBaseline
from adnomaly.detector.smoothing import lookback, smooth
from adnomaly.detector.spec import Spec
from adnomaly.detector.stages import Stages, feature_set_columns, fit_stages
from adnomaly.detector.thresholds import Threshold, choose_threshold
from adnomaly.detector.transforms import inverse_transform

if TYPE_CHECKING:
    from sklearn.ensemble import IsolationForest

THRESHOLD: Final = 0.5
BAND_Z: Final = 3.0
"""Half width of the band of normal values, in robust standard deviations."""
HELD_OUT: Final = 0.25
"""Share of history, its end, for thresholds; the detector behind them is fitted on the rest."""


class Detector:
    """Fitted stages and thresholds.

    Attributes:
        names: of the entities that it was fitted on.
        feature_sets: REQUIRED_FEATURES scores every window, ALL_FEATURES those that have them all.
        forests: the models' originals; empty unless fitted in this process.
    """

    forests: "dict[str, IsolationForest]"

    def __init__(
        self,
        spec: Spec,
        cadence: Cadence,
        names: tuple[str, ...],
        baseline: Baseline,
        residual_forecast: ResidualForecast | None,
        feature_sets: Mapping[str, FeatureSet],
        outlier_radius: float,
    ) -> None:
        self.spec, self.cadence, self.names = spec, cadence, names
        self.baseline, self.residual_forecast = baseline, residual_forecast
        self.outlier_radius = outlier_radius
        self.feature_sets = {
            name: feature_sets[name]
            for name in (REQUIRED_FEATURES, ALL_FEATURES)
            if name in feature_sets
        }
        self.forests = {}

    @property
    def stages(self) -> Stages:
        return Stages(self.baseline, self.residual_forecast, self.feature_sets, self.outlier_radius)

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
        """A detector of all history, with the thresholds that `find_thresholds` chooses.

        Args:
            seasonal: use the seasonal baseline, else the rolling one; None decides by history.
                Only the seasonal baseline can score single windows.
        """
        thresholds = cls.find_thresholds(
            grid, spec, budget_per_day=budget_per_day, seed=seed, seasonal=seasonal
        )
        suits = SeasonalBaseline.suits(grid) if seasonal is None else seasonal
        detector = cls._draft(grid, spec, budget_per_day, seed, seasonal=suits)
        for name, feature_set in detector.feature_sets.items():
            detector.feature_sets[name] = feature_set._replace(thresholds=thresholds[name])
        return detector

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
        """Thresholds by feature set and mode.

        A seasonal detector is fitted on the first three quarters of history and scores the last
        one. A rolling one scores all of it: its baseline uses earlier windows only.
        """
        split = int(len(grid.end_s) * (1 - HELD_OUT))
        first = grid.between(0, split)
        suits = SeasonalBaseline.suits(grid) if seasonal is None else seasonal
        apart = suits and (SeasonalBaseline.suits(first) or seasonal is not None)
        draft = cls._draft(first if apart else grid, spec, budget_per_day, seed, seasonal=suits)
        if set(draft.feature_sets) != set(feature_set_columns(grid, spec)):
            # The optional features are newer than the split.
            apart, draft = False, cls._draft(grid, spec, budget_per_day, seed, seasonal=suits)
        return {
            name: {
                mode: choose_threshold(raw, grid.cadence, budget_per_day)
                for mode, raw in by_mode.items()
            }
            for name, by_mode in draft.raw_scores(grid, split if apart else 0).items()
        }

    @classmethod
    def _draft(
        cls, grid: Grid, spec: Spec, budget_per_day: float, seed: int, *, seasonal: bool
    ) -> Self:
        """A detector without thresholds."""
        stages, forests = fit_stages(grid, spec, budget_per_day, seed, seasonal=seasonal)
        detector = cls(spec, grid.cadence, grid.names, *stages)
        detector.forests = forests
        return detector

    def raw_scores(self, grid: Grid, since: int = 0) -> dict[str, dict[str, Floats]]:
        """Raw scores (T, E) from row `since` on, by feature set and mode."""
        raw_scores: dict[str, dict[str, Floats]] = {name: {} for name in self.feature_sets}
        for mode, residuals in self.stages.residuals_by_mode(grid).items():
            rows = residuals.take(slice(since, None))
            for name, feature_set in self.feature_sets.items():
                raw = feature_set.raw_score(rows)
                raw_scores[name][mode] = smooth(raw, grid.cadence) if mode == IN_CONTEXT else raw
        return raw_scores

    def score(self, grid: Grid, since: int = 0, *, known_from: int | None = None) -> GridScores:
        """Score all windows of a grid in context; the first entities are the detector's.

        A window's score depends on rows at or before it only.

        Args:
            since: first row to score; the rows before it are history.
            known_from: an entity counts as present from its first window in this row or later,
                `since` when None: a file of few entities is no outage of the others.
        """
        residuals = self.stages.residuals(grid)
        begin = max(0, since - lookback(grid.cadence, since))
        rows = residuals.take(slice(begin, None))
        raw_scores = {
            name: smooth(feature_set.raw_score(rows), grid.cadence)
            for name, feature_set in self.feature_sets.items()
        }
        score = np.full(grid.values.shape[:2], np.nan)
        score[begin:] = combine(self.feature_sets, raw_scores, IN_CONTEXT)
        score[:since] = np.nan
        there = _observed(grid, since if known_from is None else known_from)
        comparison = residuals.comparison
        down = self._down(grid, comparison, there)
        flagged = (np.nan_to_num(score) >= THRESHOLD) & ~down[:, None]
        score = np.where(down[:, None] & (score >= THRESHOLD), THRESHOLD * 0.99, score)
        width, transforms = BAND_Z * comparison.sd, self.baseline.transforms
        expected, low, high = (
            inverse_transform(comparison.expected + by, transforms) for by in (0.0, -width, width)
        )
        return GridScores(score, flagged, expected, residuals.innovations, low, high, down, there)

    def score_rows(
        self,
        values: Floats,
        end_s: Ints,
        entity: Ints,
        forests: Mapping[str, ForestScores] | None = None,
    ) -> SingleScores:
        """Score single windows (n, F) without context, by all features where a row has them.

        Args:
            entity: position of each row's entity, (n,); -1 for an unknown one.
            forests: by feature set, instead of the exported ones.
        """
        comparison, known = self.baseline.compare_rows(values, end_s, entity, self.cadence.size_s)
        residuals = from_comparison(self.baseline, values, comparison)
        complete = (
            np.isfinite(residuals.innovations).all(axis=1)
            if ALL_FEATURES in self.feature_sets
            else np.zeros(len(values), bool)
        )
        score = np.empty(len(values))
        for name, rows in ((REQUIRED_FEATURES, ~complete), (ALL_FEATURES, complete)):
            if rows.any():
                feature_set = self.feature_sets[name]
                forest = forests[name] if forests else None
                raw = feature_set.raw_score(residuals.take(rows), forest)
                by_mode = feature_set.thresholds
                threshold = np.where(
                    known[rows],
                    by_mode[ENTITY_BASELINE].raw_score,
                    by_mode[GLOBAL_BASELINE].raw_score,
                )
                score[rows] = normalize(raw, threshold)
        return SingleScores(score, comparison, known, complete)

    def _down(self, grid: Grid, comparison: Comparison, there: Bools) -> Bools:
        """Rows (T,) in which the platform is down."""
        volume = self.spec.volume
        if volume is None:
            return np.zeros(len(grid.end_s), bool)
        missing = np.isnan(grid.values[..., volume]) & there
        expected = inverse_transform(comparison.expected, self.baseline.transforms)[..., volume]
        certain = expected >= grouping.MIN_EXPECTED
        return grouping.platform_down(comparison.z[..., volume], missing & certain, there)

    def to_plain(self) -> dict[str, Any]:
        """As stored in preprocess.json: all but models and thresholds, under historical keys."""
        return {
            "spec": self.spec,
            "cadence": self.cadence,
            "names": self.names,
            "usual": self.baseline.to_plain(),
            "memory": self.residual_forecast and self.residual_forecast.to_plain(),
            "gate": self.outlier_radius,
            "axes": {
                name: feature_set.whitening.to_plain()
                for name, feature_set in self.feature_sets.items()
            },
        }


def _observed(grid: Grid, since: int) -> Bools:
    """Entities with a window in this row or an earlier one from `since` on, (T, E)."""
    present = np.isfinite(grid.values).any(axis=2)
    present[:since] = False
    observed: Bools = np.logical_or.accumulate(present, axis=0)
    return observed
