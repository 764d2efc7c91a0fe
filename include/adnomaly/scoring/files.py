"""Train on a file of windows, and score one: the commands `adnomaly train` and `adnomaly score`."""

import logging
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from adnomaly.arrays import Ints
from adnomaly.arrow import TIME
from adnomaly.bundle import bundle as sealed
from adnomaly.bundle.bundle import Bundle
from adnomaly.bundle.contents import build_card, build_files
from adnomaly.detector import grouping
from adnomaly.detector.detector import Detector
from adnomaly.detector.grid import Cadence, Grid, to_grid
from adnomaly.detector.grouping import IncidentSpan
from adnomaly.detector.scores import GridScores
from adnomaly.detector.spec import END, START, Spec
from adnomaly.detector.windows import SEPARATOR, Windows, read_windows
from adnomaly.errors import BadInput
from adnomaly.files import replacing
from adnomaly.scoring.attribution import attribute

OK: Final = "ok"
WARMING_UP: Final = "warming_up"

log = logging.getLogger("adnomaly")


def train(
    windows: Path, bundle: Path, *, spec: Path | None, alerts_per_day: float, seed: int
) -> dict[str, Any]:
    """Fit a detector on a file of history and seal it in a folder; returns the card.

    Raises:
        BadInput: the file, the spec or the budget is invalid.
        BundleRejected: the folder holds other files.
    """
    if not alerts_per_day > 0:
        raise BadInput(
            f"--alerts-per-day is {alerts_per_day:g}; give the number of false incidents "
            "a day that you can review, above 0"
        )
    window_spec = Spec.load(spec) if spec else Spec.ours()
    history = _read(windows, window_spec)
    cadence = Cadence.of(history)
    grid, _ = to_grid(history, cadence)
    detector = Detector.fit(grid, window_spec, budget_per_day=alerts_per_day, seed=seed)
    card = build_card(detector, grid, len(history), alerts_per_day, seed)
    sealed.write(bundle, build_files(detector, grid, card, alerts_per_day, seed=seed))
    return card


def score(
    bundle: Path, windows: Path, out: Path, *, incident_file: Path | None = None
) -> dict[str, Any]:
    """Score a file of windows, row by row in its order; returns counts.

    Raises:
        BadInput: the file is invalid; nothing is written.
        BundleRejected: the folder is not a bundle, or was changed.
    """
    trained = Bundle.load(bundle, named=False)
    detector = trained.detector
    live = _read(windows, detector.spec)
    size = Cadence.of(live).size_s
    if size != detector.cadence.size_s:
        raise BadInput(
            f"{windows}: its windows last {size} s, "
            f"those of the bundle {detector.cadence.size_s} s; train on windows of the same length"
        )
    grid, places, first = after_history(detector, trained.history, live)
    grid_scores = detector.score(grid, first)
    began, _ = grouping.number(
        grid_scores.flagged & (np.arange(len(grid.end_s)) >= first)[:, None],
        grid.end_s,
        detector.cadence,
    )
    table = _scores(detector, grid, grid_scores, began, live, places)
    _write(table, out)
    spans = _incidents(detector, grid, grid_scores, began, first)
    if incident_file:
        _write(_incident_table(spans), incident_file)
    warming = int(np.sum(table["status"].to_numpy(zero_copy_only=False) == WARMING_UP))
    kinds = {
        kind: sum(i.kind == kind for i in spans)
        for kind in (grouping.ANOMALY, grouping.SILENT, grouping.OUTAGE)
    }
    return {
        "windows": len(live),
        WARMING_UP: warming,
        "flagged": int(np.sum(table["is_anomaly"].to_numpy(zero_copy_only=False))),
        **kinds,
    }


def _read(file: Path, spec: Spec) -> Windows:
    windows, ignored = read_windows(file, spec)
    if ignored:
        log.warning("%s: unknown columns are ignored: %s", file, ", ".join(ignored))
    return windows


