"""Labels from a file: events with a start and an end, or windows with a label each."""

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adnomaly.detector.spec import END
from adnomaly.detector.windows import SEPARATOR, read_table, seconds
from adnomaly.errors import BadInput
from adnomaly.evaluation.metrics import Event

EVENT_COLUMNS: Final = ("start", "end")
LABEL: Final = "label"
KIND: Final = "kind"
BENIGN: Final = "benign"
STRENGTH: Final = "strength"
TRUE: Final = ("1", "1.0", "true")


def read_labels(file: Path, entity: tuple[str, ...], size_s: int, slide_s: int) -> list[Event]:
    """Read events: columns `start` and `end`, or `window_end` and `label` (1 for an attack).

    Both forms name the entity; `kind`, `benign` and `strength` are optional. Consecutive labelled
    windows of one entity and kind become one event.

    Raises:
        BadInput: naming the column, the row and the fix.
    """
    table, others = read_table(file, entity, (*EVENT_COLUMNS, END, LABEL, KIND, BENIGN, STRENGTH))
    names = set(table.column_names)
    if set(EVENT_COLUMNS) <= names:
        return _events(file, table, entity)
    if {END, LABEL} <= names:
        return _from_windows(file, table, entity, size_s, slide_s)
    raise BadInput(
        f"{file}: labels need the columns start and end, or window_end and label; "
        f"it has {', '.join([*table.column_names, *others])}"
    )


def _events(file: Path, table: pa.Table, entity: tuple[str, ...]) -> list[Event]:
    start, end = (seconds(file, name, table[name]) for name in EVENT_COLUMNS)
    if (end <= start).any():
        row = int(np.argmax(end <= start)) + 1
        raise BadInput(f"{file}: column 'end', row {row}: must be after start")
    strengths = (
        table[STRENGTH].to_pylist()
        if STRENGTH in table.column_names
        else [float("nan")] * table.num_rows
    )
    rows = zip(
        _texts(table, KIND, "attack"),
        _names(table, entity),
        start.tolist(),
        end.tolist(),
        _flags(table, BENIGN),
        strengths,
        strict=True,
    )
    return [Event(*row) for row in rows]


def _from_windows(
    file: Path, table: pa.Table, entity: tuple[str, ...], size_s: int, slide_s: int
) -> list[Event]:
    end = seconds(file, END, table[END])
    names, kinds = _names(table, entity), _texts(table, KIND, "attack")
    labelled, benign = _flags(table, LABEL), _flags(table, BENIGN)
    rows = [i for i in range(table.num_rows) if labelled[i] or benign[i]]
    rows.sort(key=lambda i: (names[i], kinds[i], end[i]))
    step = min(size_s, slide_s)
    events: list[Event] = []
    for i in rows:
        kind = "benign" if benign[i] and kinds[i] == "attack" else kinds[i]
        event = Event(kind, names[i], int(end[i]) - step, int(end[i]), benign[i])
        if events and _continues(events[-1], event, slide_s):
            events[-1] = events[-1]._replace(end_s=event.end_s)
        else:
            events.append(event)
    # A window that only touches the first or the last instant of an event does not overlap it.
    overlap = max(0, size_s - slide_s)
    return [event._replace(end_s=event.end_s - overlap) for event in events]


def _continues(last: Event, event: Event, slide_s: int) -> bool:
    """Whether an event is the next window of the last one."""
    same = (last.entity, last.kind, last.benign) == (event.entity, event.kind, event.benign)
    return same and event.end_s - last.end_s <= slide_s


def _names(table: pa.Table, entity: tuple[str, ...]) -> list[str]:
    return [
        SEPARATOR.join(map(str, parts))
        for parts in zip(*(table[name].to_pylist() for name in entity), strict=True)
    ]


def _flags(table: pa.Table, name: str) -> list[bool]:
    return [text.lower() in TRUE for text in _texts(table, name, "0")]


def _texts(table: pa.Table, name: str, default: str) -> list[str]:
    if name not in table.column_names:
        return [default] * table.num_rows
    texts: list[str] = pc.fill_null(pc.cast(table[name], pa.string()), default).to_pylist()
    return texts
