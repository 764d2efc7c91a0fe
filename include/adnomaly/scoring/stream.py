"""Windows as they come, judged with their past: the same function that a file is judged with, a few rows at a time."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Self

import numpy as np

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
"""A day more than the memory reaches: what it left out as conspicuous depends on the hours before."""

Span = tuple[int, int]
"""End of the last and of the first flagged window of an incident, Unix seconds."""


class WindowScore(NamedTuple):
    """What the detector says about one window; per feature where it could be compared.

    Attributes:
        score: None while the entity warms up.
        incident: name of the incident that a flagged window belongs to.
    """

    score: float | None
    incident: str | None
    expected: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    z: dict[str, float]
    share: dict[str, float]


class StreamState(NamedTuple):
    """Where the judging is. Nothing changes it: judging gives the course to go on from, for when all is stored.

    Attributes:
        past: windows of the last two days.
        judged_to: end of the newest row that was judged.
        still_open: by entity, the incident that its next flagged window may belong to.
    """

    bundle: Bundle
    past: Windows | None
    scored_until: int
    still_open: Mapping[str, Span]

    @classmethod
    def begin(cls, bundle: Bundle, past: Windows | None, still_open: Mapping[str, Span]) -> Self:
        """The course after some windows that were judged before, if any, and those that the bundle was trained on."""
        known = [
            windows for windows in (bundle.history, past) if windows is not None and len(windows)
        ]
        whole = known[0] if known else None
        for windows in known[1:]:
            whole = joined(whole, windows)
        return cls(
            bundle,
            whole,
            int(past.end_s.max()) if past is not None and len(past) else 0,
            still_open,
        )

    def score(self, live: Windows) -> "tuple[list[WindowScore], list[IncidentSpan], StreamState]":
        """Windows, at least one, in any order: what is found about each, silences and outages that began, and the next course."""
        detector, newest = self.bundle.detector, int(live.end_s.max())
        both = live if self.past is None else joined(self.past, live)
        own = np.arange(len(both) - len(live), len(both))
        kept = both.end_s > newest - KEPT_S
        kept[own] = True
        both = both.take(kept)
        grid, places = to_grid(both, detector.cadence, detector.names)
        places = places[len(both) - len(live) :]
        judged = detector.score(grid, int(places[:, 0].min()), known_from=0)
        mine = np.zeros(judged.flagged.shape, bool)
        mine[tuple(places.T)] = True
        began, still_open = grouping.number(
            judged.flagged & mine, grid.end_s, detector.cadence, self._open(grid)
        )
        found = _found(detector, grid, judged, began, places)
        named = {
            name: (int(last), int(first))
            for name, last, first in zip(grid.names, *still_open, strict=True)
            if last > grouping.NEVER
        }
        begun = self._begun(detector, grid, judged, max(newest, self.scored_until))
        return (
            found,
            begun,
            self._replace(past=both, scored_until=max(newest, self.scored_until), still_open=named),
        )

    def _open(self, grid: Grid) -> OpenIncidents:
        nothing = (grouping.NEVER, grouping.NEVER)
        last, first = zip(*(self.still_open.get(name, nothing) for name in grid.names), strict=True)
        return OpenIncidents(np.array(last), np.array(first))

    def _begun(
        self, detector: Detector, grid: Grid, judged: GridScores, newest: int
    ) -> list[IncidentSpan]:
        """Silences and outages that are known since the rows that are judged now."""
        volume = detector.spec.volume
        if volume is None or not self.scored_until:
            return []
        found = grouping.silences(grid, judged.expected[..., volume], judged.down, judged.there)
        certain = [
            max(i.start_s + grid.cadence.size_s, i.start_s + grouping.MIN_SILENCE_S) for i in found
        ]
        return [i for i, at in zip(found, certain, strict=True) if self.scored_until < at <= newest]


def _found(
    detector: Detector, grid: Grid, judged: GridScores, began: np.ndarray, places: np.ndarray
) -> list[WindowScore]:
    row, entity = places.T
    z = judged.z[row, entity]
    parts = (
        judged.expected[row, entity],
        judged.low[row, entity],
        judged.high[row, entity],
        z,
        attribute(z),
    )
    rows = zip(
        judged.score[row, entity].tolist(),
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


def _named(names: Sequence[str], values: np.ndarray) -> dict[str, float]:
    return {
        name: value
        for name, value in zip(names, values.tolist(), strict=True)
        if np.isfinite(value)
    }
