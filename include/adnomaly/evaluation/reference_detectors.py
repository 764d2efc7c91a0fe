"""Simple rules on the same residuals: what a detector must beat, or it is not worth having."""

from typing import Final

import numpy as np

SEED: Final = 42
NEAR: Final = 6.0
"""Windows further out do not shape the covariance."""

RANDOM: Final = "random"
ALWAYS_ON: Final = "always on"
MAX_Z: Final = "max |z|"
MAHALANOBIS: Final = "Mahalanobis"


def reference_scores(z: np.ndarray, split: int) -> dict[str, np.ndarray]:
    """Scores of the rows from `split` on, (T, E), of z (T, E, K): chance, an alarm that is always on, the largest |z|, the distance."""
    live = z[split:]
    known = np.isfinite(live).all(axis=2)
    rows = z[:split].reshape(-1, z.shape[2])
    rows = rows[np.isfinite(rows).all(axis=1)]
    inverse = np.linalg.inv(np.atleast_2d(np.cov(rows[np.abs(rows).max(axis=1) < NEAR].T)))
    scores = {
        RANDOM: np.random.default_rng(SEED).random(known.shape),
        ALWAYS_ON: np.ones(known.shape),
        MAX_Z: np.abs(live).max(axis=2),
        MAHALANOBIS: np.einsum("tei,ij,tej->te", live, inverse, live),
    }
    return {name: np.where(known, score, np.nan) for name, score in scores.items()}
