"""Detectors against what is known: event by event, at a stated number of false incidents, never point-adjusted.

An attack is caught when a flagged window overlaps it. A false incident is a stretch of flagged windows that overlap no attack; one
that never ends counts again with every hour, so that an alarm that is always on is not one incident.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from adnomaly.detector.grid import Grid
from adnomaly.detector.grouping import count
from adnomaly.evaluation.curves import Curve

WEEK_DAYS: Final = 7.0
FORTNIGHT_DAYS: Final = 14.0


class Event(NamedTuple):
    """Something that is known to have happened to one entity, Unix seconds; benign events must not be reported."""

    kind: str
    entity: str
    start_s: int
    end_s: int
    benign: bool = False
    strength: float = float("nan")


_STORED_AS = {"recall_at_threshold": "at_flag", "delay_at_threshold": "delay_at_flag"}
"""Names in bundle cards, reports and MLflow, where earlier runs have them."""


class Metrics(msgspec.Struct, frozen=True, rename=_STORED_AS):
    """One detector. Recalls are shares of the attacks; `error` is the standard error of the recall at one false incident a day.

    Attributes:
        recall_at_threshold: recall of what the detector itself flags; None where it has no threshold of its own.
        realised: false incidents of that, against the budget, for each fortnight.
        benign_flagged: share of the benign events that it flags.
        normal_flagged: share of the windows of no event that it flags.
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
    """The windows of a grid, and the event that each overlaps.

    Attributes:
        event: number of the event, (T, E), -1 for none; an attack goes before a benign event.
        attack: the same for attacks alone.
    """

    def __init__(self, grid: Grid, events: Sequence[Event]) -> None:
        self.grid, self.events = grid, list(events)
        self.present = np.isfinite(grid.values).any(axis=2)
        self.event = np.full(grid.values.shape[:2], -1)
        number = {name: i for i, name in enumerate(grid.names)}
        for i, event in sorted(enumerate(events), key=lambda pair: not pair[1].benign):
            first = np.searchsorted(grid.end_s, event.start_s, side="right")
            last = np.searchsorted(grid.end_s, event.end_s + grid.cadence.size_s, side="left")
            if event.entity in number:
                self.event[first:last, number[event.entity]] = i
        benign = np.array([*(e.benign for e in events), True])
        self.attack = np.where(benign[self.event], -1, self.event)
        self.attacks = sorted({*np.unique(self.attack[self.present]).tolist()} - {-1})
        self.days = len(grid.end_s) * grid.cadence.slide_s / 86400

    @property
    def base_rate(self) -> float:
        """Share of the windows that overlap an attack: the average precision of chance."""
        return float((self.attack[self.present] >= 0).mean())

    def false_incidents(self, flagged: np.ndarray) -> int:
        return count(flagged & (self.attack < 0), self.grid.cadence)

    def caught(self, flagged: np.ndarray) -> dict[int, float]:
        """Attacks with a flagged window, and the minutes from their start to the end of the first one."""
        rows, entities = np.nonzero(flagged & (self.attack >= 0))
        first: dict[int, float] = {}
        for row, attack in zip(rows.tolist(), self.attack[rows, entities].tolist(), strict=True):
            delay = (self.grid.end_s[row] - self.events[attack].start_s) / 60
            first[attack] = min(delay, first.get(attack, delay))
        return first

    def threshold(self, score: np.ndarray, incidents: float) -> float:
        """The lowest threshold, among the scores, from which on there are at most so many false incidents."""
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
            low, high = (
                (middle, high)
                if self.false_incidents(quiet >= top[middle]) <= incidents
                else (low, middle)
            )
        return float(top[low])

    def evaluate(
        self, score: np.ndarray, flagged: np.ndarray | None = None, *, budget_per_day: float = 1.0
    ) -> Metrics:
        """A detector by its scores (T, E); NaN counts as the lowest. And by what it flags, where it does."""
        filled = np.where(np.isfinite(score), score, np.nanmin(score, initial=0.0) - 1)
        curve = Curve.of(self.attack[self.present] >= 0, filled[self.present])
        per_week, per_day = (
            filled >= self.threshold(filled, n) for n in (self.days / WEEK_DAYS, self.days)
        )
        caught, total = self.caught(per_day & self.present), max(1, len(self.attacks))
        recall = len(caught) / total
        return Metrics(
            roc_auc=curve.roc_auc,
            pr_auc=curve.pr_auc,
            recall_per_week=len(self.caught(per_week & self.present)) / total,
            recall_per_day=recall,
            error=float(np.sqrt(max(recall * (1 - recall), 1 / total) / total)),
            delay_minutes=float(np.median(list(caught.values()))) if caught else None,
            recall_by_kind=self._by_kind(caught),
            **({} if flagged is None else self._flag(flagged, budget_per_day)),
        )

    def _by_kind(self, caught: dict[int, float]) -> dict[str, float]:
        kinds = sorted({self.events[i].kind for i in self.attacks})
        return {
            kind: float(np.mean([i in caught for i in self.attacks if self.events[i].kind == kind]))
            for kind in kinds
        }

    def _flag(self, flagged: np.ndarray, budget_per_day: float) -> dict[str, object]:
        caught = self.caught(flagged)
        step = self.grid.cadence.steps(FORTNIGHT_DAYS * 86400)
        parts = [slice(i, i + step) for i in range(0, max(1, len(flagged) - step // 2), step)]
        realised = []
        for part in parts:
            days = len(flagged[part]) * self.grid.cadence.slide_s / 86400
            realised.append(
                count((flagged & (self.attack < 0))[part], self.grid.cadence)
                / (budget_per_day * days)
            )
        benign = [i for i, e in enumerate(self.events) if e.benign and (self.event == i).any()]
        hit = set(np.unique(self.event[flagged]).tolist())
        quiet = self.present & (self.event < 0)
        return {
            "recall_at_threshold": len(caught) / max(1, len(self.attacks)),
            "delay_at_threshold": float(np.median(list(caught.values()))) if caught else None,
            "realised": realised,
            "benign_flagged": float(np.mean([i in hit for i in benign])) if benign else None,
            "normal_flagged": float(flagged[quiet].mean()),
        }
