"""How good is a detector, beside chance and beside the best simple rules, on windows with planted attacks.

Recall counts attacks, not windows: an attack is caught when one of its windows is flagged. False alarms are incidents over
the whole platform; benign events (promotions) are in the test, and flagging one is a false incident.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from adnomaly.model.bundle import Thresholds
from adnomaly.model.columns import Columns
from adnomaly.model.curves import Curve
from adnomaly.model.incidents import Timeline, days_of

Score = Callable[[np.ndarray], np.ndarray]
"""Residuals (n, F) to scores (n,), higher = more anomalous."""


class Event(msgspec.Struct, frozen=True):
    """A planted event: kind, start (Unix seconds), and whether it is benign."""

    kind: str
    start_s: int
    benign: bool


class Judged(msgspec.Struct, frozen=True):
    """One detector on one test.

    Attributes:
        roc_auc, pr_auc: over windows.
        recall_per_week, recall_per_day: share of attacks caught at one false incident a week, a day.
        delay_minutes: median from an attack's start to the end of its first flagged window, at one a day; None when none is caught.
    """

    roc_auc: float
    pr_auc: float
    recall_per_week: float
    recall_per_day: float
    delay_minutes: float | None


class AtThreshold(msgspec.Struct, frozen=True):
    """The calibrated detector as it would run.

    Attributes:
        false_incidents_per_day: promotions included.
        quiet_incidents_per_day: those outside promotions: what the budget is about.
        flagged_share: of the windows without any event.
        recall_by_kind: share of the attacks of each kind that are caught; for benign kinds the share that is flagged.
    """

    recall: float
    delay_minutes: float | None
    false_incidents_per_day: float
    quiet_incidents_per_day: float
    flagged_share: float
    recall_by_kind: dict[str, float]


class Evaluation(msgspec.Struct, frozen=True):
    """Everything that was measured; `budget_per_day` and `days` say what the figures at the thresholds mean.

    Attributes:
        detectors: the forest and its rivals.
        entity, pooled: the forest at its threshold, with the entities' own baselines, and with that of all entities.
        recall_error: standard error of the forest's recall at one false incident a day.
    """

    windows: int
    days: float
    attacks: int
    benign: int
    base_rate: float
    budget_per_day: float
    detectors: dict[str, Judged]
    entity: AtThreshold
    pooled: AtThreshold = msgspec.field(name="global")

    @property
    def forest(self) -> Judged:
        return self.detectors[FOREST]

    @property
    def recall_error(self) -> float:
        recall = self.forest.recall_per_day
        return float(np.sqrt(max(recall * (1 - recall), 1 / self.attacks) / self.attacks))


FOREST: Final = "isolation_forest"
WEEK_DAYS: Final = 7.0


class Trial:
    """Windows with planted events.

    Attributes:
        windows: the windows, in any order.
        event: number of the event that each window overlaps, else -1.
        attack: number of the attack that each window overlaps, else -1; benign events count as none.
    """

    def __init__(self, windows: Columns, event: np.ndarray, events: Sequence[Event]) -> None:
        self.windows, self.events, self.event = windows, events, event
        benign = np.array([*(e.benign for e in events), False])
        self.attack = np.where(benign[event], -1, event)
        self.attacks = [i for i, e in enumerate(events) if not e.benign]
        self.days = days_of(windows)

    def judge(self, scores: np.ndarray) -> Judged:
        """A detector by its scores."""
        curve, timeline = Curve.of(self.attack >= 0, scores), Timeline(self.windows, scores, self.attack)
        at_week, at_day = (timeline.threshold_for(budget) for budget in (self.days / WEEK_DAYS, self.days))
        recall, delay = self.caught(scores >= at_day)
        return Judged(
            roc_auc=curve.roc_auc,
            pr_auc=curve.pr_auc,
            recall_per_week=self.caught(scores >= at_week)[0],
            recall_per_day=recall,
            delay_minutes=delay,
        )

    def at(self, scores: np.ndarray, threshold: float) -> AtThreshold:
        """A detector at one threshold."""
        flagged = scores >= threshold
        recall, delay = self.caught(flagged)
        hit = set(self.event[flagged & (self.event >= 0)].tolist())
        kinds = sorted({e.kind for e in self.events})
        numbers = {kind: [i for i, e in enumerate(self.events) if e.kind == kind] for kind in kinds}
        return AtThreshold(
            recall=recall,
            delay_minutes=delay,
            false_incidents_per_day=Timeline(self.windows, scores, self.attack).false_incidents(threshold) / self.days,
            quiet_incidents_per_day=Timeline(self.windows, scores, self.event).false_incidents(threshold) / self.days,
            flagged_share=float(flagged[self.event < 0].mean()),
            recall_by_kind={kind: float(np.mean([i in hit for i in of])) for kind, of in numbers.items()},
        )

    def caught(self, flagged: np.ndarray) -> tuple[float, float | None]:
        """Share of the attacks with a flagged window, and the median delay of those in minutes."""
        of, ends = self.attack[flagged & (self.attack >= 0)], self.windows.end_s[flagged & (self.attack >= 0)]
        first: dict[int, int] = {}
        for attack, end in zip(of.tolist(), ends.tolist(), strict=True):
            first[attack] = min(end, first.get(attack, end))
        delays = [(end - self.events[attack].start_s) / 60 for attack, end in first.items()]
        return len(first) / max(1, len(self.attacks)), float(np.median(delays)) if delays else None


def rivals(training_residuals: np.ndarray, *, seed: int) -> Mapping[str, Score]:
    """What a detector must beat: chance, an alarm that never stops, the largest |z|, the Mahalanobis distance."""
    rng = np.random.default_rng(seed)
    # A few windows that the clip cut off would bend the covariance.
    inverse = np.linalg.inv(np.cov(training_residuals[np.abs(training_residuals).max(axis=1) < 6].T))
    return {
        "random": lambda z: rng.random(len(z)),
        "always_on": lambda z: np.ones(len(z)),
        "max_abs_z": lambda z: np.abs(z).max(axis=1),
        "mahalanobis": lambda z: np.einsum("ij,jk,ik->i", z, inverse, z),
    }


def evaluate(
    test: Trial, residuals: np.ndarray, pooled_residuals: np.ndarray, forest: Score, others: Mapping[str, Score], thresholds: Thresholds
) -> Evaluation:
    """The forest and its rivals on one test; the residuals are those of the test's windows."""
    scores, pooled_scores = forest(residuals), forest(pooled_residuals)
    judged = {FOREST: test.judge(scores), f"{FOREST}_global": test.judge(pooled_scores)}
    judged |= {name: test.judge(score(residuals)) for name, score in others.items()}
    return Evaluation(
        windows=len(test.windows),
        days=round(test.days, 3),
        attacks=len(test.attacks),
        benign=len(test.events) - len(test.attacks),
        base_rate=float((test.attack >= 0).mean()),
        budget_per_day=thresholds.budget_per_day,
        detectors=judged,
        entity=test.at(scores, thresholds.entity.threshold),
        pooled=test.at(pooled_scores, thresholds.pooled.threshold),
    )
