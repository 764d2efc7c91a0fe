"""May this bundle become the champion? Decided on the sealed folder itself: what it claims about itself counts for nothing.

Every check leaves its figure and its limit in the decision, whether it passed or not.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from adnomaly.bundle.bundle import Bundle
from adnomaly.detector.detector import Detector
from adnomaly.detector.feature_sets import ENTITY_BASELINE, GLOBAL_BASELINE, IN_CONTEXT
from adnomaly.detector.grid import Cadence, to_grid
from adnomaly.detector.spec import Spec
from adnomaly.detector.thresholds import Threshold
from adnomaly.detector.windows import SEPARATOR, Windows
from adnomaly.errors import BundleRejected
from adnomaly.evaluation.backtest import (
    OURS,
    BacktestSet,
    Evaluation,
    Predictions,
    evaluate,
    predict,
)
from adnomaly.evaluation.metrics import Metrics
from adnomaly.scoring.rows import RowScorer
from adnomaly.windows import time_text

MIN_DISTINCT: Final = 200
"""A class label has two values, a score of many windows has thousands."""
MIN_SPREAD: Final = 0.01
MIN_ROC: Final = 0.55
MIN_LIFT: Final = 2.0
"""Average precision against that of chance."""
MIN_OF_RULE: Final = 0.9
"""Average precision against that of the better simple rule, which is fitted on the same windows and knows nothing of the bundle."""
MAX_FALSE: Final = 1.5
"""False incidents against the budget, beyond two standard deviations of their count."""
MAX_FLAGGED: Final = 0.005
"""Of the normal windows."""
MAX_RECALL_GAP: Final = 0.15
"""Recall lost at the calibrated limit against the one that the trial itself would pick."""
LIMIT_OFF: Final = 0.02
"""A limit that differs by more from the one that the windows give was not made from them."""
MAX_STALE_DAYS: Final = 2.0
PROBES: Final = 500
ALIKE: Final = 1e-6


Thresholds = Mapping[str, Mapping[str, Threshold]]
"""By view, and by how windows are looked at."""


class GateCheck(msgspec.Struct, frozen=True):
    """One question with its answer, such as `roc_auc` 0.97 `>= 0.55`."""

    name: str
    passed: bool
    value: float | str
    limit: str

    def __str__(self) -> str:
        value = self.value if isinstance(self.value, str) else format(self.value, ".4g")
        return (
            f"{'passed' if self.passed else 'FAILED'}  {self.name}: {value}, must be {self.limit}"
        )


class GateDecision(msgspec.Struct, frozen=True):
    """What the promotion check found.

    Attributes:
        version: of the bundle that was judged.
        against: version of the champion it was compared with; None when there is none.
        evaluation: its figures; None when it could not be scored at all.
        champion: those of the champion on the same trial.
    """

    version: str
    against: str | None
    promoted: bool
    checks: list[GateCheck]
    evaluation: Evaluation | None = None
    champion: Evaluation | None = None

    @property
    def failed(self) -> list[GateCheck]:
        return [check for check in self.checks if not check.passed]

    @property
    def refusals(self) -> list[str]:
        """One sentence per failed check."""
        return [str(check).removeprefix("FAILED  ") for check in self.failed]

    def __str__(self) -> str:
        verdict = "champion" if self.promoted else "not promoted"
        against = (
            f", against the champion {self.against}"
            if self.against
            else ", there is no champion yet"
        )
        return "\n".join([f"{self.version}: {verdict}{against}", *map(str, self.checks)])


def expected_thresholds(past: Windows, *, budget_per_day: float, seed: int) -> Thresholds:
    """The thresholds that a detector of these windows has."""
    grid, _ = to_grid(past, Cadence.of(past))
    return Detector.find_thresholds(
        grid, Spec.ours(), budget_per_day=budget_per_day, seed=seed, seasonal=True
    )


def decide(
    candidate: Path,
    backtest_set: BacktestSet,
    simple: Mapping[str, Metrics],
    *,
    thresholds: Thresholds,
    champion: Path | None = None,
    least_days: float = 0,
    budget_per_day: float = 1.0,
) -> GateDecision:
    """Judge a sealed bundle on a trial, beside the champion on the same trial.

    Args:
        trial: its past are the windows that the candidate says it learned from.
        simple: figures of the simple rules on the trial.
        thresholds: those that `own_limits` finds in the trial's past, with the seed with which the candidate was trained.
        champion: folder of the current champion's bundle; one that no longer loads is no rival.
        least_days: days of training data that the candidate must know.
    """
    current = _evaluated(champion, backtest_set, simple, budget_per_day) if champion else None
    against = champion.name if champion and current else None
    try:
        scorer, bundle = RowScorer.load(candidate), Bundle.load(candidate)
        scorer.check_sentinels()
    except BundleRejected as error:
        return GateDecision(
            candidate.name,
            against,
            promoted=False,
            checks=[GateCheck("loads", False, str(error), "a sealed bundle of ours")],
        )
    checks = [
        GateCheck("loads", True, bundle.version, "a sealed bundle of ours"),
        *_made_of(bundle, backtest_set, thresholds, least_days, budget_per_day),
    ]
    predictions = predict(bundle.detector, backtest_set)
    checks += [*_sane(predictions), *_served(scorer, predictions, backtest_set)]
    found = None
    if all(check.passed for check in checks):
        found = evaluate(predictions, simple, budget_per_day)
        checks += [*_good(found), *_quiet(found), *_better(found, current)]
    return GateDecision(
        candidate.name, against, all(check.passed for check in checks), checks, found, current
    )


def _made_of(
    bundle: Bundle,
    backtest_set: BacktestSet,
    thresholds: Thresholds,
    least_days: float,
    budget_per_day: float,
) -> Iterator[GateCheck]:
    """It was trained on the windows at hand, on enough of them, up to their end, and its thresholds are theirs."""
    newest = int(backtest_set.past.end_s.max())
    last = (
        int(bundle.history.end_s.max()) if bundle.history is not None and len(bundle.history) else 0
    )
    age = (newest - last) / 86400
    yield _check(
        f"days between its last window and {_moment(newest)}",
        age <= MAX_STALE_DAYS,
        age,
        f"<= {MAX_STALE_DAYS:g}",
    )
    training = bundle.card.get("training")
    days = training.get("days", 0) if isinstance(training, dict) else 0
    days = float(days) if isinstance(days, int | float) else 0.0
    yield _check("days of training data", days >= least_days, days, f">= {least_days:g}")
    budget = bundle.budget_per_day
    yield _check(
        "budget of false incidents a day",
        budget == budget_per_day,
        budget,
        f"{budget_per_day:g}, as ALERTS_PER_DAY says",
    )
    for name, by in thresholds.items():
        feature_set = bundle.detector.feature_sets.get(name)
        for how, limit in by.items():
            value = feature_set.thresholds[how].raw_score if feature_set else 0.0
            close = abs(value / limit.raw_score - 1) <= LIMIT_OFF
            yield _check(
                f"limit of the view {name}, {how}",
                close,
                value,
                f"{limit.raw_score:.4g} +- {LIMIT_OFF:.0%}, which its windows give",
            )


def _sane(predictions: Predictions) -> Iterator[GateCheck]:
    present = predictions.truth.present
    known = np.isfinite(predictions.score) & present
    scores = predictions.score[known]
    share = known.sum() / max(1, present.sum())
    yield _check("share of windows of entities that it knows", share >= 0.5, share, ">= 0.5")
    distinct = len(np.unique(scores))
    yield _check("distinct scores", distinct >= MIN_DISTINCT, distinct, f">= {MIN_DISTINCT}")
    spread = float(np.ptp(scores)) if len(scores) else 0.0
    yield _check("spread of scores", spread >= MIN_SPREAD, spread, f">= {MIN_SPREAD}")


def _served(
    scorer: RowScorer, predictions: Predictions, backtest_set: BacktestSet
) -> Iterator[GateCheck]:
    """Rows as requests bring them get the scores that the same windows get in a table."""
    chosen = np.random.default_rng(0).choice(
        len(backtest_set.live), min(PROBES, len(backtest_set.live)), replace=False
    )
    live, spec = backtest_set.live.take(np.sort(chosen)), Spec.ours()
    rows = []
    for entity, end_s, values in zip(
        live.entity.tolist(), live.end_s.tolist(), live.values, strict=True
    ):
        geo, platform = live.names[entity].split(SEPARATOR)
        given = {
            name: value
            for name, value in zip(spec.names, values.tolist(), strict=True)
            if np.isfinite(value)
        }
        rows.append(given | {"geo": geo, "platform": platform, "timestamp": _moment(end_s)})
    grid = predictions.truth.grid
    at = (
        np.searchsorted(grid.end_s, live.end_s),
        np.array([grid.names.index(live.names[e]) for e in live.entity.tolist()]),
    )
    table = predictions.alone[ENTITY_BASELINE][at]
    answers = np.array(
        [
            s.anomaly_score if s.baseline == ENTITY_BASELINE else np.nan
            for s in scorer.score_rows(rows)
        ]
    )
    both = np.isfinite(table) & np.isfinite(answers)
    off = float(np.abs(table - answers)[both].max()) if both.any() else float("inf")
    yield _check(
        "largest difference between served and tabled scores", off <= ALIKE, off, f"<= {ALIKE:g}"
    )


def _good(found: Evaluation) -> Iterator[GateCheck]:
    ours = found.ours
    yield _check("roc_auc", ours.roc_auc >= MIN_ROC, ours.roc_auc, f">= {MIN_ROC}")
    chance = MIN_LIFT * found.base_rate
    yield _check("pr_auc against chance", ours.pr_auc >= chance, ours.pr_auc, f">= {chance:.4f}")
    rule = MIN_OF_RULE * found.best_rule
    yield _check(
        "pr_auc against the better simple rule", ours.pr_auc >= rule, ours.pr_auc, f">= {rule:.4f}"
    )
    least = ours.recall_per_day - MAX_RECALL_GAP
    yield _check(
        "recall at the limit",
        (ours.recall_at_threshold or 0) >= least,
        ours.recall_at_threshold or 0,
        f">= {least:.3f}",
    )


def _quiet(found: Evaluation) -> Iterator[GateCheck]:
    budget = found.budget_per_day * found.days
    most = (MAX_FALSE * budget + 2 * np.sqrt(budget)) / budget
    for how in (IN_CONTEXT, ENTITY_BASELINE, GLOBAL_BASELINE):
        figures = found.detectors[OURS if how == IN_CONTEXT else f"{OURS}, {how}"]
        flagged = figures.normal_flagged or 0.0
        yield _check(
            f"share of normal windows flagged, {how}",
            flagged <= MAX_FLAGGED,
            flagged,
            f"<= {MAX_FLAGGED}",
        )
        if how == IN_CONTEXT:
            realised = float(np.mean(figures.realised))
            yield _check(
                "false incidents against the budget", realised <= most, realised, f"<= {most:.2f}"
            )


def _better(found: Evaluation, current: Evaluation | None) -> Iterator[GateCheck]:
    """Not worse than the champion by more than one standard error."""
    if current is None:
        return
    for field in ("recall_per_day", "pr_auc"):
        least = getattr(current.ours, field) - current.ours.error
        value = getattr(found.ours, field)
        yield _check(f"{field} against the champion", value >= least, value, f">= {least:.3f}")


def _check(name: str, passed: object, value: float, limit: str) -> GateCheck:
    """numpy's bools and floats as plain ones."""
    return GateCheck(name, bool(passed), float(value), limit)


def _moment(second: int) -> str:
    return time_text(datetime.fromtimestamp(second, UTC))


def _evaluated(
    folder: Path, backtest_set: BacktestSet, simple: Mapping[str, Metrics], budget_per_day: float
) -> Evaluation | None:
    try:
        return evaluate(predict(Bundle.load(folder).detector, backtest_set), simple, budget_per_day)
    except BundleRejected:
        return None
