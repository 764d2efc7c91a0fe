"""Rows with known answers, sealed with a model: whoever loads it can see that it is still the model that was judged."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from adnomaly.bundle.bundle import Sentinel
from adnomaly.detector.detector import ALL_FEATURES, REQUIRED_FEATURES, THRESHOLD, Detector
from adnomaly.detector.feature_sets import (
    ENTITY_BASELINE,
    FOREST_WEIGHT,
    GLOBAL_BASELINE,
    forest_inputs,
    normalize,
)
from adnomaly.detector.grid import Grid
from adnomaly.detector.seasonal import SeasonalBaseline
from adnomaly.detector.windows import SEPARATOR
from adnomaly.windows import time_text

if TYPE_CHECKING:
    from sklearn.ensemble import IsolationForest

NORMAL: Final = 30
CONSPICUOUS: Final = 8
FACTORS: Final = (5, 20)
"""Windows with so many times the clicks of one user are among the sentinels: they must be anomalous."""
CLEAR: Final = 1e-3
"""Scores nearer to the threshold than this have no side that a rounding could not change."""


def choose_sentinels(
    grid: Grid, detector: Detector, forests: "dict[str, IsolationForest]", *, seed: int
) -> list[Sentinel]:
    """Windows of history, the most conspicuous of them, some with many clicks of few users; with and without entity and extras.

    The answers come from the forests themselves, not from their exports, so a model that was exported wrongly fails them.

    Args:
        detector: as it will be loaded.
        forests: what its models were exported from.
    """
    rng = np.random.default_rng(seed)
    row, entity = np.nonzero(
        np.isfinite(grid.values).all(axis=2)
        & (np.arange(grid.values.shape[1]) < len(detector.names))
    )
    if not len(row):
        row, entity = np.nonzero(np.isfinite(grid.values[..., detector.spec.required]).all(axis=2))
    far = np.nan_to_num(np.abs(detector.baseline.compare(grid).z[row, entity])).max(axis=1)
    chosen = [
        *rng.choice(len(row), min(NORMAL, len(row)), replace=False),
        *np.argsort(far, kind="stable")[-CONSPICUOUS:],
    ]
    rows = [_row(grid, detector, int(row[i]), int(entity[i])) for i in chosen]
    rows += [_flood(one, factor) for factor in FACTORS for one in rows[:CONSPICUOUS]]
    required = [detector.spec.names[i] for i in detector.spec.required]
    context = (*detector.spec.entity, "timestamp")
    rows += [{name: one[name] for name in (*required, *context)} for one in rows[::4]]
    rows += [
        {name: value for name, value in one.items() if name not in context} for one in rows[::8]
    ]
    answers = [_answer(one, detector, forests) for one in rows]
    return [
        Sentinel(one, score, score >= THRESHOLD)
        for one, score in zip(rows, answers, strict=True)
        if abs(score - THRESHOLD) > CLEAR
    ]


def _answer(
    row: dict[str, Any], detector: Detector, forests: "dict[str, IsolationForest]"
) -> float:
    """The score of one row by the reference forest, step by step."""
    baseline, spec = detector.baseline, detector.spec
    assert isinstance(baseline, SeasonalBaseline)
    values = np.array([[row.get(name, np.nan) for name in spec.names]])
    known = "timestamp" in row
    number = (
        detector.names.index(SEPARATOR.join(row[name] for name in spec.entity)) if known else -1
    )
    end_s = int(datetime.fromisoformat(row["timestamp"]).timestamp()) if known else 0
    comparison, own = baseline.compare_rows(
        values, np.array([end_s]), np.array([number]), detector.cadence.size_s
    )
    name = (
        ALL_FEATURES
        if ALL_FEATURES in detector.feature_sets and np.isfinite(comparison.z).all()
        else REQUIRED_FEATURES
    )
    feature_set = detector.feature_sets[name]
    coordinates = feature_set.whitening.apply(comparison.z, detector.lift(values, comparison))
    radius = np.linalg.norm(coordinates, axis=1)
    height = np.log1p(radius) - FOREST_WEIGHT * forests[name].score_samples(
        forest_inputs(coordinates, radius)
    )
    return float(
        normalize(
            height, feature_set.thresholds[ENTITY_BASELINE if own[0] else GLOBAL_BASELINE].raw_score
        )[0]
    )


def _row(grid: Grid, detector: Detector, row: int, entity: int) -> dict[str, Any]:
    features = {
        m.name: int(value) if m.kind == "count" else float(value)
        for m, value in zip(detector.spec.measures, grid.values[row, entity], strict=True)
        if np.isfinite(value)
    }
    keys = dict(zip(detector.spec.entity, grid.names[entity].split(SEPARATOR), strict=True))
    return (
        features
        | keys
        | {"timestamp": time_text(datetime.fromtimestamp(int(grid.end_s[row]), UTC))}
    )


def _flood(row: dict[str, Any], factor: int) -> dict[str, Any]:
    few = (
        {"unique_user_ratio": row["unique_user_ratio"] / factor}
        if "unique_user_ratio" in row
        else {}
    )
    return (
        row
        | {
            "event_count": row["event_count"] * factor,
            "bounce_rate_avg": min(1.0, row["bounce_rate_avg"] + 0.4),
        }
        | few
    )
