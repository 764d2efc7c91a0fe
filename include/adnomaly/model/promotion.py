"""May this bundle become the champion? Decided on the sealed folder itself: what it claims about itself counts for nothing.

Every check leaves its figure and its limit in the decision, whether it passed or not.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from adnomaly.errors import BundleRejected
from adnomaly.model.bundle import Bundle
from adnomaly.model.evaluate import Evaluation, Score, Trial, evaluate
from adnomaly.model.score import Scorer
from adnomaly.model.session import open_session, run

LEAST_DISTINCT: Final = 200
"""A class label has two values, a score of many windows has thousands."""
LEAST_SPREAD: Final = 0.01
LEAST_ROC: Final = 0.55
LEAST_LIFT: Final = 2.0
"""Average precision against that of chance."""
LEAST_OF_SIMPLE_RULE: Final = 0.8
"""Average precision against that of the better simple rule on the same residuals."""
MOST_VOLUME: Final = 1.5
"""False incidents against the budget, beyond two standard deviations of their count."""
MOST_FLAGGED: Final = 0.01
LARGEST_RECALL_GAP: Final = 0.1
"""Recall lost at the calibrated threshold against the one that the test itself would pick."""


class Check(msgspec.Struct, frozen=True):
    """One question with its answer, such as `roc_auc` 0.97 `>= 0.55`."""

    name: str
    passed: bool
    value: float | str
    limit: str


class Decision(msgspec.Struct, frozen=True):
    """What the promotion check found.

    Attributes:
        version: of the bundle that was judged.
        against: version of the champion it was compared with; None when there is none.
        evaluation: its figures; None when it could not be scored at all.
    """

    version: str
    against: str | None
    promoted: bool
    checks: list[Check]
    evaluation: Evaluation | None = None

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if not check.passed]

    @property
    def refusals(self) -> list[str]:
        """One sentence per failed check."""
        return [
            f"{c.name} is {c.value if isinstance(c.value, str) else format(c.value, '.4g')}, must be {c.limit}"
            for c in self.checks
            if not c.passed
        ]


def decide(candidate: Path, trial: Trial, rivals: Mapping[str, Score], *, champion: Path | None = None, least_days: float = 0) -> Decision:
    """Judge a sealed bundle on a trial, beside the champion on the same trial.

    Args:
        rivals: simple detectors on residuals, from the candidate's training data.
        champion: folder of the current champion's bundle; one that no longer loads is no rival.
        least_days: days of training data that the card must show.
    """
    current = _scored(champion, trial, rivals) if champion else None
    against = champion.name if champion and current else None
    try:
        scorer = Scorer.load(candidate)
        scorer.check_sentinels()
    except BundleRejected as error:
        return Decision(
            candidate.name, against, promoted=False, checks=[Check("loads", passed=False, value=str(error), limit="a sealed bundle")]
        )
    scores, known = scorer.score_columns(trial.windows)
    checks = [Check("loads", True, scorer.version, "a sealed bundle"), *_sane(scores, known)]
    found = None
    if all(check.passed for check in checks):
        found = _evaluated(candidate, trial, rivals)
        checks += [*_good(found), *_quiet(found), *_trained(scorer.card, least_days), *_better(found, current)]
    return Decision(candidate.name, against, all(check.passed for check in checks), checks, found)


def _sane(scores: np.ndarray, known: np.ndarray) -> Iterator[Check]:
    finite = bool(np.isfinite(scores).all())
    yield _check("scores are finite", finite, float(np.isfinite(scores).mean()), "1")
    distinct = len(np.unique(scores[np.isfinite(scores)]))
    yield _check("distinct scores", distinct >= LEAST_DISTINCT, float(distinct), f">= {LEAST_DISTINCT}")
    spread = float(np.ptp(scores)) if finite else 0.0
    yield _check("spread of scores", spread >= LEAST_SPREAD, spread, f">= {LEAST_SPREAD}")
    yield _check("share of windows with a baseline of their own", known.mean() >= 0.5, float(known.mean()), ">= 0.5")


def _good(found: Evaluation) -> Iterator[Check]:
    forest, simple = found.forest, max(found.detectors[name].pr_auc for name in ("max_abs_z", "mahalanobis"))
    yield _check("roc_auc", forest.roc_auc >= LEAST_ROC, forest.roc_auc, f">= {LEAST_ROC}")
    chance = LEAST_LIFT * found.base_rate
    yield _check("pr_auc against chance", forest.pr_auc >= chance, forest.pr_auc, f">= {chance:.4f}")
    rule = LEAST_OF_SIMPLE_RULE * simple
    yield _check("pr_auc against simple rules", forest.pr_auc >= rule, forest.pr_auc, f">= {rule:.4f}")
    least = forest.recall_per_day - LARGEST_RECALL_GAP
    yield _check("recall at the threshold", found.entity.recall >= least, found.entity.recall, f">= {least:.3f}")


def _quiet(found: Evaluation) -> Iterator[Check]:
    budget = found.budget_per_day * found.days
    most = (MOST_VOLUME * budget + 2 * np.sqrt(budget)) / found.days
    for kind, at in (("entity", found.entity), ("global", found.pooled)):
        rate = at.quiet_incidents_per_day
        yield _check(f"false incidents a day, {kind} baseline", bool(rate <= most), rate, f"<= {most:.2f}")
        yield _check(
            f"share of normal windows flagged, {kind} baseline", at.flagged_share <= MOST_FLAGGED, at.flagged_share, f"<= {MOST_FLAGGED}"
        )


def _trained(card: Mapping[str, Any], least_days: float) -> Iterator[Check]:
    try:
        days = float(card["training"]["days"])
    except (KeyError, TypeError, ValueError):
        days = 0.0
    yield _check("days of training data", days >= least_days, days, f">= {least_days:g}")


def _better(found: Evaluation, current: Evaluation | None) -> Iterator[Check]:
    """Not worse than the champion by more than one standard error."""
    if current is None:
        return
    least = current.forest.recall_per_day - current.recall_error
    recall = found.forest.recall_per_day
    yield _check("recall at one false incident a day against the champion", recall >= least, recall, f">= {least:.3f}")
    precise = current.forest.pr_auc - current.recall_error
    yield _check("pr_auc against the champion", found.forest.pr_auc >= precise, found.forest.pr_auc, f">= {precise:.3f}")


def _check(name: str, passed: object, value: float, limit: str) -> Check:
    """numpy's bools and floats as plain ones."""
    return Check(name, bool(passed), float(value), limit)


def _scored(champion: Path, trial: Trial, rivals: Mapping[str, Score]) -> Evaluation | None:
    try:
        return _evaluated(champion, trial, rivals)
    except BundleRejected:
        return None


def _evaluated(folder: Path, trial: Trial, rivals: Mapping[str, Score]) -> Evaluation:
    bundle = Bundle.load(folder)
    session = open_session(bundle.model)
    residuals, _ = bundle.baseline.residuals(trial.windows)
    pooled, _ = bundle.baseline.residuals(trial.windows, pooled=True)
    return evaluate(trial, residuals, pooled, lambda z: run(session, z), rivals, bundle.thresholds)
