"""Backtest on labelled real series: one method and one set of constants for all of them.

Each series is scored by a detector that was fitted on its first 30 %.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from adnomaly.arrays import Bools, Floats, Ints
from adnomaly.detector.detector import Detector
from adnomaly.detector.grid import Cadence, Grid, to_grid
from adnomaly.detector.spec import Measure, Spec
from adnomaly.detector.windows import Windows
from adnomaly.errors import BadInput
from adnomaly.evaluation.backtest import OURS
from adnomaly.evaluation.metrics import Event, GroundTruth

WARM_UP: Final = 0.3
BUDGET_PER_DAY: Final = 1 / 7
SEED: Final = 42
WEEK_S: Final = 7 * 86400
MIN_VALUES: Final = 5
DAYS_BACK: Final = 14
MIN_STD: Final = 1e-9
SPEC: Final = Spec(("series",), (Measure("value", "level"),))
"""The SPEC.toml of one value per window: entity `series`, feature `value` of kind `level`."""


class Series(NamedTuple):
    """One labelled series on a grid of one entity, without repeated and missing values."""

    name: str
    group: str
    grid: Grid
    events: list[Event]


class SeriesResult(NamedTuple):
    """Average precision of one detector on one series, and events caught at one alarm a week."""

    pr_auc: float
    caught: int
    events: int


def read_all(folder: Path) -> list[Series]:
    """The series below a folder, in the form of Microsoft or of NAB.

    Microsoft's files are `TimeStamp,Value,Label`, NAB's `timestamp,value` next to `windows.json`.

    Raises:
        BadInput: there are none.
    """
    series = [_read(file) for file in sorted(folder.rglob("*.csv*"))]
    if not series:
        raise BadInput(
            f"{folder}: holds no .csv or .csv.gz files; "
            "the README says where such data are published"
        )
    return series


def evaluate_series(series: Series) -> dict[str, SeriesResult] | None:
    """Our detector and the reference detectors; None when nothing after the warm-up is labelled."""
    split = int(WARM_UP * len(series.grid.end_s))
    truth = GroundTruth(series.grid.between(split, len(series.grid.end_s)), series.events)
    if not truth.attacks:
        return None
    scores = {
        OURS: _score_ours(series.grid, split),
        "trailing |z|": _rolling_z(series.grid)[split:],
        "same time of day |z|": _time_of_day_z(series.grid)[split:],
    }
    return {name: _evaluate(truth, score) for name, score in scores.items()}


def table(groups: Mapping[str, list[dict[str, SeriesResult]]]) -> str:
    """Mean average precision and recall over all events, by group of series."""
    lines = []
    for group, rows in groups.items():
        lines += [
            f"{group}: {len(rows)} series with labelled anomalies "
            f"after the warm-up of {WARM_UP:.0%}",
            f"  {'':<24}{'mean PR-AUC':>12}{'recall at one false alarm a week':>36}",
        ]
        for name in rows[0]:
            mean = np.mean([row[name].pr_auc for row in rows])
            caught = sum(row[name].caught for row in rows)
            events = sum(row[name].events for row in rows)
            recall = caught / events
            lines.append(f"  {name:<24}{mean:>12.3f}{recall:>22.3f} ({caught} of {events})")
    return "\n".join(lines)


def _read(file: Path) -> Series:
    raw = pd.read_csv(file).rename(columns=str.lower)
    stamps = pd.to_datetime(raw["timestamp"], utc=True).to_numpy()
    times = stamps.astype("datetime64[s]").astype(np.int64)
    used = raw["value"].notna().to_numpy() & ~pd.Series(times).duplicated(keep="last").to_numpy()
    times, values = times[used], raw["value"].to_numpy(np.float64)[used]
    step = int(np.median(np.diff(np.sort(times))))
    name = file.name.removesuffix(".gz").removesuffix(".csv")
    windows = Windows((name,), np.zeros(len(times), np.int64), times, times + step, values[:, None])
    grid, _ = to_grid(windows, Cadence(step, step))
    spans = file.parent / "windows.json"
    if spans.exists():
        events = _nab_events(spans, name)
    else:
        events = _labelled_runs(times, raw["label"].to_numpy()[used] > 0, step, name)
    pace = "hourly" if step == 3600 else f"every {step / 60:g} minutes"
    return Series(name, f"{file.parent.name}, {pace}", grid, events)


def _labelled_runs(times: Ints, labelled: Bools, step: int, name: str) -> list[Event]:
    """Runs of labelled values as events."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], labelled.astype(np.int8), [0]])))
    return [
        Event("labelled", name, int(times[a]), int(times[b - 1]) + step)
        for a, b in zip(edges[::2], edges[1::2], strict=True)
    ]


def _nab_events(file: Path, name: str) -> list[Event]:
    by_file: dict[str, list[list[str]]] = json.loads(file.read_text())
    spans = next((spans for key, spans in by_file.items() if name in key), [])
    moments = [[int(pd.Timestamp(text, tz="UTC").timestamp()) for text in span] for span in spans]
    return [Event("labelled", name, start, end) for start, end in moments]


def _score_ours(grid: Grid, split: int) -> Floats:
    detector = Detector.fit(grid.between(0, split), SPEC, budget_per_day=BUDGET_PER_DAY, seed=SEED)
    score: Floats = detector.score(grid).score[split:]
    return score


def _rolling_z(grid: Grid) -> Floats:
    """|z| against the mean and the standard deviation of the week before."""
    value = pd.DataFrame(grid.values[..., 0])
    before = value.shift(1).rolling(grid.cadence.steps(WEEK_S), min_periods=MIN_VALUES)
    z = (value - before.mean()).abs() / before.std().clip(lower=MIN_STD)
    values: Floats = z.to_numpy(np.float64)
    return values


def _time_of_day_z(grid: Grid) -> Floats:
    """|z| against the values within an hour of the same time of day on the 14 days before."""
    value, day = pd.DataFrame(grid.values[..., 0]), grid.per_day()
    near = max(1, grid.cadence.steps(3600)) if grid.cadence.slide_s <= 3600 else 0
    shifts = [
        value.shift(day * back + step).to_numpy(np.float64)
        for back in range(1, DAYS_BACK + 1)
        for step in range(-near, near + 1, max(1, near // 3))
    ]
    past = np.stack(shifts)
    with np.errstate(invalid="ignore", divide="ignore"):
        residual = np.abs(value.to_numpy(np.float64) - np.nanmean(past, axis=0))
        z: Floats = residual / np.maximum(np.nanstd(past, axis=0), MIN_STD)
    return z


def _evaluate(truth: GroundTruth, score: Floats) -> SeriesResult:
    """At one false alarm a week; a run of flagged values counts as one alarm."""
    metrics = truth.evaluate(np.where(np.isfinite(score), score, -1.0))
    events = len(truth.attacks)
    return SeriesResult(metrics.pr_auc, round(metrics.recall_per_week * events), events)
