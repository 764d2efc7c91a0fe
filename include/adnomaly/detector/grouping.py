"""Incidents: flagged windows of one entity that are near each other are one incident.

The silence of one entity and the outage of the platform are incidents of their own kind.
"""

from typing import Final, NamedTuple, Self

import numpy as np

from adnomaly.arrays import Bools, Floats, Ints
from adnomaly.detector.grid import Cadence, Grid

MERGE_S: Final = 30 * 60
SILENT: Final = "silence"
OUTAGE: Final = "platform outage"
ANOMALY: Final = "anomaly"

NEVER: Final = -(10**12)

MIN_SHARE_DOWN: Final = 0.5
"""Share of the entities that are missing or far too low in an outage."""
MIN_ENTITIES: Final = 4
"""Entities needed to tell an outage of the platform from that of an entity."""
LOW_Z: Final = -5.0
"""z of volume below which an entity is far too low."""
MIN_EXPECTED: Final = 20.0
"""Expected events of a window that is not missing by chance."""
MIN_SILENCE_S: Final = 5 * 60


class IncidentSpan(NamedTuple):
    """One incident, from the start of its first window to the end of its last, Unix seconds.

    Attributes:
        entity: empty for the platform.
        peak: highest score; NaN for silence and outage.
    """

    name: str
    kind: str
    entity: str
    start_s: int
    end_s: int
    peak: float


def merge_steps(cadence: Cadence) -> int:
    """Largest distance in rows between two flagged windows of one incident."""
    return max(1, MERGE_S // cadence.slide_s)


class OpenIncidents(NamedTuple):
    """The last incident of each entity: ends of its last and first flagged window, (E,) each."""

    last_s: Ints
    first_s: Ints

    @classmethod
    def none(cls, entities: int) -> Self:
        return cls(np.full(entities, NEVER), np.full(entities, NEVER))


def number(
    flagged: Bools, end_s: Ints, cadence: Cadence, before: OpenIncidents | None = None
) -> tuple[Ints, OpenIncidents]:
    """Assign each flagged window to an incident.

    Args:
        flagged: (T, E).
        end_s: of the rows, (T,).
        before: incidents open before the first row, so that rows can be processed in parts.

    Returns:
        End of the first window of the incident of each flagged window, Unix seconds, (T, E), NEVER
        for the others; and the incidents open after the last row.
    """
    began = np.full(flagged.shape, NEVER)
    last, first = before or OpenIncidents.none(flagged.shape[1])
    near_s = merge_steps(cadence) * cadence.slide_s
    for row in np.flatnonzero(flagged.any(axis=1)):
        hit, now = flagged[row], end_s[row]
        first = np.where(hit & (now - last > near_s), now, first)
        last = np.where(hit, np.maximum(last, now), last)  # windows can be late
        began[row, hit] = first[hit]
    return began, OpenIncidents(last, first)


def name_of(entity: str, end_s: int) -> str:
    """Deterministic name of the incident whose first window ended then."""
    return f"{entity}@{np.datetime64(int(end_s), 's')}Z"


def began_s(name: str) -> int:
    """End of the first window of the incident of this name, Unix seconds."""
    return int(np.datetime64(name.rpartition("@")[2].removesuffix("Z"), "s").astype(np.int64))


def count(flagged: Bools, cadence: Cadence) -> int:
    """Number of incidents; each further hour of an incident counts as another one."""
    hour, near, incidents = max(1, 3600 // cadence.slide_s), merge_steps(cadence), 0
    for column in flagged.T:
        rows = np.flatnonzero(column)
        if len(rows):
            gaps = np.flatnonzero(np.diff(rows) > near)
            length = rows[np.append(gaps, len(rows) - 1)] - rows[np.append(0, gaps + 1)]
            incidents += int(np.sum(length // hour + 1))
    return incidents


def platform_down(volume_z: Floats, missing: Bools, there: Bools) -> Bools:
    """Rows (T,) in which at least 4 entities are there, and half are missing or far too low.

    Args:
        volume_z, missing, there: (T, E).
    """
    low = missing | (there & (np.nan_to_num(volume_z) < LOW_Z))
    entities = there.sum(axis=1)
    down: Bools = (entities >= MIN_ENTITIES) & (low.sum(axis=1) >= MIN_SHARE_DOWN * entities)
    return down


def silences(grid: Grid, expected_count: Floats, down: Bools, there: Bools) -> list[IncidentSpan]:
    """Entities without windows while the platform is up, and outages of the platform.

    Args:
        expected_count: expected events of each window, (T, E); NaN where unknown.
        down: rows in which the platform is down, (T,).
        there: entities that have been observed, (T, E).
    """
    missing = np.isnan(grid.values).all(axis=2) & there
    quiet = missing & (expected_count >= MIN_EXPECTED) & ~down[:, None]
    incidents = []
    for e, name in enumerate(grid.names):
        incidents += [_incident(grid, SILENT, name, a, b) for a, b in _runs(quiet[:, e])]
    incidents += [_incident(grid, OUTAGE, "", a, b) for a, b in _runs(down)]
    return [i for i in incidents if i.end_s - i.start_s >= MIN_SILENCE_S]


def anomalies(grid: Grid, score: Floats, began: Ints) -> list[IncidentSpan]:
    """The incidents of flagged windows, by entity and time."""
    incidents = []
    for e, entity in enumerate(grid.names):
        rows = np.flatnonzero(began[:, e] != NEVER)
        for first in np.unique(began[rows, e]):
            members = rows[began[rows, e] == first]
            incident = _incident(grid, ANOMALY, entity, int(members[0]), int(members[-1]))
            peak = float(score[members, e].max())
            incidents.append(incident._replace(name=name_of(entity, first), peak=peak))
    return incidents


def _incident(grid: Grid, kind: str, entity: str, first: int, last: int) -> IncidentSpan:
    """The incident from row `first` to row `last`."""
    name = f"{kind}:{name_of(entity or 'platform', grid.end_s[first])}"
    start, end = int(grid.end_s[first]) - grid.cadence.size_s, int(grid.end_s[last])
    return IncidentSpan(name, kind, entity, start, end, float("nan"))


def _runs(flags: Bools) -> list[tuple[int, int]]:
    """First and last position of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]
