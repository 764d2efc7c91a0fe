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
    """The events of a file with `start` and `end`, or of one with `window_end` and `label` (1 for an attacked window).

    Both name the entity; `kind`, `benign` and `strength` are optional. Labelled windows of one entity and kind that follow each
    other are one event.

    Raises:
        BadInput: naming the column, the row and the fix.
    """
    table, others = read_table(file, entity, (*EVENT_COLUMNS, END, LABEL, KIND, BENIGN, STRENGTH))
    names = set(table.column_names)
    if set(EVENT_COLUMNS) <= names:
        return _events(file, table, entity)
    if {END, LABEL} <= names:
        return _windows(file, table, entity, size_s, slide_s)
    raise BadInput(
        f"{file}: labels have the columns start and end, or window_end and label; it has {', '.join([*table.column_names, *others])}"
    )


def _events(file: Path, table: pa.Table, entity: tuple[str, ...]) -> list[Event]:
    start, end = (seconds(file, name, table[name]) for name in EVENT_COLUMNS)
    if (end <= start).any():
        raise BadInput(
            f"{file}: column 'end', row {int(np.argmax(end <= start)) + 1}: must be after start"
        )
    kinds, benign = (
        _texts(table, KIND, "attack"),
        [text.lower() in TRUE for text in _texts(table, BENIGN, "0")],
    )
    strengths = (
        table[STRENGTH].to_pylist()
        if STRENGTH in table.column_names
        else [float("nan")] * table.num_rows
    )
    rows = zip(
        kinds, _names(table, entity), start.tolist(), end.tolist(), benign, strengths, strict=True
    )
    return [Event(*row) for row in rows]


def _windows(
    file: Path, table: pa.Table, entity: tuple[str, ...], size_s: int, slide_s: int
) -> list[Event]:
    hit = np.array([text.lower() in TRUE for text in _texts(table, LABEL, "0")])
    end = seconds(file, END, table[END])
    names, kinds = (
        np.array(_names(table, entity), object),
        np.array(_texts(table, KIND, "attack"), object),
    )
    benign = np.array([text.lower() in TRUE for text in _texts(table, BENIGN, "0")])
    rows = np.flatnonzero(hit | benign)
    rows = rows[np.lexsort((end[rows], kinds[rows].astype(str), names[rows].astype(str)))]
    events: list[Event] = []
    for i in rows.tolist():
        kind = "benign" if benign[i] and kinds[i] == "attack" else kinds[i]
        last = events[-1] if events else None
        if (
            last
            and (last.entity, last.kind, last.benign) == (names[i], kind, benign[i])
            and end[i] - last.end_s <= slide_s
        ):
            events[-1] = last._replace(end_s=int(end[i]))
        else:
            events.append(
                Event(
                    kind, names[i], int(end[i]) - min(size_s, slide_s), int(end[i]), bool(benign[i])
                )
            )
    # A window that only touches the first or the last instant of an event does not overlap it.
    return [
        event._replace(end_s=event.end_s - size_s + min(size_s, slide_s))
        if size_s > slide_s
        else event
        for event in events
    ]


def _names(table: pa.Table, entity: tuple[str, ...]) -> list[str]:
    return [
        SEPARATOR.join(map(str, parts))
        for parts in zip(*(table[name].to_pylist() for name in entity), strict=True)
    ]


def _texts(table: pa.Table, name: str, default: str) -> list[str]:
    if name not in table.column_names:
        return [default] * table.num_rows
    return pc.fill_null(pc.cast(table[name], pa.string()), default).to_pylist()
