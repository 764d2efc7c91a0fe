"""Fits the detector: an Isolation Forest on residuals. Higher scores are more anomalous, from 0 to 1."""

import logging
from typing import Final

import numpy as np
from sklearn.ensemble import IsolationForest

log = logging.getLogger("train")

TREES: Final = 150
SAMPLES: Final = 1024
"""Rows that each tree sees."""

TAIL_SHARE: Final = 0.03
TAIL_FACTORS: Final = (2.0, 8.0)


def fit_forest(residuals: np.ndarray, *, seed: int, trees: int = TREES) -> IsolationForest:
    """A forest on residuals (n, F) float32. Equal arguments give an equal forest."""
    rng = np.random.default_rng(seed)
    padded = np.concatenate([residuals, tail(residuals, rng)])
    forest = IsolationForest(
        n_estimators=trees, max_samples=min(SAMPLES, len(padded)), random_state=seed, n_jobs=1
    )
    forest.fit(padded)
    log.info(
        "forest of %d trees on %d rows, %d of them tail padding",
        trees,
        len(padded),
        len(padded) - len(residuals),
    )
    return forest


def tail(residuals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Stretched copies of 3 % of the rows, with random signs.

    A forest gives every point outside its training range the score of the range's edge, so that a huge residual looks like
    a large one. These rows widen the range.
    """
    rows = residuals[
        rng.choice(len(residuals), max(1, round(TAIL_SHARE * len(residuals))), replace=False)
    ]
    factors = rng.uniform(*TAIL_FACTORS, (len(rows), 1))
    signs = rng.choice([-1.0, 1.0], rows.shape)
    return (rows * factors * signs).astype(np.float32)


def forest_scores(forest: IsolationForest, residuals: np.ndarray) -> np.ndarray:
    """The reference that the exported model must equal, (n,) float64 in (0, 1); higher is more anomalous."""
    return -forest.score_samples(residuals)
