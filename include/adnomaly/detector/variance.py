"""How far a feature usually is from what is expected, given how many events are behind it."""

from typing import Final

import numpy as np

from adnomaly.detector.day_curve import MAD, SLOT_ROWS
from adnomaly.detector.spec import Spec

BINS: Final = 8
FROM_MIDDLE: Final = 1 / 3.29
"""The middle 90 % of normal noise is 3.29 deviations wide."""
MIN_SD: Final = 1e-6


def fit_variance(residual: np.ndarray, counts: np.ndarray, spec: Spec) -> np.ndarray:
    """Variance as a + b / n per entity and feature, (E, F, 2): a of the process, b of counting few events.

    Args:
        residual: on the links' scale, (T, E, F).
        counts: events behind each feature, (T, E, F); 1 where a feature has no count behind it.
    """
    entities, features = residual.shape[1:]
    out = np.full((entities, features, 2), np.nan)
    for e, f in np.ndindex(entities, features):
        known = np.isfinite(residual[:, e, f]) & np.isfinite(counts[:, e, f])
        if known.sum() >= SLOT_ROWS:
            weighed = spec.weight(f) is not None
            out[e, f] = (
                _two_parts(residual[known, e, f], counts[known, e, f])
                if weighed
                else (_variance(residual[known, e, f]), 0.0)
            )
    return out


def deviation(noise: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Standard deviation expected of each feature, (T, E, F), above 0."""
    return np.sqrt(np.maximum(noise[..., 0] + noise[..., 1] / np.maximum(counts, 1), MIN_SD**2))


def _two_parts(residual: np.ndarray, count: np.ndarray) -> tuple[float, float]:
    """Least squares through the robust variances of bins of equal size by count; both parts are at least 0."""
    from scipy.optimize import nnls  # for fitting alone: a process that scores does without

    edges = np.quantile(count, np.linspace(0, 1, BINS + 1))
    number = np.clip(np.searchsorted(edges, count, side="right") - 1, 0, BINS - 1)
    bins = [number == i for i in range(BINS) if (number == i).sum() >= SLOT_ROWS]
    variance = np.array([_variance(residual[b]) for b in bins])
    inverse = np.array([np.mean(1 / np.maximum(count[b], 1)) for b in bins])
    usable = variance > 0
    if not usable.any():
        return _variance(residual), 0.0
    # Divided by the variances: each bin counts by its relative error.
    design = np.column_stack([np.ones(usable.sum()), inverse[usable]]) / variance[usable, None]
    a, b = nnls(design, np.ones(usable.sum()))[0]
    return float(a), float(b)


def _variance(residual: np.ndarray) -> float:
    """The robust one, or that of the middle 90 % where more than half of the residuals are one value, as ratios of few events are."""
    middle = np.quantile(residual, 0.95) - np.quantile(residual, 0.05)
    return float(max(MAD * np.median(np.abs(residual)), FROM_MIDDLE * middle) ** 2)
