"""Evaluate a file of scores against a file of labels."""

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from adnomaly.arrays import Ints
from adnomaly.detector.grid import Cadence, Grid, to_grid
from adnomaly.detector.spec import END, START
from adnomaly.detector.windows import SEPARATOR, Windows, read_table, seconds
from adnomaly.errors import BadInput
from adnomaly.evaluation import report
from adnomaly.evaluation.labels import read_labels
from adnomaly.evaluation.metrics import Event, GroundTruth
from adnomaly.evaluation.reference_detectors import simple_scores

SCORE: Final = "anomaly_score"
FLAG: Final = "is_anomaly"
DETECTOR: Final = "adnomaly"
OTHER_COLUMNS: Final = ("incident_id", "status")
OTHER_PREFIXES: Final = ("expected_", "z_", "share_")
"""Columns that `adnomaly score` writes besides the entity."""


def evaluate(
    scores: Path, labels: Path, *, folder: Path | None, alerts_per_day: float = 1.0
) -> str:
    """The metrics of a file of scores as text; with a folder, also figures.json and plots there.

    Raises:
        BadInput: a file cannot be used.
    """
    _, others = read_table(scores, [START, END, SCORE, FLAG])
    entity = _entity(scores, others)
    residuals = [name for name in others if name.startswith("z_")]
    table, _ = read_table(scores, [START, END, *entity, SCORE, FLAG, *residuals])
    grid, places = _grid(scores, table, entity, residuals)
    row, column = places.T
    score, flagged = np.full(grid.values.shape[:2], np.nan), np.zeros(grid.values.shape[:2], bool)
    score[row, column] = table[SCORE].to_numpy(zero_copy_only=False).astype(np.float64)
    flagged[row, column] = table[FLAG].to_numpy(zero_copy_only=False)
    events = read_labels(labels, entity, grid.cadence.size_s, grid.cadence.slide_s)
    truth = _ground_truth(labels, grid, events)
    all_scores = {DETECTOR: score} | simple_scores(grid.values)
    metrics = {
        name: truth.evaluate(
            values, flagged if name == DETECTOR else None, budget_per_day=alerts_per_day
        )
        for name, values in all_scores.items()
    }
    text = report.as_text(truth, metrics, budget_per_day=alerts_per_day)
    if folder:
        files = report.save(folder, truth, metrics, all_scores, DETECTOR)
        text += f"\nwritten to {folder}: {', '.join(files)}"
    return text


def _entity(scores: Path, columns: list[str]) -> tuple[str, ...]:
    """The columns that name the entity: all that `adnomaly score` does not add itself."""
    entity = tuple(
        name
        for name in columns
        if name not in OTHER_COLUMNS and not name.startswith(OTHER_PREFIXES)
    )
    if not entity:
        raise BadInput(
            f"{scores}: no column names the entity; give a file that adnomaly score wrote"
        )
    return entity


def _grid(
    scores: Path, table: pa.Table, entity: tuple[str, ...], residuals: list[str]
) -> tuple[Grid, Ints]:
    """The windows with their residuals as values, and each row's place in the grid, (n, 2)."""
    start, end = (seconds(scores, name, table[name]) for name in (START, END))
    keys = [
        SEPARATOR.join(map(str, parts))
        for parts in zip(*(table[name].to_pylist() for name in entity), strict=True)
    ]
    names, numbers = np.unique(keys, return_inverse=True)
    values = np.column_stack(
        [table[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in residuals]
        or [np.zeros(len(keys))]
    )
    # A window that is warming up has no residuals but is present.
    windows = Windows(tuple(names.tolist()), numbers, start, end, np.nan_to_num(values))
    return to_grid(windows, Cadence.of(windows))


def _ground_truth(labels: Path, grid: Grid, events: list[Event]) -> GroundTruth:
    """Ground truth from labels of which at least one attack overlaps a scored window."""
    entities = {e.entity for e in events}
    unknown = sorted(entities - set(grid.names))
    if events and len(unknown) == len(entities):
        raise BadInput(
            f"{labels}: no label is of a scored entity: labels have {unknown[0]!r}, "
            f"scores {grid.names[0]!r}; use the entity values of the scores"
        )
    truth = GroundTruth(grid, events)
    if not truth.attacks:
        raise BadInput(
            f"{labels}: no labelled attack overlaps the scored windows; "
            "check the time zone of the labels"
        )
    return truth