def after_history(
    detector: Detector, history: Windows | None, live: Windows
) -> tuple[Grid, Ints, int]:
    """History and live windows on one grid; position of each live window, and their first row.

    Positions are rows and entities, (n, 2).
    """
    if history is None:
        grid, places = to_grid(live, detector.cadence, detector.names)
        return grid, places, int(places[:, 0].min())
    both = joined(history.take(history.end_s < live.end_s.min()), live)
    grid, places = to_grid(both, detector.cadence, detector.names)
    live_places = places[len(both) - len(live) :]
    return grid, live_places, int(live_places[:, 0].min())


def joined(before: Windows, after: Windows) -> Windows:
    """Concatenate windows; entities of both get one numbering."""
    names = tuple(dict.fromkeys([*before.names, *after.names]))
    position = {name: i for i, name in enumerate(names)}
    entity = np.array([position[name] for name in after.names], np.int64)[after.entity]
    return Windows(
        names,
        np.concatenate([before.entity, entity]),
        np.concatenate([before.start_s, after.start_s]),
        np.concatenate([before.end_s, after.end_s]),
        np.concatenate([before.values, after.values]),
    )


def _scores(
    detector: Detector,
    grid: Grid,
    grid_scores: GridScores,
    began: Ints,
    live: Windows,
    places: Ints,
) -> pa.Table:
    row, entity = places.T
    score = grid_scores.score[row, entity]
    known = np.isfinite(score)
    starts = began[row, entity]
    flagged = starts != grouping.NEVER
    names = [
        grouping.name_of(grid.names[e], s) if hit else None
        for s, e, hit in zip(starts.tolist(), entity.tolist(), flagged.tolist(), strict=True)
    ]
    keys = [name.split(SEPARATOR) for name in live.names]
    columns: dict[str, Any] = {START: _timestamps(live.start_s), END: _timestamps(live.end_s)}
    for i, column in enumerate(detector.spec.entity):
        texts = pa.array(
            [
                key[i] if len(key) == len(detector.spec.entity) else SEPARATOR.join(key)
                for key in keys
            ]
        )
        columns[column] = texts.take(pa.array(live.entity))
    columns["anomaly_score"] = pa.array(score, mask=~known)
    columns["is_anomaly"] = pa.array(flagged)
    columns["incident_id"] = pa.array(names, pa.string())
    columns["status"] = pa.array(np.where(known, OK, WARMING_UP))
    z = grid_scores.z[row, entity]
    for prefix, values in (
        ("expected", grid_scores.expected[row, entity]),
        ("z", z),
        ("share", attribute(z)),
    ):
        for f, name in enumerate(detector.spec.names):
            columns[f"{prefix}_{name}"] = pa.array(
                values[:, f], mask=~(known & np.isfinite(values[:, f]))
            )
    return pa.table(columns)


def _incidents(
    detector: Detector, grid: Grid, grid_scores: GridScores, began: Ints, first: int
) -> list[IncidentSpan]:
    volume = detector.spec.volume
    expected = (
        grid_scores.expected[..., volume]
        if volume is not None
        else np.full(grid_scores.score.shape, np.nan)
    )
    quiet = grouping.silences(
        grid.between(first, len(grid.end_s)),
        expected[first:],
        grid_scores.down[first:],
        grid_scores.there[first:],
    )
    return sorted(
        [*grouping.anomalies(grid, grid_scores.score, began), *quiet],
        key=lambda i: (i.start_s, i.entity),
    )


def _incident_table(incidents: list[IncidentSpan]) -> pa.Table:
    columns = {
        "incident_id": [i.name for i in incidents],
        "kind": [i.kind for i in incidents],
        "entity": [i.entity for i in incidents],
    }
    moments = {"start": [i.start_s for i in incidents], "end": [i.end_s for i in incidents]}
    peak = pa.array([None if np.isnan(i.peak) else i.peak for i in incidents], pa.float64())
    return pa.table(
        columns
        | {n: _timestamps(np.array(m, np.int64)) for n, m in moments.items()}
        | {"peak_score": peak}
    )


def _timestamps(seconds: Ints) -> pa.Array:
    return pa.array(seconds * 1_000_000, TIME)


def _write(table: pa.Table, out: Path) -> None:
    """Write Parquet or CSV atomically."""
    with replacing(out) as draft:
        if out.name.endswith(".csv"):
            pa.csv.write_csv(table, draft)
        else:
            pq.write_table(table, draft)
