"""One way to look at the windows: some of the features, their axes, and a forest on them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from adnomaly.detector.onnx_session import CLIP, open_session, run
from adnomaly.detector.thresholds import Threshold
from adnomaly.detector.whitening import Whitening

if TYPE_CHECKING:
    from sklearn.ensemble import IsolationForest

IN_CONTEXT: Final = "course"
"""How a window is looked at: with its past (memory, persistence), ..."""
ENTITY_BASELINE: Final = "entity"
"""... alone, against what is usual for its entity, ..."""
GLOBAL_BASELINE: Final = "global"
"""... or alone, against all entities together."""

RADIUS_COLUMNS: Final = 3
"""The radius stands beside the axes three times, so that trees ask for it about as often as for all axes together."""
FOREST_WEIGHT: Final = 3.0
"""Weight of the forest's score, from 0 to 1, beside the logarithm of the radius."""
MAX_ROWS: Final = 200_000
MIN_ROWS: Final = 4096
"""A forest of fewer rows learns from plain normal noise as well."""
CHUNK: Final = 200_000


class FeatureSet(NamedTuple):
    """Axes, the exported forest, and the heights from which on a window is reported, by how it is looked at."""

    whitening: Whitening
    model: bytes
    thresholds: Mapping[str, Threshold]

    def raw_score(self, coordinates: np.ndarray) -> np.ndarray:
        """How unusual windows are, (...), from their coordinates (..., K): ln(1 + radius) and three times the forest's score.

        The forest sees shapes that are not round; the radius goes on where the forest has seen nothing and all looks alike.
        NaN where a coordinate is.
        """
        flat = coordinates.reshape(-1, coordinates.shape[-1])
        known = np.flatnonzero(np.isfinite(flat).all(axis=1))
        radius = np.linalg.norm(flat[known], axis=1)
        inputs = forest_inputs(flat[known], radius)
        session = open_session(self.model)
        parts = [run(session, inputs[i : i + CHUNK]) for i in range(0, len(inputs), CHUNK)]
        out = np.full(len(flat), np.nan)
        out[known] = np.log1p(radius) + FOREST_WEIGHT * (
            np.concatenate(parts) if parts else np.zeros(0)
        )
        return out.reshape(coordinates.shape[:-1])


def normalize(raw_score: np.ndarray, limit: float | np.ndarray) -> np.ndarray:
    """1 - 2 ** -(height / limit): 0.5 at the limit, and comparable between views, entities and models."""
    return 1 - np.exp2(-np.maximum(raw_score, 0) / limit)


def forest_inputs(coordinates: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """(n, K + 3) float32."""
    columns = [coordinates, np.repeat(radius[:, None], RADIUS_COLUMNS, axis=1)]
    return np.clip(np.concatenate(columns, axis=1), -CLIP, CLIP).astype(np.float32)


def fit_feature_set(
    whitening: Whitening, coordinates: np.ndarray, seed: int
) -> "tuple[FeatureSet, IsolationForest]":
    """A view without limits, and its forest on coordinates (n, K) of history."""
    from adnomaly.detector.forest import fit_forest
    from adnomaly.detector.onnx_export import (
        export_forest,  # for training alone: a process that scores does without
    )

    known = coordinates[np.isfinite(coordinates).all(axis=1)]
    rng = np.random.default_rng(seed)
    if len(known) > MAX_ROWS:
        known = known[np.sort(rng.choice(len(known), MAX_ROWS, replace=False))]
    if len(known) < MIN_ROWS:
        known = np.concatenate(
            [known, rng.standard_normal((MIN_ROWS - len(known), coordinates.shape[1]))]
        )
    forest = fit_forest(forest_inputs(known, np.linalg.norm(known, axis=1)), seed=seed)
    return FeatureSet(whitening, export_forest(forest), {}), forest
