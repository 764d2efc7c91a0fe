"""Sentinels: rows with known answers, sealed with a model so that its users can verify it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from adnomaly.bundle.bundle import Sentinel
from adnomaly.detector.detector import THRESHOLD, Detector
from adnomaly.detector.feature_sets import ForestScores
from adnomaly.detector.grid import Grid
from adnomaly.detector.windows import SEPARATOR
from adnomaly.features import FEATURES, Feature
from adnomaly.windows import time_text

if TYPE_CHECKING:
    from sklearn.ensemble import IsolationForest

NORMAL: Final = 30
OUTLYING: Final = 8
FLOOD_FACTORS: Final = (5, 20)
"""Simulated floods: the clicks of the same users, multiplied. They must be anomalous."""
FLOOD_RAISE: Final = 0.4
MIN_DISTANCE: Final = 1e-3
"""Rows with a score nearer to the threshold are left out: rounding could change their side."""


def choose_sentinels(
    grid: Grid, detector: Detector, forests: "dict[str, IsolationForest]", *, seed: int
) -> list[Sentinel]:
    """Random, outlying and flooded windows of history; with and without context and extras.

    The answers come from the forests, not from their exports, so a wrong export fails them.

    Args:
        detector: decoded from its files.
        forests: the originals of its models.
    """
    rows = _windows(grid, detector, np.random.default_rng(seed))
    rows += [_flooded(row, factor) for factor in FLOOD_FACTORS for row in rows[:OUTLYING]]
    required = [detector.spec.names[i] for i in detector.spec.required]
    context = (*detector.spec.entity, "timestamp")
    rows += [{name: row[name] for name in (*required, *context)} for row in rows[::4]]
    rows += [
        {name: value for name, value in row.items() if name not in context} for row in rows[::8]
    ]
    # Scoring processes start without scikit-learn.
    from adnomaly.detector.forest import forest_scores

    references = {name: partial(forest_scores, forest) for name, forest in forests.items()}
    scores = [_score(row, detector, references) for row in rows]
    return [
        Sentinel(row, score, score >= THRESHOLD)
        for row, score in zip(rows, scores, strict=True)
        if abs(score - THRESHOLD) > MIN_DISTANCE
    ]


def _windows(grid: Grid, detector: Detector, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Random windows, then those furthest from the baseline."""
    known = np.arange(grid.values.shape[1]) < len(detector.names)
    row, entity = np.nonzero(np.isfinite(grid.values).all(axis=2) & known)
    if not len(row):
        row, entity = np.nonzero(np.isfinite(grid.values[..., detector.spec.required]).all(axis=2))
    distance = np.nan_to_num(np.abs(detector.baseline.compare(grid).z[row, entity])).max(axis=1)
    chosen = [
        *rng.choice(len(row), min(NORMAL, len(row)), replace=False),
        *np.argsort(distance, kind="stable")[-OUTLYING:],
    ]
    return [_row(grid, detector, int(row[i]), int(entity[i])) for i in chosen]


def _row(grid: Grid, detector: Detector, row: int, entity: int) -> dict[str, Any]:
    """One window as a request would bring it."""
    features = {
        m.name: int(value) if m.kind == "count" else float(value)
        for m, value in zip(detector.spec.measures, grid.values[row, entity], strict=True)
        if np.isfinite(value)
    }
    keys = dict(zip(detector.spec.entity, grid.names[entity].split(SEPARATOR), strict=True))
    timestamp = time_text(datetime.fromtimestamp(int(grid.end_s[row]), UTC))
    return features | keys | {"timestamp": timestamp}


def _flooded(row: dict[str, Any], factor: int) -> dict[str, Any]:
    """The row after a flood of clicks, by the `flood` of each feature."""
    changed = dict(row)
    for feature in FEATURES:
        if feature.name in row and feature.flood:
            changed[feature.name] = _flooded_value(feature, row[feature.name], factor)
    return changed


def _flooded_value(feature: Feature, value: float, factor: int) -> float:
    if feature.flood == "multiply":
        return value * factor
    if feature.flood == "divide":
        return value / factor
    return min(float(feature.high or np.inf), value + FLOOD_RAISE)


def _score(
    row: Mapping[str, Any], detector: Detector, references: Mapping[str, ForestScores]
) -> float:
    values = np.array([[row.get(name, np.nan) for name in detector.spec.names]], np.float64)
    entity, end_s = -1, 0
    if "timestamp" in row:
        entity = detector.names.index(SEPARATOR.join(row[name] for name in detector.spec.entity))
        end_s = int(datetime.fromisoformat(row["timestamp"]).timestamp())
    single = detector.score_rows(values, np.array([end_s]), np.array([entity]), references)
    return float(single.score[0])
