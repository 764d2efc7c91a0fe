"""Variance model of residuals: process noise plus counting noise."""

from typing import Final

import numpy as np

from adnomaly.arrays import Floats
from adnomaly.detector.day_curve import MAD, MIN_HOUR_ROWS
from adnomaly.detector.spec import Spec

BINS: Final = 8
FROM_MIDDLE: Final = 1 / 3.29
"""The middle 90 % of normal noise is 3.29 standard deviations wide."""
MIN_SD: Final = 1e-6


def fit_variance(residual: Floats, counts: Floats, spec: Spec) -> Floats:
    """Variance a + b / count per entity and feature, (E, F, 2): a process noise, b counting noise.

    Args:
        residual: on the transformed scale, (T, E, F).
        counts: events behind each feature, (T, E, F); 1 for a feature without a count.
    """
    entities, features = residual.shape[1:]
    out = np.full((entities, features, 2), np.nan)
    for e, f in np.ndindex(entities, features):
        known = np.isfinite(residual[:, e, f]) & np.isfinite(counts[:, e, f])
        if known.sum() >= MIN_HOUR_ROWS:
            out[e, f] = (
                (_robust_variance(residual[known, e, f]), 0.0)
                if spec.weight(f) is None
                else _two_parts(residual[known, e, f], counts[known, e, f])
            )
    return out


def deviation(variance: Floats, counts: Floats) -> Floats:
    """Standard deviation of each feature, (..., F), above 0."""
    sd: Floats = np.sqrt(
        np.maximum(variance[..., 0] + variance[..., 1] / np.maximum(counts, 1), MIN_SD**2)
    )
    return sd


def _two_parts(residual: Floats, count: Floats) -> tuple[float, float]:
    """Nonnegative least squares through the robust variances of bins of equal size by count."""
    from scipy.optimize import nnls  # scoring processes start without scipy

    edges = np.quantile(count, np.linspace(0, 1, BINS + 1))
    number = np.clip(np.searchsorted(edges, count, side="right") - 1, 0, BINS - 1)
    bins = [number == i for i in range(BINS) if (number == i).sum() >= MIN_HOUR_ROWS]
    variance = np.array([_robust_variance(residual[b]) for b in bins])
    inverse = np.array([np.mean(1 / np.maximum(count[b], 1)) for b in bins])
    usable = variance > 0
    if not usable.any():
        return _robust_variance(residual), 0.0
    # Divided by the variances: each bin counts by its relative error.
    design = np.column_stack([np.ones(usable.sum()), inverse[usable]]) / variance[usable, None]
    a, b = nnls(design, np.ones(usable.sum()))[0]
    return float(a), float(b)


def _robust_variance(residual: Floats) -> float:
    """From the MAD, or from the middle 90 % where more than half of the residuals are equal."""
    middle = np.quantile(residual, 0.95) - np.quantile(residual, 0.05)
    return float(max(MAD * np.median(np.abs(residual)), FROM_MIDDLE * middle) ** 2)
