"""From offline features to a champion: sample, fit, calibrate, evaluate, seal, register, promote.

Each step reads and replaces files of one work folder and returns its path, so that any step can be run again. What a step
needs of the training libraries it imports itself: a DAG that names these steps is read in milliseconds.
"""

import hashlib
import logging
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from adnomaly.errors import NotEnoughHistory
from adnomaly.features import CONTRACT
from adnomaly.windows import time_text

if TYPE_CHECKING:
    import pyarrow as pa

    from adnomaly.synthetic.traffic import Traffic

TRAIN_DAYS: Final = 14
CALIBRATE_DAYS: Final = 7
LEAST_SHARE: Final = 0.9
"""Of the hours asked for, that must hold windows."""

LIBRARIES: Final = ("scikit-learn", "skl2onnx", "onnx", "onnxruntime", "numpy")

log = logging.getLogger(__name__)


class OfflineTable(Protocol):
    """All windows, one file per UTC day."""

    def days(self) -> list[date]: ...
    def between(self, start: datetime, end: datetime) -> "pa.Table": ...


class ModelRegistry(Protocol):
    """Where models are registered, and one of them is the champion."""

    def register(
        self, name: str, *, params: Mapping[str, Any], metrics: Mapping[str, float], files: Path, bundle: Path, source: str
    ) -> Any: ...
    def challenger(self) -> Any: ...
    def champion(self) -> Any: ...
    def promote(self, registered: Any) -> None: ...
    def note(self, registered: Any, tags: Mapping[str, str], text: str = "") -> None: ...
    def download(self, registered: Any, to: Path) -> Path: ...


class Sample(msgspec.Struct, frozen=True):
    """What a model learns from: windows with start < window_end <= split to train on, split < window_end <= end to calibrate on."""

    start: datetime
    split: datetime
    end: datetime
    train_days: float
    seed: int
    rows: int
    calibrate_rows: int
    sha256: str


def take_sample(
    offline: OfflineTable,
    work: Path,
    *,
    seed: int,
    until: datetime | None = None,
    train_days: float = TRAIN_DAYS,
    calibrate_days: float = CALIBRATE_DAYS,
) -> str:
    """Copy the windows to learn from into the work folder: `train_days`, and the `calibrate_days` that follow them.

    Args:
        until: the last window_end; the newest there is when None.

    Raises:
        NotEnoughHistory: an hour in ten, or more, holds no window.
    """
    import pyarrow.parquet as pq

    end = until or newest(offline)
    split = end - timedelta(days=calibrate_days)
    start = split - timedelta(days=train_days)
    work.mkdir(parents=True, exist_ok=True)
    digest, rows = hashlib.sha256(), []
    for name, first, last in (("train", start, split), ("calibrate", split, end)):
        table = offline.between(first, last)
        _check_hours(name, table, first, last)
        pq.write_table(table, work / f"{name}.parquet")
        rows.append(table.num_rows)
        for column in (*CONTRACT, "window_end"):
            digest.update(table[column].to_numpy().tobytes())
    sample = Sample(start, split, end, train_days, seed, *rows, digest.hexdigest())
    (work / "sample.json").write_bytes(msgspec.json.encode(sample))
    log.info("sample: %d windows to train on, %d to calibrate on, %s to %s", *rows, time_text(start), time_text(end))
    return str(work)


def newest(offline: OfflineTable) -> datetime:
    """The end of the newest window.

    Raises:
        NotEnoughHistory: there is none.
    """
    import pyarrow.compute as pc

    for day in reversed(offline.days()):
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        table = offline.between(midnight, midnight + timedelta(days=1))
        if table.num_rows:
            return pc.max(table["window_end"]).as_py()
    raise NotEnoughHistory("there are no windows offline: run backfill_features first")


def fit(folder: str) -> str:
    """Baseline and forest from the training windows, and the forest as ONNX."""
    import joblib

    from adnomaly.model.bundle import MODEL, PREPROCESS, to_json
    from adnomaly.model.export import export_forest
    from adnomaly.model.preprocess import Baseline
    from adnomaly.model.train import fit_forest

    work = Path(folder)
    windows = _windows(work, "train")
    baseline = Baseline.fit(windows)
    residuals, known = baseline.residuals(windows)
    forest = fit_forest(residuals[known], seed=_sample(work).seed)
    (work / PREPROCESS).write_bytes(to_json(baseline.to_json()))
    (work / MODEL).write_bytes(export_forest(forest))
    joblib.dump(forest, work / "forest.joblib")
    log.info("fitted on %d windows of %d entities", len(windows), len(windows.entities))
    return folder


def calibrate(folder: str, *, budget_per_day: float) -> str:
    """A threshold for each kind of baseline, from the week after training."""
    from adnomaly.model.bundle import MODEL, THRESHOLD, Thresholds, to_json
    from adnomaly.model.calibrate import calibrate as threshold_for
    from adnomaly.model.session import open_session, run

    work = Path(folder)
    windows, baseline, session = _windows(work, "calibrate"), _baseline(work), open_session((work / MODEL).read_bytes())
    found = [
        threshold_for(windows, run(session, baseline.residuals(windows, pooled=pooled)[0]), budget_per_day=budget_per_day)
        for pooled in (False, True)
    ]
    (work / THRESHOLD).write_bytes(to_json(Thresholds(budget_per_day, *found)))
    log.info("thresholds for %g false incidents a day: %.4f, without an entity %.4f", budget_per_day, *(f.threshold for f in found))
    return folder


def evaluate(folder: str, traffic: "Traffic") -> str:
    """Judge it on planted attacks beside chance and simple rules; figures and pictures go to `evaluation/`."""
    from adnomaly.model.bundle import MODEL, to_json
    from adnomaly.model.evaluate import FOREST
    from adnomaly.model.evaluate import evaluate as judge
    from adnomaly.model.plots import draw
    from adnomaly.model.session import open_session, run
    from adnomaly.pipelines.trial import build_trial, load_trial

    work = Path(folder)
    sample, baseline, thresholds, session = _sample(work), _baseline(work), _thresholds(work), open_session((work / MODEL).read_bytes())
    build_trial(work, traffic, _windows(work, "train"), sample.end, seed=sample.seed)
    trial, others = load_trial(work), _rivals(work)
    (residuals, _), (pooled, _) = (baseline.residuals(trial.windows, pooled=pooled) for pooled in (False, True))
    found = judge(trial, residuals, pooled, lambda z: run(session, z), others, thresholds)
    pictures = work / "evaluation"
    pictures.mkdir(exist_ok=True)
    (pictures / "evaluation.json").write_bytes(to_json(found))
    scores = {FOREST: run(session, residuals)} | {name: score(residuals) for name, score in others.items()}
    for name, data in draw(trial, scores, FOREST, thresholds.entity.threshold).items():
        (pictures / name).write_bytes(data)
    log.info("evaluated on %d attacks:\n%s", found.attacks, as_text(found))
    return folder
