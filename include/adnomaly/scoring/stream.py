"""Score windows as they arrive, in context: the scoring of files, a few rows at a time."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Self

import numpy as np

from adnomaly.arrays import Floats, Ints
from adnomaly.bundle.bundle import Bundle
from adnomaly.bundle.codec import PAST_S
from adnomaly.detector import grouping
from adnomaly.detector.detector import Detector
from adnomaly.detector.grid import Grid, to_grid
from adnomaly.detector.grouping import IncidentSpan, OpenIncidents
from adnomaly.detector.scores import GridScores
from adnomaly.detector.windows import Windows
from adnomaly.scoring.attribution import attribute
from adnomaly.scoring.files import joined

KEPT_S: Final = PAST_S + 24 * 3600
"""A day more than the residual forecast reaches: its outliers depend on the hours before."""

Span = tuple[int, int]
"""End of the last and of the first flagged window of an incident, Unix seconds."""


class WindowScore(NamedTuple):
    """The score of one window, and per feature its explanation where there is one.

    Attributes:
        score: None while the entity warms up.
        incident: name of the incident of a flagged window.
    """

    score: float | None
    incident: str | None
    expected: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    z: dict[str, float]
    share: dict[str, float]


class StreamState(NamedTuple):
    """Progress in the stream. Immutable: scoring returns the next state, for after the commit.

    Attributes:
        past: windows of the last two days.
        scored_until: end of the newest scored window, Unix seconds; 0 before the first.
        still_open: by entity, the incident that its next flagged window may belong to.
    """

    bundle: Bundle
    past: Windows | None
    scored_until: int
    still_open: Mapping[str, Span]

    @classmethod
    def begin(cls, bundle: Bundle, past: Windows | None, still_open: Mapping[str, Span]) -> Self:
        """The state after training and after windows that were scored before, if any."""
        history: Windows | None = None
        for windows in (bundle.history, past):
            if windows is not None and len(windows):
                history = windows if history is None else joined(history, windows)
        return cls(
            bundle,
            history,
            int(past.end_s.max()) if past is not None and len(past) else 0,
            still_open,
        )

    def score(self, live: Windows) -> "tuple[list[WindowScore], list[IncidentSpan], StreamState]":
        """Score at least one window, in any order.

        Returns:
            A score per window, silences and outages that began, and the next state.
        """
        detector, newest = self.bundle.detector, int(live.end_s.max())
        both = live if self.past is None else joined(self.past, live)
        kept = both.end_s > newest - KEPT_S
        kept[len(both) - len(live) :] = True
        both = both.take(kept)
        grid, places = to_grid(both, detector.cadence, detector.names)
        places = places[len(both) - len(live) :]
        grid_scores = detector.score(grid, int(places[:, 0].min()), known_from=0)
        is_live = np.zeros(grid_scores.flagged.shape, bool)
        is_live[tuple(places.T)] = True
        began, still_open = grouping.number(
            grid_scores.flagged & is_live, grid.end_s, detector.cadence, self._open(grid)
        )
        scores = _window_scores(detector, grid, grid_scores, began, places)
        named = {
            name: (int(last), int(first))
            for name, last, first in zip(grid.names, *still_open, strict=True)
            if last > grouping.NEVER
        }
        begun = self._begun(detector, grid, grid_scores, max(newest, self.scored_until))
        return (
            scores,
            begun,
            self._replace(past=both, scored_until=max(newest, self.scored_until), still_open=named),
        )

    def _open(self, grid: Grid) -> OpenIncidents:
        no_incident = (grouping.NEVER, grouping.NEVER)
        last, first = zip(
            *(self.still_open.get(name, no_incident) for name in grid.names), strict=True
        )
        return OpenIncidents(np.array(last), np.array(first))

    def _begun(
        self, detector: Detector, grid: Grid, grid_scores: GridScores, newest: int
    ) -> list[IncidentSpan]:
        """Silences and outages that became certain with these rows."""
        volume = detector.spec.volume
        if volume is None or not self.scored_until:
            return []
        spans = grouping.silences(
            grid, grid_scores.expected[..., volume], grid_scores.down, grid_scores.there
        )
        certain = [
            max(i.start_s + grid.cadence.size_s, i.start_s + grouping.MIN_SILENCE_S) for i in spans
        ]
        return [i for i, at in zip(spans, certain, strict=True) if self.scored_until < at <= newest]


def _window_scores(
    detector: Detector, grid: Grid, grid_scores: GridScores, began: Ints, places: Ints
) -> list[WindowScore]:
    row, entity = places.T
    z = grid_scores.z[row, entity]
    parts = (
        grid_scores.expected[row, entity],
        grid_scores.low[row, entity],
        grid_scores.high[row, entity],
        z,
        attribute(z),
    )
    rows = zip(
        grid_scores.score[row, entity].tolist(),
        began[row, entity].tolist(),
        entity.tolist(),
        *parts,
        strict=True,
    )
    names = detector.spec.names
    return [
        WindowScore(
            score if np.isfinite(score) else None,
            grouping.name_of(grid.names[e], start) if start != grouping.NEVER else None,
            *(_named(names, part) if np.isfinite(score) else {} for part in of),
        )
        for score, start, e, *of in rows
    ]


def _named(names: Sequence[str], values: Floats) -> dict[str, float]:
    return {
        name: value
        for name, value in zip(names, values.tolist(), strict=True)
        if np.isfinite(value)
    }
