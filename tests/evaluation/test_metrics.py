"""Metrics of scikit-learn against the formulas that defined the published metrics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from adnomaly.detector.grid import Cadence, Grid
from adnomaly.evaluation.metrics import Event, GroundTruth

LABELLED = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=60).filter(
    lambda rows: 0 < sum(label for label, _ in rows) < len(rows)
)
"""Labels and scores with many ties."""


def expected(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """ROC AUC and average precision from one sort; equal scores are flagged together."""
    order = np.argsort(scores, kind="stable")[::-1]
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits, flagged = np.cumsum(labels[order])[last], last + 1
    recall, precision = hits / labels.sum(), hits / flagged
    false_share = (flagged - hits) / (~labels).sum()
    x, y = np.append(0.0, false_share), np.append(0.0, recall)
    roc = np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2)
    return float(roc), float(np.sum(np.diff(np.append(0.0, recall)) * precision))


@given(LABELLED)
def test_the_metrics_of_scikit_learn_are_the_old_ones(rows):
    labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    roc, precision = expected(labels, scores.astype(float))
    assert roc_auc_score(labels, scores) == pytest.approx(roc, abs=1e-9)
    assert average_precision_score(labels, scores) == pytest.approx(precision, abs=1e-9)


@given(LABELLED)
def test_the_plotted_curve_has_the_plotted_area(rows):
    labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    precision, recall, _ = precision_recall_curve(labels, scores)
    steps = -np.diff(recall)
    assert np.sum(steps * precision[:-1]) == pytest.approx(
        expected(labels, scores.astype(float))[1], abs=1e-9
    )


@given(LABELLED)
def test_ground_truth_evaluates_windows_with_their_labels(rows):
    """One entity, windows of a minute; NaN is the lowest score."""
    labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    scores = np.where(scores == 0, np.nan, scores.astype(float))
    grid = Grid(
        ("US|web",), Cadence(60, 60), 60 * np.arange(1, len(rows) + 1), np.ones((len(rows), 1, 1))
    )
    events = [
        Event("attack", "US|web", 60 * i, 60 * (i + 1)) for i, label in enumerate(labels) if label
    ]
    metrics = GroundTruth(grid, events).evaluate(scores[:, None])
    roc, precision = expected(labels, np.nan_to_num(scores, nan=-1.0))
    assert metrics.roc_auc == pytest.approx(roc, abs=1e-9)
    assert metrics.pr_auc == pytest.approx(precision, abs=1e-9)
