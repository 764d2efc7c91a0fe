"""Windows by time and entity: a dense array in which a missing window is NaN."""

from typing import Final, NamedTuple, Self

import numpy as np

from adnomaly.arrays import Floats, Ints
from adnomaly.detector.windows import Windows
from adnomaly.errors import BadInput

MAX_CELLS: Final = 12_000_000
"""Windows of all entities, missing ones included: 200 days of 30 entities at one minute."""

MAX_SHARED: Final = 0.02
"""Share of the windows that may fall into the same row as another one."""


class Cadence(NamedTuple):
    """Length of windows, and time between two window ends, in seconds."""

    size_s: int
    slide_s: int

    @classmethod
    def of(cls, windows: Windows) -> Self:
        """The most common length, and the most common time between two ends of one entity."""
        size = _most_common(windows.end_s - windows.start_s)
        order = np.lexsort((windows.end_s, windows.entity))
        apart = np.diff(windows.end_s[order])[np.diff(windows.entity[order]) == 0]
        return cls(size, _most_common(apart[apart > 0]) if (apart > 0).any() else size)

    @property
    def overlaps(self) -> bool:
        """Consecutive windows share at least half of their events."""
        return self.size_s >= 2 * self.slide_s

    def steps(self, seconds: float) -> int:
        """Number of windows that end within this time, at least one."""
        return max(1, round(seconds / self.slide_s))

    def __str__(self) -> str:
        return f"{self.size_s / 60:g}-minute windows every {self.slide_s / 60:g} minutes"


class Grid(NamedTuple):
    """All windows of some entities between two moments.

    Attributes:
        end_s: window ends, one slide apart, (T,).
        values: features in their own units, (T, E, F); NaN for a missing window.
    """

    names: tuple[str, ...]
    cadence: Cadence
    end_s: Ints
    values: Floats

    @property
    def days(self) -> float:
        return len(self.end_s) * self.cadence.slide_s / 86400

    def between(self, first: int, last: int) -> "Grid":
        """The rows from `first` to before `last`."""
        return self._replace(end_s=self.end_s[first:last], values=self.values[first:last])

    def per_day(self) -> int:
        return self.cadence.steps(86400)


def to_grid(
    windows: Windows, cadence: Cadence, names: tuple[str, ...] | None = None
) -> tuple[Grid, Ints]:
    """The windows on a grid, and row and entity of each of them, (n, 2).

    Args:
        names: order of the entities, others follow; None keeps the windows' order.

    Raises:
        BadInput: windows span too long a time, or are closer than the cadence.
    """
    if names is not None:
        every = (*names, *(name for name in windows.names if name not in set(names)))
        position = {name: i for i, name in enumerate(every)}
        positions = np.array([position[name] for name in windows.names], np.int64)
        entity = positions[windows.entity]
    else:
        every, entity = windows.names, windows.entity
    first = _aligned(windows.end_s, cadence.slide_s)
    row = np.round((windows.end_s - first) / cadence.slide_s).astype(np.int64)
    length = int(row.max()) + 1
    if length * len(every) > MAX_CELLS:
        raise BadInput(
            f"{length} {cadence} of {len(every)} entities are more than {MAX_CELLS} windows; "
            "give fewer days at once"
        )
    values = np.full((length, len(every), windows.values.shape[1]), np.nan)
    values[row, entity] = windows.values
    _check_cells(row, entity, windows.end_s, cadence)
    end_s = first + np.arange(length, dtype=np.int64) * cadence.slide_s
    return Grid(every, cadence, end_s, values), np.column_stack([row, entity])


def _check_cells(row: Ints, entity: Ints, end_s: Ints, cadence: Cadence) -> None:
    """Tolerate some windows in the row of another, from clock jitter; many are another cadence."""
    order = np.lexsort((end_s, row, entity))
    shared = (
        (np.diff(entity[order]) == 0) & (np.diff(row[order]) == 0) & (np.diff(end_s[order]) > 0)
    )
    if shared.sum() > MAX_SHARED * len(row):
        position = int(order[1:][shared].min())
        raise BadInput(
            f"row {position + 1}: ends less than {cadence.slide_s} s after another, the time "
            "between most windows; keep one cadence in a file"
        )


def _aligned(end_s: Ints, slide_s: int) -> int:
    """End of the first row: aligned with most windows, within half a slide of the first one."""
    phase = _most_common(end_s % slide_s)
    return int(np.round((end_s.min() - phase) / slide_s)) * slide_s + phase


def _most_common(values: Ints) -> int:
    distinct, counts = np.unique(values, return_counts=True)
    return int(distinct[np.argmax(counts)])
