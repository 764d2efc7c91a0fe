"""Metrics against ground truth, per event, at a stated number of false incidents.

No point adjustment.

An attack is caught when a flagged window overlaps it. A false incident is a run of flagged windows
that overlap no attack. A run that never ends counts again every hour, so that an alarm that is
always on is not a single incident.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from adnomaly.arrays import Bools, Floats
from adnomaly.detector.grid import Grid
from adnomaly.detector.grouping import count

WEEK_DAYS: Final = 7.0
FORTNIGHT_DAYS: Final = 14.0


class Event(NamedTuple):
    """A labelled event of one entity, Unix seconds. A benign event must not be reported."""

    kind: str
    entity: str
    start_s: int
    end_s: int
    benign: bool = False
    strength: float = float("nan")


_STORED_AS = {"recall_at_threshold": "at_flag", "delay_at_threshold": "delay_at_flag"}
"""Names in bundle cards, reports and MLflow, kept because earlier runs have them."""


class Metrics(msgspec.Struct, frozen=True, rename=_STORED_AS):
    """Metrics of one detector. Recalls are shares of the attacks.

    Attributes:
        error: standard error of `recall_per_day`.
        recall_at_threshold: recall of the detector's flags; None when it has no threshold.
        realised: false incidents of these flags divided by the budget, per fortnight.
        benign_flagged: share of the benign events that are flagged.
        normal_flagged: share of the windows outside all events that are flagged.
    """

    roc_auc: float
    pr_auc: float
    recall_per_week: float
    recall_per_day: float
    error: float
    delay_minutes: float | None
    recall_by_kind: dict[str, float]
    recall_at_threshold: float | None = None
    delay_at_threshold: float | None = None
    realised: list[float] = []
    benign_flagged: float | None = None
    normal_flagged: float | None = None


class GroundTruth:
    """The event that each window of a grid overlaps.

    Attributes:
        present: cells that hold a window, (T, E) bool.
        event: index of the event, (T, E), -1 for none; attacks take precedence over benign events.
        attack: the same for attacks only.
        attacks: indices of the attacks that overlap a window.
    """

    def __init__(self, grid: Grid, events: Sequence[Event]) -> None:
        self.grid, self.events = grid, list(events)
        self.present: Bools = np.isfinite(grid.values).any(axis=2)
        self.event = np.full(grid.values.shape[:2], -1)
        column = {name: i for i, name in enumerate(grid.names)}
        for i, event in sorted(enumerate(events), key=lambda pair: not pair[1].benign):
            first = np.searchsorted(grid.end_s, event.start_s, side="right")
            last = np.searchsorted(grid.end_s, event.end_s + grid.cadence.size_s, side="left")
            if event.entity in column:
                self.event[first:last, column[event.entity]] = i
        benign = np.array([*(e.benign for e in events), True])
        self.attack = np.where(benign[self.event], -1, self.event)
        self.attacks: list[int] = sorted({*np.unique(self.attack[self.present]).tolist()} - {-1})
        self.days = len(grid.end_s) * grid.cadence.slide_s / 86400

    @property
    def is_attack(self) -> Bools:
        """Whether each present window overlaps an attack, (n,)."""
        labels: Bools = self.attack[self.present] >= 0
        return labels

    @property
    def base_rate(self) -> float:
        """Share of the windows that overlap an attack: the average precision of chance."""
        return float(self.is_attack.mean())

    def false_incidents(self, flagged: Bools) -> int:
        return count(flagged & (self.attack < 0), self.grid.cadence)

    def caught(self, flagged: Bools) -> dict[int, float]:
        """Attacks with a flagged window, and the minutes from their start to its first end."""
        rows, entities = np.nonzero(flagged & (self.attack >= 0))
        delays: dict[int, float] = {}
        for row, attack in zip(rows.tolist(), self.attack[rows, entities].tolist(), strict=True):
            delay = float(self.grid.end_s[row] - self.events[attack].start_s) / 60
            delays[attack] = min(delay, delays.get(attack, delay))
        return delays

    def threshold(self, score: Floats, incidents: float) -> float:
        """The lowest score that, as a threshold, gives at most this many false incidents."""
        quiet = np.where(self.present & (self.attack < 0), score, -np.inf)
        top = np.unique(quiet[np.isfinite(quiet)])[::-1]
        if self.false_incidents(quiet >= top[0]) > incidents:
            return float(np.nextafter(top[0], np.inf))
        low, step = 0, 1
        while low + step < len(top) and self.false_incidents(quiet >= top[low + step]) <= incidents:
            low, step = low + step, step * 2
        high = min(low + step, len(top))
        while high - low > 1:
            middle = (low + high) // 2
            if self.false_incidents(quiet >= top[middle]) <= incidents:
                low = middle
            else:
                high = middle
        return float(top[low])

    def evaluate(
        self, score: Floats, flagged: Bools | None = None, *, budget_per_day: float = 1.0
    ) -> Metrics:
        """Metrics of scores (T, E), where NaN is the lowest, and of flags (T, E) when given."""
        filled = np.where(np.isfinite(score), score, np.nanmin(score, initial=0.0) - 1)
        per_week, per_day = (
            self.caught((filled >= self.threshold(filled, incidents)) & self.present)
            for incidents in (self.days / WEEK_DAYS, self.days)
        )
        total = max(1, len(self.attacks))
        recall = len(per_day) / total
        metrics = Metrics(
            roc_auc=float(roc_auc_score(self.is_attack, filled[self.present])),
            pr_auc=float(average_precision_score(self.is_attack, filled[self.present])),
            recall_per_week=len(per_week) / total,
            recall_per_day=recall,
            error=float(np.sqrt(max(recall * (1 - recall), 1 / total) / total)),
            delay_minutes=_median(per_day),
            recall_by_kind=self._recall_by_kind(per_day),
        )
        return metrics if flagged is None else self._with_flags(metrics, flagged, budget_per_day)

    def _recall_by_kind(self, caught: dict[int, float]) -> dict[str, float]:
        kinds = sorted({self.events[i].kind for i in self.attacks})
        return {
            kind: float(np.mean([i in caught for i in self.attacks if self.events[i].kind == kind]))
            for kind in kinds
        }

    def _with_flags(self, metrics: Metrics, flagged: Bools, budget_per_day: float) -> Metrics:
        caught = self.caught(flagged)
        benign = [i for i, e in enumerate(self.events) if e.benign and (self.event == i).any()]
        hit = set(np.unique(self.event[flagged]).tolist())
        quiet = self.present & (self.event < 0)
        return msgspec.structs.replace(
            metrics,
            recall_at_threshold=len(caught) / max(1, len(self.attacks)),
            delay_at_threshold=_median(caught),
            realised=self._realised(flagged, budget_per_day),
            benign_flagged=float(np.mean([i in hit for i in benign])) if benign else None,
            normal_flagged=float(flagged[quiet].mean()),
        )

    def _realised(self, flagged: Bools, budget_per_day: float) -> list[float]:
        """False incidents over the budget, by fortnight; a last part below half is ignored."""
        step = self.grid.cadence.steps(FORTNIGHT_DAYS * 86400)
        ratios = []
        for first in range(0, max(1, len(flagged) - step // 2), step):
            rows = slice(first, first + step)
            days = len(flagged[rows]) * self.grid.cadence.slide_s / 86400
            false = count((flagged & (self.attack < 0))[rows], self.grid.cadence)
            ratios.append(false / (budget_per_day * days))
        return ratios


def _median(delays: dict[int, float]) -> float | None:
    return float(np.median(list(delays.values()))) if delays else None
