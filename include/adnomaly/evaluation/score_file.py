"""A file of scores against a file of labels."""

from pathlib import Path
from typing import Final

import numpy as np

from adnomaly.detector.grid import Cadence, Grid, to_grid
from adnomaly.detector.spec import END, START
from adnomaly.detector.windows import Windows, read_table, seconds
from adnomaly.errors import BadInput
from adnomaly.evaluation import report
from adnomaly.evaluation.labels import read_labels
from adnomaly.evaluation.metrics import GroundTruth, Metrics

SCORE: Final = "anomaly_score"
FLAG: Final = "is_anomaly"
DETECTOR: Final = "adnomaly"
SEED: Final = 42


def evaluate(
    scores: Path, labels: Path, *, folder: Path | None, alerts_per_day: float = 1.0
) -> str:
    """The figures of a file of scores as text; with a folder, figures and pictures go there.

    Raises:
        BadInput: a file cannot be used.
    """
    table, others = read_table(scores, [START, END, SCORE, FLAG])
    entity = tuple(
        name
        for name in others
        if name not in ("incident_id", "status")
        and not name.startswith(("expected_", "z_", "share_"))
    )
    if not entity:
        raise BadInput(
            f"{scores}: has no column that names the entity; give a file that adnomaly score wrote"
        )
    grid, places, table = _grid(scores, entity, [name for name in others if name.startswith("z_")])
    row, column = places.T
    score, flagged = np.full(grid.values.shape[:2], np.nan), np.zeros(grid.values.shape[:2], bool)
    score[row, column] = table[SCORE].to_numpy(zero_copy_only=False).astype(np.float64)
    flagged[row, column] = table[FLAG].to_numpy(zero_copy_only=False)
    events = read_labels(labels, entity, grid.cadence.size_s, grid.cadence.slide_s)
    unknown = sorted({e.entity for e in events} - set(grid.names))
    if events and len(unknown) == len({e.entity for e in events}):
        raise BadInput(
            f"{labels}: no label is of an entity that was scored: labels have {unknown[0]!r}, scores {grid.names[0]!r}"
        )
    truth = GroundTruth(grid, events)
    if not truth.attacks:
        raise BadInput(
            f"{labels}: no labelled attack overlaps the windows that were scored; check the time zone of the labels"
        )
    everything = {DETECTOR: score} | _simple(grid.values, score)
    found: dict[str, Metrics] = {
        name: truth.evaluate(
            values, flagged if name == DETECTOR else None, budget_per_day=alerts_per_day
        )
        for name, values in everything.items()
    }
    text = report.as_text(truth, found, budget_per_day=alerts_per_day)
    if folder:
        text += f"\nwritten to {folder}: " + ", ".join(
            report.keep(folder, truth, found, everything, DETECTOR)
        )
    return text


def _grid(scores: Path, entity: tuple[str, ...], z: list[str]) -> tuple[Grid, np.ndarray, object]:
    table, _ = read_table(scores, [START, END, *entity, SCORE, FLAG, *z])
    start, end = (seconds(scores, name, table[name]) for name in (START, END))
    keys = [
        "|".join(map(str, parts))
        for parts in zip(*(table[name].to_pylist() for name in entity), strict=True)
    ]
    names, numbers = np.unique(keys, return_inverse=True)
    values = np.column_stack(
        [table[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in z]
        or [np.zeros(len(keys))]
    )
    # A window that has no z yet is there, all the same.
    windows = Windows(tuple(names.tolist()), numbers, start, end, np.nan_to_num(values))
    grid, places = to_grid(windows, Cadence.of(windows))
    return grid, places, table


def _simple(z: np.ndarray, score: np.ndarray) -> dict[str, np.ndarray]:
    """What any detector must beat, on the same residuals."""
    known = np.isfinite(z).all(axis=2)
    chance = np.where(known, np.random.default_rng(SEED).random(score.shape), np.nan)
    return {
        "random": chance,
        "always on": np.where(known, 1.0, np.nan),
        "max |z|": np.where(known, np.abs(z).max(axis=2), np.nan),
    }
