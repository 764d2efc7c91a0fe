"""From offline features to a champion: sample, fit, calibrate, evaluate, seal, register, promote.

Each step reads and replaces files of one work folder and returns its path, so that any step can be run again. A step imports
what it computes with itself: a DAG that only names the steps is read in milliseconds.
"""

import hashlib
import logging
from datetime import UTC, date, datetime, time, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from adnomaly.errors import NotEnoughHistory
from adnomaly.features import CONTRACT, ENTITY
from adnomaly.pipelines.promote_detector import LEAST_SHARE
from adnomaly.pipelines.promote_detector import promote_if_better as promote_if_better
from adnomaly.pipelines.promote_detector import register as register
from adnomaly.windows import time_text

if TYPE_CHECKING:
    import pyarrow as pa

    from adnomaly.model.export import Parity
    from adnomaly.pipelines.workfolder import WorkFolder
    from adnomaly.synthetic.traffic import Traffic

TRAIN_DAYS: Final = 14
CALIBRATE_DAYS: Final = 7
TRIAL_DAYS: Final = 14

LIBRARIES: Final = ("scikit-learn", "skl2onnx", "onnx", "onnxruntime", "numpy")

log = logging.getLogger(__name__)


class OfflineTable(Protocol):
    """All windows, one file per UTC day."""

    def days(self) -> list[date]: ...
    def between(self, start: datetime, end: datetime) -> "pa.Table": ...


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
        NotEnoughHistory: more than an hour in ten holds no window.
    """
    from adnomaly.pipelines.workfolder import CALIBRATE, TRAIN, Sample, WorkFolder

    end = until or newest(offline)
    split = end - timedelta(days=calibrate_days)
    start = split - timedelta(days=train_days)
    tables = {TRAIN: offline.between(start, split), CALIBRATE: offline.between(split, end)}
    _check_hours(tables[TRAIN], train_days, time_text(start), time_text(split))
    _check_hours(tables[CALIBRATE], calibrate_days, time_text(split), time_text(end))
    digest = hashlib.sha256()
    for table in tables.values():
        for column in (*ENTITY, "window_end", *CONTRACT):
            digest.update(repr(table[column].to_pylist()[:1]).encode() + table[column].combine_chunks().buffers()[-1])
    rows = {name: table.num_rows for name, table in tables.items()}
    sample = Sample(start, split, end, train_days, seed, rows[TRAIN], rows[CALIBRATE], digest.hexdigest())
    WorkFolder(work).keep_sample(sample, tables)
    log.info("sample: %d windows to train on, %d to calibrate on, %s to %s", *rows.values(), time_text(start), time_text(end))
    return str(work)


def newest(offline: OfflineTable) -> datetime:
    """The end of the newest window.

    Raises:
        NotEnoughHistory: there is none.
    """
    import pyarrow.compute as pc

    for day in reversed(offline.days()):
        midnight = datetime.combine(day, time(), UTC)
        table = offline.between(midnight, midnight + timedelta(days=1))
        if table.num_rows:
            return pc.max(table["window_end"]).as_py()
    raise NotEnoughHistory("there are no windows offline: run backfill_features first")


def fit(folder: str) -> str:
    """Baseline and forest from the training windows, and the forest as ONNX."""
    from adnomaly.model.export import export_forest
    from adnomaly.model.preprocess import Baseline
    from adnomaly.model.train import fit_forest
    from adnomaly.pipelines.workfolder import TRAIN, WorkFolder

    work = WorkFolder(folder)
    windows = work.windows(TRAIN)
    baseline = Baseline.fit(windows)
    residuals, known = baseline.residuals(windows)
    forest = fit_forest(residuals[known], seed=work.sample.seed)
    work.keep_model(baseline, forest, export_forest(forest))
    log.info("fitted on %d windows of %d entities", len(windows), len(windows.entities))
    return folder


def calibrate(folder: str, *, budget_per_day: float) -> str:
    """A threshold for each kind of baseline, from the week after training."""
    from adnomaly.model import calibrate as calibration
    from adnomaly.model.bundle import THRESHOLD, Thresholds, to_json
    from adnomaly.pipelines.workfolder import CALIBRATE, WorkFolder

    work = WorkFolder(folder)
    windows = work.windows(CALIBRATE)
    entity, pooled = (
        calibration.calibrate(windows, work.score(work.baseline.residuals(windows, pooled=kind)[0]), budget_per_day=budget_per_day)
        for kind in (False, True)
    )
    (work.path / THRESHOLD).write_bytes(to_json(Thresholds(budget_per_day, entity, pooled)))
    log.info("thresholds for %g false incidents a day: %.4f; without an entity %.4f", budget_per_day, entity.threshold, pooled.threshold)
    return folder


def evaluate(folder: str, traffic: "Traffic", *, days: float = TRIAL_DAYS) -> str:
    """Judge it on attacks planted into `days` of simulated windows, beside chance and simple rules.

    Figures and pictures go to `evaluation/`. The traffic is that of the settings; its rate is taken from the training data.
    """
    from adnomaly.model import evaluate as judge
    from adnomaly.model.bundle import to_json
    from adnomaly.model.plots import draw
    from adnomaly.model.report import as_text
    from adnomaly.pipelines.trial import build_trial
    from adnomaly.pipelines.workfolder import TRAIN, WorkFolder

    work = WorkFolder(folder)
    build_trial(work.path, traffic, work.windows(TRAIN), work.sample.end, seed=work.sample.seed, days=days)
    trial, baseline = work.trial, work.baseline
    (residuals, _), (pooled, _) = (baseline.residuals(trial.windows, pooled=kind) for kind in (False, True))
    found = judge.evaluate(trial, residuals, pooled, work.score, work.rivals, work.thresholds)
    work.figures.mkdir(exist_ok=True)
    (work.figures / "evaluation.json").write_bytes(to_json(found))
    scores = {name: score(residuals) for name, score in {judge.FOREST: work.score, **work.rivals}.items()}
    for name, picture in draw(trial, scores, judge.FOREST, work.thresholds.entity.threshold).items():
        (work.figures / name).write_bytes(picture)
    log.info("evaluated\n%s", as_text(found))
    return folder


def seal(folder: str) -> str:
    """The bundle, after the export has been compared with the forest on 40,000 rows; below `bundles/` of the work folder.

    Raises:
        BundleRejected: the export differs from the forest.
    """
    from adnomaly.model import bundle as sealed
    from adnomaly.model.export import check_parity
    from adnomaly.model.sentinels import choose_sentinels
    from adnomaly.pipelines.workfolder import CALIBRATE, WorkFolder

    work = WorkFolder(folder)
    seed, thresholds, trial = work.sample.seed, work.thresholds, work.trial
    residuals, _ = work.baseline.residuals(work.windows(CALIBRATE))
    parity = check_parity(work.forest, work.model, residuals, thresholds.entity.threshold, seed=seed)
    sentinels = choose_sentinels(trial.windows, trial.attack >= 0, work.forest, work.baseline, thresholds, seed=seed)
    files = {name: (work.path / name).read_bytes() for name in (sealed.MODEL, sealed.PREPROCESS, sealed.THRESHOLD)}
    card = sealed.to_json(_card(work, parity))
    sealed_in = sealed.seal(work.bundles, {**files, sealed.CARD: card, sealed.SENTINELS: sealed.to_json(sentinels)})
    (work.path / "version").write_text(sealed_in.name)
    log.info("sealed %s: %d rows compared, largest difference %.1g, %d flips", sealed_in.name, *parity)
    return folder


def _card(work: "WorkFolder", parity: "Parity") -> dict[str, Any]:
    """What the model says about itself. No clock in it: equal data give an equal bundle."""
    sample = work.sample
    return {
        "model": "Isolation Forest on residuals against a baseline per geo, platform, hour and weekend",
        "higher_is": "more anomalous",
        "features": list(CONTRACT),
        "training": {
            "start": time_text(sample.start),
            "end": time_text(sample.split),
            "days": sample.train_days,
            "rows": sample.rows,
            "entities": len(work.baseline.entities),
            "sha256": sample.sha256,
            "seed": sample.seed,
        },
        "calibration": {"start": time_text(sample.split), "end": time_text(sample.end), "rows": sample.calibrate_rows},
        "evaluation": work.evaluation,
        "parity": parity._asdict(),
        "libraries": {name: version(name) for name in ("adnomaly", *LIBRARIES)},
    }


def _check_hours(table: "pa.Table", days: float, start: str, end: str) -> None:
    import pyarrow.compute as pc

    hours = pc.count_distinct(pc.floor_temporal(table["window_end"], unit="hour")).as_py()
    if hours < LEAST_SHARE * 24 * days:
        raise NotEnoughHistory(
            f"{start} to {end} has windows in {hours} of {24 * days:.0f} hours: backfill more days, generate history, "
            f"or ask for fewer days to train and to calibrate on"
        )
