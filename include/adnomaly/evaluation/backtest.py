"""Backtest of a detector on windows with planted attacks and benign surges.

The labelled windows follow those of the training sample, so the first one has a past, too.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from adnomaly.arrays import Bools, Floats
from adnomaly.detector.detector import THRESHOLD, Detector
from adnomaly.detector.feature_sets import ENTITY_BASELINE, GLOBAL_BASELINE, combine
from adnomaly.detector.grid import Cadence, to_grid
from adnomaly.detector.seasonal import SeasonalBaseline
from adnomaly.detector.spec import Spec
from adnomaly.detector.windows import Windows
from adnomaly.evaluation.metrics import Event, GroundTruth, Metrics
from adnomaly.evaluation.reference_detectors import MAHALANOBIS, MAX_Z, reference_scores
from adnomaly.scoring.files import after_history

OURS: Final = "adnomaly"


class BacktestSet(NamedTuple):
    """Windows with known events.

    Attributes:
        past: training windows, up to the first labelled one.
        live: labelled windows.
    """

    past: Windows
    live: Windows
    events: Sequence[Event]


class Predictions(NamedTuple):
    """A detector's scores on a backtest set, (T, E) in the detector's order of entities.

    Attributes:
        score, flagged: in the context of earlier windows.
        alone: scores of single windows, by baseline (`entity`, `global`).
    """

    truth: GroundTruth
    score: Floats
    flagged: Bools
    alone: Mapping[str, Floats]


class Evaluation(msgspec.Struct, frozen=True):
    """Metrics of a detector and of reference detectors that do not know it.

    Attributes:
        detectors: `adnomaly`, the single-window `adnomaly, entity` and `adnomaly, global`, and the
            reference detectors.
    """

    windows: int
    days: float
    attacks: int
    benign: int
    base_rate: float
    budget_per_day: float
    detectors: dict[str, Metrics]

    @property
    def ours(self) -> Metrics:
        return self.detectors[OURS]

    @property
    def best_reference(self) -> float:
        """Average precision of the better fitted reference detector."""
        return max(self.detectors[name].pr_auc for name in (MAX_Z, MAHALANOBIS))

    def flat(self) -> dict[str, float]:
        """Metrics by MLflow key, such as `max_z.pr_auc` and `recall.click_flood`."""
        flat = {"base_rate": self.base_rate, "attacks": float(self.attacks)}
        for name, metrics in self.detectors.items():
            prefix = re.sub(r"[^a-z]+", "_", name.lower()).strip("_")
            plain = msgspec.to_builtins(metrics) | {
                "realised": float(np.mean(metrics.realised)) if metrics.realised else None
            }
            flat |= {
                f"{prefix}.{field}": float(value)
                for field, value in plain.items()
                if isinstance(value, int | float)
            }
        return flat | {f"recall.{kind}": share for kind, share in self.ours.recall_by_kind.items()}


def predict(detector: Detector, backtest_set: BacktestSet) -> Predictions:
    """Score the labelled windows in context and alone."""
    grid, _, first = after_history(detector, backtest_set.past, backtest_set.live)
    scores = detector.score(grid, first)
    raw_scores = detector.raw_scores(grid, first)
    alone = {}
    for baseline in (ENTITY_BASELINE, GLOBAL_BASELINE):
        by_feature_set = {name: by_baseline[baseline] for name, by_baseline in raw_scores.items()}
        alone[baseline] = combine(detector.feature_sets, by_feature_set, baseline)
    truth = GroundTruth(grid.between(first, len(grid.end_s)), backtest_set.events)
    return Predictions(truth, scores.score[first:], scores.flagged[first:], alone)


def score_references(backtest_set: BacktestSet) -> tuple[GroundTruth, dict[str, Floats]]:
    """Scores of the reference detectors, fitted on the past; and ground truth in their order."""
    spec = Spec.ours()
    cadence = Cadence.of(backtest_set.past)
    past, _ = to_grid(backtest_set.past, cadence)
    baseline = SeasonalBaseline.fit(past, spec)
    unfitted = Detector(spec, cadence, past.names, baseline, None, {}, float("inf"))
    grid, _, first = after_history(unfitted, backtest_set.past, backtest_set.live)
    z = baseline.compare(grid).z
    if not np.isfinite(z).any(axis=(0, 1)).all():
        z = z[..., list(spec.required)]
    truth = GroundTruth(grid.between(first, len(grid.end_s)), backtest_set.events)
    return truth, reference_scores(z, first)


def evaluate(
    predictions: Predictions, references: Mapping[str, Metrics], budget_per_day: float
) -> Evaluation:
    """Evaluate predictions; the metrics of the reference detectors are passed through."""
    truth = predictions.truth
    detectors = {
        OURS: truth.evaluate(predictions.score, predictions.flagged, budget_per_day=budget_per_day)
    }
    for baseline, score in predictions.alone.items():
        detectors[f"{OURS}, {baseline}"] = truth.evaluate(
            score, np.nan_to_num(score) >= THRESHOLD, budget_per_day=budget_per_day
        )
    return Evaluation(
        windows=int(truth.present.sum()),
        days=round(truth.days, 3),
        attacks=len(truth.attacks),
        benign=sum(e.benign for e in truth.events),
        base_rate=truth.base_rate,
        budget_per_day=budget_per_day,
        detectors=detectors | dict(references),
    )
