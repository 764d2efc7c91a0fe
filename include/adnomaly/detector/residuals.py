"""Residuals: the value that runs through the stages, from the baseline to the feature sets."""

from typing import NamedTuple

import numpy as np

from adnomaly.arrays import Bools, Floats
from adnomaly.detector.baseline import Baseline, Comparison
from adnomaly.detector.forecast import Outliers, ResidualForecast
from adnomaly.detector.transforms import inverse_transform


class Residuals(NamedTuple):
    """Windows after the baseline and, in context, the residual forecast.

    Attributes:
        comparison: value, expected value and standard deviation, (..., F).
        innovations: deviation from the expected value in standard deviations, (..., F).
        lift: ln(volume / expected volume), (...); 0 for a spec without volume.
    """

    comparison: Comparison
    innovations: Floats
    lift: Floats

    def take(self, index: slice | Bools) -> "Residuals":
        """The rows of a slice, or those where a mask holds."""
        return Residuals(self.comparison.take(index), self.innovations[index], self.lift[index])


def from_comparison(baseline: Baseline, values: Floats, comparison: Comparison) -> Residuals:
    """Residuals of windows (..., F) against the baseline alone."""
    return Residuals(comparison, comparison.z, _volume_lift(baseline, values, comparison))


def with_forecast(
    residuals: Residuals,
    forecast: ResidualForecast,
    baseline: Baseline,
    values: Floats,
    outliers: Outliers,
) -> Residuals:
    """Residuals of windows (T, E, F) after the residual forecast."""
    innovations, predicted = forecast.innovations(residuals.innovations, outliers)
    shifted = residuals.comparison.shifted(predicted, forecast.scale)
    return Residuals(shifted, innovations, _volume_lift(baseline, values, shifted))


def _volume_lift(baseline: Baseline, values: Floats, comparison: Comparison) -> Floats:
    volume = baseline.spec.volume
    if volume is None:
        return np.zeros(values.shape[:-1])
    expected = inverse_transform(comparison.expected, baseline.transforms)[..., volume]
    lift: Floats = np.log1p(values[..., volume]) - np.log1p(np.maximum(expected, 0))
    return lift
