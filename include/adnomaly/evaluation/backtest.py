"""A bundle on a trial: what it finds in windows with planted attacks and promotions, beside chance and simple rules.

The trial follows the windows that a detector learned from, so a detector sees the past of its first window, too.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from adnomaly.detector.detector import THRESHOLD, Detector
from adnomaly.detector.feature_sets import ENTITY_BASELINE, GLOBAL_BASELINE, combine
from adnomaly.detector.grid import Cadence, to_grid
from adnomaly.detector.seasonal import SeasonalBaseline
from adnomaly.detector.spec import Spec
from adnomaly.detector.windows import Windows
from adnomaly.evaluation.metrics import Event, GroundTruth, Metrics
from adnomaly.evaluation.reference_detectors import (
    ALWAYS_ON,
    MAHALANOBIS,
    MAX_Z,
    RANDOM,
    reference_scores,
)
from adnomaly.scoring.files import after_history

OURS: Final = "adnomaly"
RULES: Final = (RANDOM, ALWAYS_ON, MAX_Z, MAHALANOBIS)


class BacktestSet(NamedTuple):
    """Windows with known events.

    Attributes:
        past: the windows that a detector learned from, up to where the trial begins.
        live: the windows that are judged.
    """

    past: Windows
    live: Windows
    events: Sequence[Event]


class Predictions(NamedTuple):
    """What a detector made of a trial; (T, E) in its own order of entities.

    Attributes:
        score, flagged: with the past of each window.
        alone: scores of windows on their own, against their entity and against all entities.
    """

    truth: GroundTruth
    score: np.ndarray
    flagged: np.ndarray
    alone: Mapping[str, np.ndarray]


class Evaluation(msgspec.Struct, frozen=True):
    """Figures of the detector, as it runs and for windows alone, and of simple rules that know nothing of it.

    Attributes:
        detectors: `adnomaly`, `adnomaly, entity` and `adnomaly, global` (windows alone), and the rules.
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
    def best_rule(self) -> float:
        """Average precision of the better simple rule."""
        return max(self.detectors[name].pr_auc for name in (MAX_Z, MAHALANOBIS))

    def flat(self) -> dict[str, float]:
        """Figures by names that a tracking server takes, such as `max_z.pr_auc` and `adnomaly.recall.click_flood`."""
        found = {"base_rate": self.base_rate, "attacks": float(self.attacks)}
        for name, figures in self.detectors.items():
            prefix = re.sub(r"[^a-z]+", "_", name.lower()).strip("_")
            plain = msgspec.to_builtins(figures) | {
                "realised": float(np.mean(figures.realised)) if figures.realised else None
            }
            found |= {
                f"{prefix}.{field}": float(value)
                for field, value in plain.items()
                if isinstance(value, int | float)
            }
        return found | {f"recall.{kind}": share for kind, share in self.ours.recall_by_kind.items()}


def predict(detector: Detector, backtest_set: BacktestSet) -> Predictions:
    """Let a detector look at a trial."""
    grid, _, first = after_history(detector, backtest_set.past, backtest_set.live)
    judged = detector.score(grid, first)
    raw_scores = detector.raw_scores(grid, first)
    alone = {}
    for how in (ENTITY_BASELINE, GLOBAL_BASELINE):
        by_feature_set = {name: by_mode[how] for name, by_mode in raw_scores.items()}
        alone[how] = combine(detector.feature_sets, by_feature_set, how)
    truth = GroundTruth(grid.between(first, len(grid.end_s)), backtest_set.events)
    return Predictions(truth, judged.score[first:], judged.flagged[first:], alone)


def rules(backtest_set: BacktestSet) -> tuple[GroundTruth, dict[str, np.ndarray]]:
    """The simple rules, fitted on the past, on the trial; and the truth in their order of entities."""
    spec = Spec.ours()
    cadence = Cadence.of(backtest_set.past)
    past, _ = to_grid(backtest_set.past, cadence)
    table = SeasonalBaseline.fit(past, spec)
    draft = Detector(spec, cadence, past.names, table, None, {}, float("inf"))
    grid, _, first = after_history(draft, backtest_set.past, backtest_set.live)
    z = table.compare(grid).z
    z = z if np.isfinite(z).any(axis=(0, 1)).all() else z[..., list(spec.required)]
    return GroundTruth(grid.between(first, len(grid.end_s)), backtest_set.events), reference_scores(
        z, first
    )


def evaluate(
    predictions: Predictions, simple: Mapping[str, Metrics], budget_per_day: float
) -> Evaluation:
    """Everything that is known about a detector from what it made of a trial, beside the simple rules."""
    truth = predictions.truth
    found = {
        OURS: truth.evaluate(predictions.score, predictions.flagged, budget_per_day=budget_per_day)
    }
    for how, score in predictions.alone.items():
        found[f"{OURS}, {how}"] = truth.evaluate(
            score, np.nan_to_num(score) >= THRESHOLD, budget_per_day=budget_per_day
        )
    return Evaluation(
        windows=int(truth.present.sum()),
        days=round(truth.days, 3),
        attacks=len(truth.attacks),
        benign=sum(e.benign for e in truth.events),
        base_rate=truth.base_rate,
        budget_per_day=budget_per_day,
        detectors=found | dict(simple),
    )
