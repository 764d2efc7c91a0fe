"""Rows with known answers, sealed with a model: whoever loads it can see that it is still the model that was judged."""

from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from sklearn.ensemble import IsolationForest

from adnomaly.errors import BundleRejected
from adnomaly.features import CONTRACT, ENTITY
from adnomaly.model.bundle import Sentinel, Thresholds
from adnomaly.model.columns import Columns
from adnomaly.model.preprocess import Baseline
from adnomaly.model.train import forest_scores
from adnomaly.windows import time_text

NORMAL: Final = 30
ATTACKED: Final = 14
EXTREME: Final = 6
WITHOUT_ENTITY: Final = 6

CLEAR: Final = 1e-3
"""Scores nearer to the threshold than this have no side that a rounding could not change."""


def choose_sentinels(
    windows: Columns,
    attacked: np.ndarray,
    forest: IsolationForest,
    baseline: Baseline,
    thresholds: Thresholds,
    *,
    seed: int,
) -> list[Sentinel]:
    """Normal windows, the most conspicuous attacked ones, gross ones, and some without their entity.

    The answers come from the forest itself, not from its export, so a model that was exported wrongly fails them.

    Args:
        attacked: which windows overlap an attack, (n,) bool.
    """
    rng = np.random.default_rng(seed)
    normal = rng.choice(np.flatnonzero(~attacked), NORMAL, replace=False)
    # Most of a window's distance from normal is in its largest residual: good enough to find conspicuous ones.
    distance = np.abs(baseline.residuals(windows)[0]).max(axis=1)
    worst = np.flatnonzero(attacked)[np.argsort(distance[attacked], kind="stable")[-ATTACKED:]]
    rows = [_row(windows, i) for i in (*normal, *worst)]
    rows += [row | {"bounce_rate_avg": 0.98, "event_count": row["event_count"] * 20} for row in rows[:EXTREME]]
    rows += [{name: row[name] for name in CONTRACT} for row in rows[NORMAL - WITHOUT_ENTITY // 2 : NORMAL + WITHOUT_ENTITY // 2]]
    residuals = [baseline.residual(row) for row in rows]
    answers = forest_scores(forest, np.array([r.z for r in residuals], np.float32))
    limits = [(thresholds.entity if r.known else thresholds.pooled).threshold for r in residuals]
    chosen = [
        Sentinel(row, float(score), bool(score >= limit))
        for row, score, limit in zip(rows, answers, limits, strict=True)
        if abs(score - limit) > CLEAR
    ]
    if len({sentinel.is_anomaly for sentinel in chosen}) < 2:
        raise BundleRejected("no sentinel is anomalous: at this threshold the model reports nothing, not even 20 times the clicks")
    return chosen


def _row(windows: Columns, position: int) -> dict[str, Any]:
    ctr, bounce, count = windows.raw[position].tolist()
    entity = dict(zip(ENTITY, windows.entities[windows.entity[position]].split("|"), strict=True))
    moment = datetime.fromtimestamp(int(windows.end_s[position]), UTC)
    return {"ctr_avg": ctr, "bounce_rate_avg": bounce, "event_count": int(count), **entity, "timestamp": time_text(moment)}
