"""The stages from windows to scores, and their fit, in order.

    stage              from -> to                fitted by            applied by
    baseline           windows -> Comparison     Baseline.fit         Baseline.compare*
    volume             Comparison -> Residuals   -                    from_comparison
    residual forecast  Residuals (in context)    ResidualForecast.fit with_forecast
    whitening, forest  Residuals -> raw score    _fit_feature_sets    FeatureSet.raw_score
    smoothing          raw score (in context)    -                    smooth
    normalisation      raw score -> score        choose_threshold     combine, normalize

Every path (files, stream, single rows, sentinels, thresholds) applies these and no others.
"""

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from adnomaly.arrays import Bools, Floats
from adnomaly.detector import grouping
from adnomaly.detector.baseline import Baseline
from adnomaly.detector.feature_sets import (
    ALL_FEATURES,
    ENTITY_BASELINE,
    GLOBAL_BASELINE,
    IN_CONTEXT,
    REQUIRED_FEATURES,
    FeatureSet,
    fit_feature_set,
)
from adnomaly.detector.forecast import ResidualForecast
from adnomaly.detector.grid import Grid
from adnomaly.detector.residuals import Residuals, from_comparison, with_forecast
from adnomaly.detector.seasonal import SeasonalBaseline
from adnomaly.detector.spec import Spec
from adnomaly.detector.whitening import CALM_RADIUS, Whitening

if TYPE_CHECKING:
    from sklearn.ensemble import IsolationForest

OUTLIER_SHARE: Final = 0.003
"""Share of history, the windows with the largest radius, that the residual forecast leaves out."""


class Stages(NamedTuple):
    """Fitted stages.

    Attributes:
        residual_forecast: None where the baseline has none.
        feature_sets: by name, REQUIRED_FEATURES and then, if fitted, ALL_FEATURES.
        outlier_radius: windows beyond this radius do not enter the residual forecast.
    """

    baseline: Baseline
    residual_forecast: ResidualForecast | None
    feature_sets: dict[str, FeatureSet]
    outlier_radius: float

    def residuals(self, grid: Grid) -> Residuals:
        """Residuals in context, (T, E, F)."""
        residuals = from_comparison(self.baseline, grid.values, self.baseline.compare(grid))
        if self.residual_forecast is None:
            return residuals
        whitening, lift = list(self.feature_sets.values())[-1].whitening, residuals.lift

        def outliers(innovations: Floats, rows: slice) -> Bools:
            coordinates = np.nan_to_num(whitening.apply(innovations, lift[rows]))
            beyond: Bools = np.linalg.norm(coordinates, axis=-1) > self.outlier_radius
            return beyond

        forecast = self.residual_forecast.for_entities(len(grid.names))
        return with_forecast(residuals, forecast, self.baseline, grid.values, outliers)

    def residuals_by_mode(self, grid: Grid) -> dict[str, Residuals]:
        """Residuals in context and, where single windows can be scored, without it."""
        modes = {IN_CONTEXT: self.residuals(grid)}
        if self.baseline.scores_rows:
            by_entity, pooled = self.baseline.compare(grid), self.baseline.compare_pooled(grid)
            modes[ENTITY_BASELINE] = from_comparison(self.baseline, grid.values, by_entity)
            modes[GLOBAL_BASELINE] = from_comparison(self.baseline, grid.values, pooled)
        return modes


def fit_stages(
    grid: Grid, spec: Spec, budget_per_day: float, seed: int, *, seasonal: bool
) -> "tuple[Stages, dict[str, IsolationForest]]":
    """All stages but the thresholds, and the forests that the models were exported from."""
    # Scoring processes start without pandas, which this baseline needs.
    from adnomaly.detector.rolling import RollingBaseline

    family: type[Baseline] = SeasonalBaseline if seasonal else RollingBaseline
    baseline = family.fit(grid, spec)
    residuals = from_comparison(baseline, grid.values, baseline.compare(grid))
    forecast = None
    if baseline.has_forecast:
        far = _far_out(residuals.innovations)
        forecast = ResidualForecast.fit(residuals.innovations, grid.cadence, far)
        residuals = with_forecast(
            residuals, forecast, baseline, grid.values, lambda _, rows: far[rows]
        )
    feature_sets, forests, radius = _fit_feature_sets(residuals, grid, spec, budget_per_day, seed)
    return Stages(baseline, forecast, feature_sets, radius), forests


def feature_set_columns(grid: Grid, spec: Spec) -> dict[str, tuple[int, ...]]:
    """Features of each feature set; ALL_FEATURES where most windows have the optional ones."""
    required = spec.required
    complete = np.isfinite(grid.values).all(axis=2).sum()
    columns = {REQUIRED_FEATURES: required}
    if (
        len(required) < len(spec.measures)
        and complete > 0.5 * np.isfinite(grid.values[..., required[0]]).sum()
    ):
        columns[ALL_FEATURES] = tuple(range(len(spec.measures)))
    return columns


def _fit_feature_sets(
    residuals: Residuals, grid: Grid, spec: Spec, budget_per_day: float, seed: int
) -> "tuple[dict[str, FeatureSet], dict[str, IsolationForest], float]":
    """Feature sets, their forests, and the outlier radius of the last one."""
    feature_sets, forests, outlier_radius = {}, {}, float("inf")
    for name, columns in feature_set_columns(grid, spec).items():
        whitening = _fit_whitening(residuals, columns, grid, spec, budget_per_day)
        coordinates = whitening.apply(residuals.innovations, residuals.lift)
        feature_sets[name], forests[name] = fit_feature_set(
            whitening, coordinates.reshape(-1, len(columns)), seed
        )
        radius = np.linalg.norm(coordinates, axis=-1)
        outlier_radius = (
            float(np.nanquantile(radius, 1 - OUTLIER_SHARE))
            if np.isfinite(radius).any()
            else float("inf")
        )
    return feature_sets, forests, outlier_radius


def _fit_whitening(
    residuals: Residuals, columns: tuple[int, ...], grid: Grid, spec: Spec, budget_per_day: float
) -> Whitening:
    """A whitening that tolerates volume-only spikes where they alone would use up the budget."""
    innovations, lift = residuals.innovations, residuals.lift
    volume = spec.volume if spec.volume in columns and len(columns) > 1 else None
    whitening = Whitening.fit(innovations.reshape(-1, innovations.shape[-1]), columns, volume)
    spikes = whitening.volume_only_spikes(innovations, lift)
    known_days = max(np.isfinite(innovations).any(axis=(1, 2)).sum() / grid.per_day(), 1 / 24)
    began = grouping.number(spikes, grid.end_s, grid.cadence)[0] == grid.end_s[:, None]
    frequent = began.sum() > budget_per_day * known_days
    return whitening.with_tolerance(lift[spikes]) if frequent else whitening


def _far_out(z: Floats) -> Bools:
    far: Bools = (np.abs(np.nan_to_num(z)) > 2 * CALM_RADIUS).any(axis=-1)
    return far
