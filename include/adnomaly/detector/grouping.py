"""What a person is told: flagged windows of one entity that are near each other are one incident.

Besides: the silence of one entity, and the outage of the platform, have names of their own.
"""

from typing import Final, NamedTuple, Self

import numpy as np

from adnomaly.detector.grid import Cadence, Grid

MERGE_S: Final = 30 * 60
SILENT: Final = "silence"
OUTAGE: Final = "platform outage"
ANOMALY: Final = "anomaly"

NEVER: Final = -(10**12)

MANY: Final = 0.5
"""Share of the entities that are missing, or far too low, in an outage of the platform."""
MIN_ENTITIES: Final = 4
"""Entities that a platform must have to be told from its entities."""
DEEP: Final = -5.0
"""Median z of volume over the entities at the edge of an outage."""
MIN_EXPECTED: Final = 20.0
"""Events expected of a window that would not be missing by chance."""
MIN_SILENCE_S: Final = 5 * 60


class IncidentSpan(NamedTuple):
    """From the start of its first window to the end of its last, Unix seconds; `entity` is empty for the platform."""

    name: str
    kind: str
    entity: str
    start_s: int
    end_s: int
    peak: float


def merge_steps(cadence: Cadence) -> int:
    """Rows that may lie between two flagged windows of one incident."""
    return max(1, MERGE_S // cadence.slide_s)


class OpenIncidents(NamedTuple):
    """The last incident of each entity: end of its last flagged window, and of its first, Unix seconds; both (E,)."""

    last_s: np.ndarray
    first_s: np.ndarray

    @classmethod
    def none(cls, entities: int) -> Self:
        return cls(np.full(entities, NEVER), np.full(entities, NEVER))


def number(
    flagged: np.ndarray, end_s: np.ndarray, cadence: Cadence, before: OpenIncidents | None = None
) -> tuple[np.ndarray, OpenIncidents]:
    """The incident of each flagged window, and what is open after the last row.

    Args:
        flagged: (T, E).
        end_s: of the rows, (T,).
        before: what was open before the first row, so that rows can come in parts.

    Returns:
        Of each flagged window the end of the first window of its incident, Unix seconds, (T, E); NEVER where nothing is flagged.
    """
    began = np.full(flagged.shape, NEVER)
    last, first = before or OpenIncidents.none(flagged.shape[1])
    near_s = merge_steps(cadence) * cadence.slide_s
    for row in np.flatnonzero(flagged.any(axis=1)):
        hit, now = flagged[row], end_s[row]
        first = np.where(hit & (now - last > near_s), now, first)
        last = np.where(hit, np.maximum(last, now), last)  # a window may come late
        began[row, hit] = first[hit]
    return began, OpenIncidents(last, first)


def name_of(entity: str, end_s: int) -> str:
    """Name of the incident that began with the window that ended then; the same whenever it is computed."""
    return f"{entity}@{np.datetime64(int(end_s), 's')}Z"


def began_s(name: str) -> int:
    """The end of the first window of the incident of this name, Unix seconds."""
    return int(np.datetime64(name.rpartition("@")[2].removesuffix("Z"), "s").astype(np.int64))


def count(flagged: np.ndarray, cadence: Cadence) -> int:
    """Incidents; one that never ends counts again with every hour."""
    hour, near, found = max(1, 3600 // cadence.slide_s), merge_steps(cadence), 0
    for column in flagged.T:
        rows = np.flatnonzero(column)
        if len(rows):
            apart = np.flatnonzero(np.diff(rows) > near)
            length = rows[np.append(apart, len(rows) - 1)] - rows[np.append(0, apart + 1)]
            found += int(np.sum(length // hour + 1))
    return found


def platform_down(volume_z: np.ndarray, missing: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Rows (T,) in which half of the entities that are there, and at least 4 are, are missing or far too low; arguments (T, E)."""
    low = missing | (there & (np.nan_to_num(volume_z) < DEEP))
    entities = there.sum(axis=1)
    return (entities >= MIN_ENTITIES) & (low.sum(axis=1) >= MANY * entities)


def silences(
    grid: Grid, expected_count: np.ndarray, down: np.ndarray, there: np.ndarray
) -> list[IncidentSpan]:
    """Entities without windows while the platform has some, and outages of the platform itself.

    Args:
        expected_count: events expected of each window, (T, E); NaN where that is not known.
        down: rows in which the platform is down, (T,).
        there: entities that have been seen, (T, E).
    """
    missing = np.isnan(grid.values).all(axis=2) & there
    quiet = missing & (expected_count >= MIN_EXPECTED) & ~down[:, None]
    found = []
    for e, name in enumerate(grid.names):
        found += [_incident(grid, SILENT, name, a, b) for a, b in _runs(quiet[:, e])]
    found += [_incident(grid, OUTAGE, "", a, b) for a, b in _runs(down)]
    return [i for i in found if i.end_s - i.start_s >= MIN_SILENCE_S]


def anomalies(grid: Grid, score: np.ndarray, began: np.ndarray) -> list[IncidentSpan]:
    """The incidents of flagged windows, by entity and time."""
    found = []
    for e, entity in enumerate(grid.names):
        rows = np.flatnonzero(began[:, e] != NEVER)
        for first in np.unique(began[rows, e]):
            own = rows[began[rows, e] == first]
            incident = _incident(grid, ANOMALY, entity, own[0], own[-1])
            found.append(
                incident._replace(name=name_of(entity, first), peak=float(score[own, e].max()))
            )
    return found


def _incident(grid: Grid, kind: str, entity: str, first: int, last: int) -> IncidentSpan:
    start, end = int(grid.end_s[first]) - grid.cadence.size_s, int(grid.end_s[last])
    return IncidentSpan(
        f"{kind}:{name_of(entity or 'platform', grid.end_s[first])}",
        kind,
        entity,
        start,
        end,
        float("nan"),
    )


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]
