"""The promotion gate: may a sealed bundle become the champion?

Decided on the sealed folder itself; nothing that the bundle says about its quality counts.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from adnomaly.bundle.bundle import Bundle
from adnomaly.detector.detector import Detector
from adnomaly.detector.grid import Cadence, to_grid
from adnomaly.detector.spec import Spec
from adnomaly.detector.windows import Windows
from adnomaly.errors import BundleRejected
from adnomaly.evaluation.backtest import BacktestSet, Evaluation, evaluate, predict
from adnomaly.evaluation.gate_checks import (
    GateCheck,
    Thresholds,
    check_alert_volume,
    check_champion,
    check_provenance,
    check_quality,
    check_scores,
    check_serving,
)
from adnomaly.evaluation.metrics import Metrics
from adnomaly.scoring.rows import RowScorer


class GateDecision(msgspec.Struct, frozen=True):
    """The result of the promotion gate.

    Attributes:
        version: of the candidate.
        against: version of the champion it was compared with; None when there is none.
        evaluation: its metrics; None when a check before the evaluation failed.
        champion: the champion's metrics on the same holdout.
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
            f"against the champion {self.against}" if self.against else "there is no champion yet"
        )
        return "\n".join([f"{self.version}: {verdict}, {against}", *map(str, self.checks)])


def expected_thresholds(past: Windows, *, budget_per_day: float, seed: int) -> Thresholds:
    """The thresholds of a detector that is trained on these windows."""
    grid, _ = to_grid(past, Cadence.of(past))
    return Detector.find_thresholds(
        grid, Spec.ours(), budget_per_day=budget_per_day, seed=seed, seasonal=True
    )


def decide(
    candidate: Path,
    backtest_set: BacktestSet,
    references: Mapping[str, Metrics],
    *,
    thresholds: Thresholds,
    champion: Path | None = None,
    min_days: float = 0,
    budget_per_day: float = 1.0,
) -> GateDecision:
    """Check a sealed bundle on a backtest set, and compare it with the champion on the same set.

    Args:
        backtest_set: its past must be the windows that the candidate was trained on.
        references: metrics of the reference detectors on the set.
        thresholds: `expected_thresholds` of the past, with the seed of the candidate's training.
        champion: folder of the champion's bundle; ignored when it no longer loads.
        min_days: days of training data that the candidate needs.
    """
    current = _evaluate(champion, backtest_set, references, budget_per_day) if champion else None
    against = champion.name if champion and current else None
    try:
        scorer, bundle = RowScorer.load(candidate), Bundle.load(candidate)
        scorer.check_sentinels()
    except BundleRejected as error:
        check = GateCheck("loads", False, str(error), "a sealed bundle of ours")
        return GateDecision(candidate.name, against, promoted=False, checks=[check])
    predictions = predict(bundle.detector, backtest_set)
    checks = [
        GateCheck("loads", True, bundle.version, "a sealed bundle of ours"),
        *check_provenance(bundle, backtest_set, thresholds, min_days, budget_per_day),
        *check_scores(predictions),
        *check_serving(scorer, predictions, backtest_set),
    ]
    evaluation = None
    if all(check.passed for check in checks):
        evaluation = evaluate(predictions, references, budget_per_day)
        checks += [
            *check_quality(evaluation),
            *check_alert_volume(evaluation),
            *check_champion(evaluation, current),
        ]
    promoted = all(check.passed for check in checks)
    return GateDecision(candidate.name, against, promoted, checks, evaluation, current)


def _evaluate(
    folder: Path,
    backtest_set: BacktestSet,
    references: Mapping[str, Metrics],
    budget_per_day: float,
) -> Evaluation | None:
    """Metrics of a champion's bundle; None when it no longer loads."""
    try:
        predictions = predict(Bundle.load(folder).detector, backtest_set)
        return evaluate(predictions, references, budget_per_day)
    except BundleRejected:
        return None
