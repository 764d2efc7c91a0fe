"""The checks of the promotion gate: provenance, sanity, serving, quality, alert volume, champion.

Each check records its value and its limit, whether it passed or not.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec
import numpy as np

from adnomaly.bundle.bundle import Bundle
from adnomaly.detector.feature_sets import ENTITY_BASELINE, GLOBAL_BASELINE, IN_CONTEXT
from adnomaly.detector.spec import Spec
from adnomaly.detector.thresholds import Threshold
from adnomaly.detector.windows import SEPARATOR
from adnomaly.evaluation.backtest import OURS, BacktestSet, Evaluation, Predictions
from adnomaly.features import ENTITY
from adnomaly.scoring.rows import RowScorer
from adnomaly.windows import time_text

MIN_KNOWN: Final = 0.5
"""Share of the windows whose entity the model knows."""
MIN_DISTINCT: Final = 200
"""A class label has two values, a score of many windows has thousands."""
MIN_SPREAD: Final = 0.01
MIN_ROC: Final = 0.55
MIN_LIFT: Final = 2.0
"""Average precision divided by that of chance."""
MIN_OF_REFERENCE: Final = 0.9
"""Average precision divided by that of the better reference detector."""
MAX_FALSE: Final = 1.5
"""False incidents divided by the budget, beyond two standard deviations of their count."""
MAX_FLAGGED: Final = 0.005
"""Share of the normal windows."""
MAX_RECALL_GAP: Final = 0.15
"""Recall lost at the calibrated threshold against the one that the backtest would choose."""
THRESHOLD_TOLERANCE: Final = 0.02
"""A threshold that differs by more from the expected one was not made from these windows."""
MAX_STALE_DAYS: Final = 2.0
PROBES: Final = 500
MAX_SCORE_DIFFERENCE: Final = 1e-6

Thresholds = Mapping[str, Mapping[str, Threshold]]
"""By feature set, and by baseline or context."""


class GateCheck(msgspec.Struct, frozen=True):
    """One check and its result, such as `roc_auc` 0.97 `>= 0.55`."""

    name: str
    passed: bool
    value: float | str
    limit: str

    def __str__(self) -> str:
        value = self.value if isinstance(self.value, str) else format(self.value, ".4g")
        result = "passed" if self.passed else "FAILED"
        return f"{result}  {self.name}: {value}, must be {self.limit}"


def check_provenance(
    bundle: Bundle,
    backtest_set: BacktestSet,
    thresholds: Thresholds,
    min_days: float,
    budget_per_day: float,
) -> Iterator[GateCheck]:
    """Trained on the windows at hand, on enough of them, up to their end, with their thresholds."""
    newest = int(backtest_set.past.end_s.max())
    history = bundle.history
    last = int(history.end_s.max()) if history is not None and len(history) else 0
    yield at_most(
        f"days between its last window and {_moment(newest)}",
        (newest - last) / 86400,
        MAX_STALE_DAYS,
        f"{MAX_STALE_DAYS:g}",
    )
    training = bundle.card.get("training")
    days = training.get("days", 0) if isinstance(training, dict) else 0
    days = float(days) if isinstance(days, int | float) else 0.0
    yield at_least("days of training data", days, min_days, f"{min_days:g}")
    yield GateCheck(
        "budget of false incidents a day",
        bundle.budget_per_day == budget_per_day,
        float(bundle.budget_per_day),
        f"{budget_per_day:g}, as ALERTS_PER_DAY says",
    )
    sealed: Thresholds = {
        name: feature_set.thresholds for name, feature_set in bundle.detector.feature_sets.items()
    }
    for name, expected in thresholds.items():
        for how, threshold in expected.items():
            value = float(sealed[name][how].raw_score) if name in sealed else 0.0
            yield GateCheck(
                f"threshold of the feature set {name}, {how}",
                bool(abs(value / threshold.raw_score - 1) <= THRESHOLD_TOLERANCE),
                value,
                f"{threshold.raw_score:.4g} +- {THRESHOLD_TOLERANCE:.0%}, which its windows give",
            )


def check_scores(predictions: Predictions) -> Iterator[GateCheck]:
    """Scores are known, distinct and spread."""
    present = predictions.truth.present
    known = np.isfinite(predictions.score) & present
    scores = predictions.score[known]
    share = known.sum() / max(1, present.sum())
    yield at_least("share of windows of entities that it knows", share, MIN_KNOWN, f"{MIN_KNOWN}")
    distinct = len(np.unique(scores))
    yield at_least("distinct scores", distinct, MIN_DISTINCT, f"{MIN_DISTINCT}")
    spread = float(np.ptp(scores)) if len(scores) else 0.0
    yield at_least("spread of scores", spread, MIN_SPREAD, f"{MIN_SPREAD}")


def check_serving(
    scorer: RowScorer, predictions: Predictions, backtest_set: BacktestSet
) -> Iterator[GateCheck]:
    """Rows as requests bring them get the same scores as the same windows in a table."""
    count = len(backtest_set.live)
    chosen = np.random.default_rng(0).choice(count, min(PROBES, count), replace=False)
    live = backtest_set.live.take(np.sort(chosen))
    rows: list[dict[str, object]] = []
    for entity, end_s, values in zip(
        live.entity.tolist(), live.end_s.tolist(), live.values.tolist(), strict=True
    ):
        features = zip(Spec.ours().names, values, strict=True)
        rows.append(
            {name: value for name, value in features if np.isfinite(value)}
            | dict(zip(ENTITY, live.names[entity].split(SEPARATOR), strict=True))
            | {"timestamp": _moment(end_s)}
        )
    grid = predictions.truth.grid
    columns = np.array([grid.names.index(live.names[e]) for e in live.entity.tolist()])
    in_table = predictions.alone[ENTITY_BASELINE][np.searchsorted(grid.end_s, live.end_s), columns]
    served = np.array(
        [
            answer.anomaly_score if answer.baseline == ENTITY_BASELINE else np.nan
            for answer in scorer.score_rows(rows)
        ]
    )
    both = np.isfinite(in_table) & np.isfinite(served)
    yield at_most(
        "largest difference between served and tabled scores",
        float(np.abs(in_table - served)[both].max()) if both.any() else float("inf"),
        MAX_SCORE_DIFFERENCE,
        f"{MAX_SCORE_DIFFERENCE:g}",
    )


def check_quality(evaluation: Evaluation) -> Iterator[GateCheck]:
    """Better than chance and reference detectors; the threshold loses little recall."""
    ours = evaluation.ours
    yield at_least("roc_auc", ours.roc_auc, MIN_ROC, f"{MIN_ROC}")
    chance = MIN_LIFT * evaluation.base_rate
    yield at_least("pr_auc against chance", ours.pr_auc, chance, f"{chance:.4f}")
    reference = MIN_OF_REFERENCE * evaluation.best_reference
    yield at_least(
        "pr_auc against the better reference detector", ours.pr_auc, reference, f"{reference:.4f}"
    )
    recall = ours.recall_per_day - MAX_RECALL_GAP
    yield at_least(
        "recall at the threshold", ours.recall_at_threshold or 0.0, recall, f"{recall:.3f}"
    )


def check_alert_volume(evaluation: Evaluation) -> Iterator[GateCheck]:
    """Few normal windows are flagged, and false incidents stay within the budget."""
    budget = evaluation.budget_per_day * evaluation.days
    max_realised = (MAX_FALSE * budget + 2 * np.sqrt(budget)) / budget
    for how in (IN_CONTEXT, ENTITY_BASELINE, GLOBAL_BASELINE):
        metrics = evaluation.detectors[OURS if how == IN_CONTEXT else f"{OURS}, {how}"]
        yield at_most(
            f"share of normal windows flagged, {how}",
            metrics.normal_flagged or 0.0,
            MAX_FLAGGED,
            f"{MAX_FLAGGED}",
        )
        if how == IN_CONTEXT:
            yield at_most(
                "false incidents against the budget",
                float(np.mean(metrics.realised)),
                max_realised,
                f"{max_realised:.2f}",
            )


def check_champion(evaluation: Evaluation, champion: Evaluation | None) -> Iterator[GateCheck]:
    """Not worse than the champion by more than one standard error."""
    if champion is None:
        return
    for name, value, current in (
        ("recall_per_day", evaluation.ours.recall_per_day, champion.ours.recall_per_day),
        ("pr_auc", evaluation.ours.pr_auc, champion.ours.pr_auc),
    ):
        limit = current - champion.ours.error
        yield at_least(f"{name} against the champion", value, limit, f"{limit:.3f}")


def at_least(name: str, value: float, limit: float, text: str) -> GateCheck:
    return GateCheck(name, bool(value >= limit), float(value), f">= {text}")


def at_most(name: str, value: float, limit: float, text: str) -> GateCheck:
    return GateCheck(name, bool(value <= limit), float(value), f"<= {text}")


def _moment(second: int) -> str:
    return time_text(datetime.fromtimestamp(second, UTC))
