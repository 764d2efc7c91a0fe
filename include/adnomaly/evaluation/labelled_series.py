"""Labelled real series, each judged by a detector that saw its first 30 %: one method, one set of constants, for all of them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from adnomaly.detector.detector import Detector
from adnomaly.detector.grid import Cadence, Grid, to_grid
from adnomaly.detector.spec import Measure, Spec
from adnomaly.detector.windows import Windows
from adnomaly.errors import BadInput
from adnomaly.evaluation.metrics import Event, GroundTruth

WARM_UP: Final = 0.3
BUDGET_PER_DAY: Final = 1 / 7
SEED: Final = 42
WEEK_S: Final = 7 * 86400
SPEC: Final = Spec(("series",), (Measure("value", "level"),))
"""The SPEC.toml of one value per window: `entity = ["series"]`, `[[feature]] name = "value"`, `kind = "level"`."""

OURS: Final = "adnomaly"


class Series(NamedTuple):
    """One labelled series on a grid of one entity; repeated and missing values are left out."""

    name: str
    group: str
    grid: Grid
    events: list[Event]


class SeriesResult(NamedTuple):
    """One detector on one series: average precision, and the labelled events it catches at one false alarm a week."""

    pr_auc: float
    caught: int
    events: int


def read_all(folder: Path) -> list[Series]:
    """The series below a folder: Microsoft's (`TimeStamp,Value,Label`) and NAB's (`timestamp,value` beside `windows.json`).

    Raises:
        BadInput: there are none.
    """
    found = [_read(file) for file in sorted(folder.rglob("*.csv*"))]
    if not found:
        raise BadInput(
            f"{folder}: holds no .csv or .csv.gz files; the README says where such data are published"
        )
    return found


def evaluate_series(series: Series) -> dict[str, SeriesResult] | None:
    """The detector and its rivals after the warm-up; None when nothing that follows is labelled."""
    split = int(WARM_UP * len(series.grid.end_s))
    truth = GroundTruth(series.grid.between(split, len(series.grid.end_s)), series.events)
    if not truth.attacks:
        return None
    scores = {
        OURS: _ours(series.grid, split),
        "trailing |z|": _trailing(series.grid)[split:],
        "same time of day |z|": _same_time(series.grid)[split:],
    }
    return {name: _figures(truth, score) for name, score in scores.items()}


def table(found: Mapping[str, list[dict[str, SeriesResult]]]) -> str:
    """Mean of the average precisions, and share of all events, by group of series."""
    lines = []
    for group, rows in found.items():
        lines.append(
            f"{group}: {len(rows)} series with labelled anomalies after the warm-up of {WARM_UP:.0%}"
        )
        lines.append(f"  {'':<24}{'mean PR-AUC':>12}{'recall at one false alarm a week':>36}")
        for name in rows[0]:
            caught, events = (
                sum(getattr(row[name], field) for row in rows) for field in ("caught", "events")
            )
            lines.append(
                f"  {name:<24}{np.mean([row[name].pr_auc for row in rows]):>12.3f}{caught / events:>22.3f} ({caught} of {events})"
            )
    return "\n".join(lines)


def _read(file: Path) -> Series:
    raw = pd.read_csv(file).rename(columns=str.lower)
    times = (
        pd.to_datetime(raw["timestamp"], utc=True)
        .to_numpy()
        .astype("datetime64[s]")
        .astype(np.int64)
    )
    kept = raw["value"].notna().to_numpy() & ~pd.Series(times).duplicated(keep="last").to_numpy()
    times, values = times[kept], raw["value"].to_numpy(np.float64)[kept]
    step = int(np.median(np.diff(np.sort(times))))
    name = file.name.removesuffix(".gz").removesuffix(".csv")
    windows = Windows((name,), np.zeros(len(times), np.int64), times, times + step, values[:, None])
    grid, _ = to_grid(windows, Cadence(step, step))
    labels = file.parent / "windows.json"
    events = (
        _nab(labels, name)
        if labels.exists()
        else _labelled(times, raw["label"].to_numpy()[kept] > 0, step, name)
    )
    pace = "hourly" if step == 3600 else f"every {step / 60:g} minutes"
    return Series(name, f"{file.parent.name}, {pace}", grid, events)


def _labelled(times: np.ndarray, hit: np.ndarray, step: int, name: str) -> list[Event]:
    """Runs of labelled values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], hit.astype(np.int8), [0]])))
    return [
        Event("labelled", name, int(times[a]), int(times[b - 1]) + step)
        for a, b in zip(edges[::2], edges[1::2], strict=True)
    ]


def _nab(file: Path, name: str) -> list[Event]:
    spans = next((spans for key, spans in json.loads(file.read_text()).items() if name in key), [])
    moments = [[int(pd.Timestamp(text, tz="UTC").timestamp()) for text in span] for span in spans]
    return [Event("labelled", name, start, end) for start, end in moments]


def _ours(grid: Grid, split: int) -> np.ndarray:
    detector = Detector.fit(grid.between(0, split), SPEC, budget_per_day=BUDGET_PER_DAY, seed=SEED)
    return detector.score(grid).score[split:]


def _trailing(grid: Grid) -> np.ndarray:
    """|z| against the mean and the standard deviation of the week before."""
    value = pd.DataFrame(grid.values[..., 0])
    before = value.shift(1).rolling(grid.cadence.steps(WEEK_S), min_periods=5)
    return ((value - before.mean()).abs() / before.std().clip(lower=1e-9)).to_numpy()


def _same_time(grid: Grid) -> np.ndarray:
    """|z| against the values within an hour of the same time on the 14 days before."""
    value, day = pd.DataFrame(grid.values[..., 0]), grid.per_day()
    near = max(1, grid.cadence.steps(3600)) if grid.cadence.slide_s <= 3600 else 0
    shifts = [
        value.shift(day * back + step).to_numpy()
        for back in range(1, 15)
        for step in range(-near, near + 1, max(1, near // 3))
    ]
    past = np.stack(shifts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.abs(value.to_numpy() - np.nanmean(past, axis=0)) / np.maximum(
            np.nanstd(past, axis=0), 1e-9
        )


def _figures(truth: GroundTruth, score: np.ndarray) -> SeriesResult:
    """At one false alarm a week; runs of flagged values count as one alarm."""
    filled = np.where(np.isfinite(score), score, -1.0)
    figures = truth.evaluate(filled)
    return SeriesResult(
        figures.pr_auc, round(figures.recall_per_week * len(truth.attacks)), len(truth.attacks)
    )
