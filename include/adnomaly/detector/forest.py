"""Fit the isolation forest. Higher scores are more anomalous, from 0 to 1."""

import logging
from typing import Final

import numpy as np
from sklearn.ensemble import IsolationForest

from adnomaly.arrays import Floats, Floats32

log = logging.getLogger("train")

TREES: Final = 150
SAMPLES: Final = 1024
"""Rows per tree."""

TAIL_SHARE: Final = 0.03
TAIL_FACTORS: Final = (2.0, 8.0)


def fit_forest(rows: Floats32, *, seed: int, trees: int = TREES) -> IsolationForest:
    """A forest on rows (n, F). Deterministic for a seed."""
    rng = np.random.default_rng(seed)
    padding = tail(rows, rng)
    padded = np.concatenate([rows, padding])
    forest = IsolationForest(
        n_estimators=trees, max_samples=min(SAMPLES, len(padded)), random_state=seed, n_jobs=1
    )
    forest.fit(padded)
    log.info(
        "fitted forest of %d trees on %d rows, %d of them tail padding",
        trees,
        len(padded),
        len(padding),
    )
    return forest


def tail(rows: Floats32, rng: np.random.Generator) -> Floats32:
    """Stretched copies of 3 % of the rows with random signs, to widen the training range.

    A forest is constant outside its training range: a huge residual would score like a large one.
    """
    chosen = rows[rng.choice(len(rows), max(1, round(TAIL_SHARE * len(rows))), replace=False)]
    factors = rng.uniform(*TAIL_FACTORS, (len(chosen), 1))
    signs = rng.choice([-1.0, 1.0], chosen.shape)
    stretched: Floats32 = (chosen * factors * signs).astype(np.float32)
    return stretched


def forest_scores(forest: IsolationForest, rows: Floats32) -> Floats:
    """Reference scores that the export must equal, (n,) in (0, 1)."""
    return np.asarray(-forest.score_samples(rows), np.float64)
