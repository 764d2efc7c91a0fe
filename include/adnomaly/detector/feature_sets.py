"""Feature sets: some of the features, their whitening, and a forest on the coordinates."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from adnomaly.arrays import Floats, Floats32
from adnomaly.detector.onnx_session import CLIP, open_session, run
from adnomaly.detector.residuals import Residuals
from adnomaly.detector.thresholds import Threshold
from adnomaly.detector.whitening import Whitening

if TYPE_CHECKING:
    from sklearn.ensemble import IsolationForest

REQUIRED_FEATURES: Final = "contract"
ALL_FEATURES: Final = "all"

IN_CONTEXT: Final = "course"
"""Windows scored after the windows before them: residual forecast and smoothing."""
ENTITY_BASELINE: Final = "entity"
"""Single windows against the baseline of their entity."""
GLOBAL_BASELINE: Final = "global"
"""Single windows against the pooled baseline."""

RADIUS_COLUMNS: Final = 3
"""Copies of the radius in the forest's input: trees split on it about as often as on the rest."""
FOREST_WEIGHT: Final = 3.0
"""Weight of the forest's score, from 0 to 1, against ln(1 + radius)."""
MAX_ROWS: Final = 200_000
MIN_ROWS: Final = 4096
"""With fewer rows, the forest is fitted on added standard normal noise too."""
CHUNK: Final = 200_000

ForestScores = Callable[[Floats32], "Floats | Floats32"]
"""From inputs of a forest (n, K + 3) to its scores in (0, 1), (n,)."""


class FeatureSet(NamedTuple):
    """Whitening, exported forest, and thresholds by IN_CONTEXT, ENTITY_ and GLOBAL_BASELINE."""

    whitening: Whitening
    model: bytes
    thresholds: Mapping[str, Threshold]

    def raw_score(self, residuals: Residuals, forest: ForestScores | None = None) -> Floats:
        """Raw scores (...): ln(1 + radius) + 3 * forest score; NaN where a coordinate is.

        The forest recognises shapes that are not round. The radius grows where the forest, outside
        its training range, is constant.

        Args:
            forest: instead of the exported one.
        """
        coordinates = self.whitening.apply(residuals.innovations, residuals.lift)
        flat = coordinates.reshape(-1, coordinates.shape[-1])
        known = np.flatnonzero(np.isfinite(flat).all(axis=1))
        radius = np.linalg.norm(flat[known], axis=1)
        scores = (forest or self._exported_scores)(forest_inputs(flat[known], radius))
        out = np.full(len(flat), np.nan)
        out[known] = np.log1p(radius) + FOREST_WEIGHT * scores
        return out.reshape(coordinates.shape[:-1])

    def _exported_scores(self, inputs: Floats32) -> Floats | Floats32:
        session = open_session(self.model)
        parts = [run(session, inputs[i : i + CHUNK]) for i in range(0, len(inputs), CHUNK)]
        return np.concatenate(parts) if parts else np.zeros(0)


def normalize(raw_score: Floats, threshold: float | Floats) -> Floats:
    """1 - 2 ** -(raw score / threshold): 0.5 at the threshold, comparable between feature sets."""
    score: Floats = 1 - np.exp2(-np.maximum(raw_score, 0) / threshold)
    return score


def combine(
    feature_sets: Mapping[str, FeatureSet], raw_scores: Mapping[str, Floats], mode: str
) -> Floats:
    """Scores of the last feature set that has a raw score for a window; NaN where none has one.

    Args:
        raw_scores: of each feature set, of one shape.
        mode: IN_CONTEXT, ENTITY_BASELINE or GLOBAL_BASELINE.
    """
    score = np.full(next(iter(raw_scores.values())).shape, np.nan)
    for name, raw in raw_scores.items():
        threshold = feature_sets[name].thresholds[mode].raw_score
        score = np.where(np.isfinite(raw), normalize(raw, threshold), score)
    return score


def forest_inputs(coordinates: Floats, radius: Floats) -> Floats32:
    """Clipped coordinates (n, K) and copies of the radius, (n, K + 3)."""
    columns = [coordinates, np.repeat(radius[:, None], RADIUS_COLUMNS, axis=1)]
    inputs: Floats32 = np.clip(np.concatenate(columns, axis=1), -CLIP, CLIP).astype(np.float32)
    return inputs


def fit_feature_set(
    whitening: Whitening, coordinates: Floats, seed: int
) -> "tuple[FeatureSet, IsolationForest]":
    """A feature set without thresholds, and its forest, from coordinates (n, K) of history."""
    # Scoring processes start without scikit-learn.
    from adnomaly.detector.forest import fit_forest
    from adnomaly.detector.onnx_export import export_forest

    known = coordinates[np.isfinite(coordinates).all(axis=1)]
    rng = np.random.default_rng(seed)
    if len(known) > MAX_ROWS:
        known = known[np.sort(rng.choice(len(known), MAX_ROWS, replace=False))]
    if len(known) < MIN_ROWS:
        noise = rng.standard_normal((MIN_ROWS - len(known), coordinates.shape[1]))
        known = np.concatenate([known, noise])
    forest = fit_forest(forest_inputs(known, np.linalg.norm(known, axis=1)), seed=seed)
    return FeatureSet(whitening, export_forest(forest), {}), forest
