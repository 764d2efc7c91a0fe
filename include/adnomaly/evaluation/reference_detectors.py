"""Reference detectors: simple rules on the same residuals, and off-the-shelf ones on raw windows.

A detector that does not beat them is not worth its cost.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from adnomaly.arrays import Floats
from adnomaly.evaluation.metrics import GroundTruth

SEED: Final = 42
MAX_NORMAL_Z: Final = 6.0
"""Windows further out do not shape the covariance."""
SAMPLE_ROWS: Final = 20_000
CHUNK_ROWS: Final = 50_000

RANDOM: Final = "random"
ALWAYS_ON: Final = "always on"
MAX_Z: Final = "max |z|"
MAHALANOBIS: Final = "Mahalanobis"
REFERENCES: Final = (RANDOM, ALWAYS_ON, MAX_Z, MAHALANOBIS)


def simple_scores(z: Floats) -> dict[str, Floats]:
    """Scores (T, E) of residuals (T, E, K) that need no fit: chance, always on, the largest |z|."""
    known = np.isfinite(z).all(axis=2)
    scores = {
        RANDOM: np.random.default_rng(SEED).random(known.shape),
        ALWAYS_ON: np.ones(known.shape),
        MAX_Z: np.abs(z).max(axis=2),
    }
    return {name: np.where(known, score, np.nan) for name, score in scores.items()}


def reference_scores(z: Floats, split: int) -> dict[str, Floats]:
    """Simple scores and the Mahalanobis distance of the rows of z (T, E, K) from `split` on.

    The covariance is that of the rows before `split`.
    """
    live = z[split:]
    rows = z[:split].reshape(-1, z.shape[2])
    rows = rows[np.isfinite(rows).all(axis=1)]
    normal = rows[np.abs(rows).max(axis=1) < MAX_NORMAL_Z]
    inverse = np.linalg.inv(np.atleast_2d(np.cov(normal.T)))
    distance = np.einsum("tei,ij,tej->te", live, inverse, live)
    known = np.isfinite(live).all(axis=2)
    return simple_scores(live) | {MAHALANOBIS: np.where(known, distance, np.nan)}


def off_the_shelf(values: Floats, split: int, truth: GroundTruth) -> tuple[str, Floats]:
    """The best of PyOD's detectors for large data, on raw windows (T, E, K); name and (T, E).

    The best is chosen by its average precision on `truth`, which flatters it.
    """
    # PyOD takes seconds to load and only the benchmark needs it.
    from pyod.models.copod import COPOD
    from pyod.models.ecod import ECOD
    from pyod.models.hbos import HBOS

    known = np.isfinite(values).all(axis=2)
    history = values[:split][known[:split]]
    sample = np.random.default_rng(SEED).choice(
        len(history), min(SAMPLE_ROWS, len(history)), replace=False
    )
    models: dict[str, Any] = {"ECOD": ECOD(), "COPOD": COPOD(), "HBOS": HBOS()}
    scores = {}
    for name, model in models.items():
        model.fit(history[sample])
        score = np.full(known[split:].shape, np.nan)
        score[known[split:]] = _in_chunks(model.decision_function, values[split:][known[split:]])
        scores[f"PyOD {name}"] = score
    best = max(scores, key=lambda name: truth.evaluate(scores[name]).pr_auc)
    return best, scores[best]


def _in_chunks(function: Callable[[Floats], Floats], rows: Floats) -> Floats:
    chunks = range(0, len(rows), CHUNK_ROWS)
    return np.concatenate([function(rows[i : i + CHUNK_ROWS]) for i in chunks])
