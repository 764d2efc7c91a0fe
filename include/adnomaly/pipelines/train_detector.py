"""From offline features to a champion: sample, fit, evaluate, seal, register, promote.

Each step reads and replaces files of one work folder and returns its path, so that any step can be run again. A step imports
what it computes with itself: a DAG that only names the steps is read in milliseconds.
"""

import hashlib
import logging
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from adnomaly.errors import NotEnoughHistory
from adnomaly.features import ENTITY, FEATURES
from adnomaly.pipelines._promotion import MIN_SHARE
from adnomaly.pipelines._promotion import promote_if_better as promote_if_better
from adnomaly.pipelines._promotion import register as register
from adnomaly.windows import time_text

if TYPE_CHECKING:
    import pyarrow as pa

    from adnomaly.stores.offline_features import OfflineFeatures
    from adnomaly.synthetic.traffic import Traffic

TRAIN_DAYS: Final = 21
"""Three weekends; the limits come from the last quarter of it."""
TRIAL_DAYS: Final = 14

log = logging.getLogger(__name__)


def take_sample(
    offline: "OfflineFeatures",
    work: Path,
    *,
    seed: int,
    budget_per_day: float,
    until: datetime | None = None,
    train_days: float = TRAIN_DAYS,
) -> str:
    """Copy the windows to learn from into the work folder.

    Args:
        budget_per_day: false incidents a day over the whole platform that the limits are to be chosen for.
        until: the last window_end; the newest there is when None.

    Raises:
        NotEnoughHistory: more than an hour in ten holds no window.
    """
    from adnomaly.pipelines._training_run import TrainingRun, TrainingSample

    end = until or newest(offline)
    start = end - timedelta(days=train_days)
    table = offline.between(start, end)
    _check_hours(table, train_days, time_text(start), time_text(end))
    names = [f.name for f in FEATURES if f.name in table.column_names]
    digest = hashlib.sha256()
    for column in (*ENTITY, "window_end", *names):
        digest.update(
            repr(table[column].to_pylist()[:1]).encode()
            + table[column].combine_chunks().buffers()[-1]
        )
    sample = TrainingSample(
        start, end, train_days, seed, budget_per_day, table.num_rows, digest.hexdigest()
    )
    TrainingRun(work).save_sample(sample, table)
    log.info("sample: %d windows, %s to %s", table.num_rows, time_text(start), time_text(end))
    return str(work)


def newest(offline: "OfflineFeatures") -> datetime:
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
    """What is usual, the forests and their limits, from the sample; the forests as ONNX, compared with what they were made from.

    Raises:
        BundleRejected: an export differs from its forest.
        NotEnoughHistory: no entity has a whole day of windows.
    """

    from adnomaly.bundle.contents import build_card, build_files, check_exports
    from adnomaly.detector.detector import Detector
    from adnomaly.detector.grid import Cadence, to_grid
    from adnomaly.detector.spec import Spec
    from adnomaly.pipelines._training_run import TrainingRun

    work = TrainingRun(folder)
    sample = work.sample
    grid, _ = to_grid(work.windows, Cadence.of(work.windows))
    detector = Detector.fit(
        grid, Spec.ours(), budget_per_day=sample.budget_per_day, seed=sample.seed, seasonal=True
    )
    if not detector.baseline.knows_entities:
        raise NotEnoughHistory(
            f"no entity has windows in all hours of a weekday and of a weekend in {sample.days:g} days: train on more"
        )
    card = build_card(detector, grid, sample.rows, sample.budget_per_day, sample.seed)
    card["training"]["sha256"] = sample.sha256
    card["parity"] = {
        name: parity._asdict() for name, parity in check_exports(detector, seed=sample.seed).items()
    }
    work.save_draft(build_files(detector, grid, card, sample.budget_per_day, seed=sample.seed))
    limits = {
        name: round(feature_set.thresholds["course"].raw_score, 3)
        for name, feature_set in detector.feature_sets.items()
    }
    log.info("fitted on %d windows of %d entities; limits %s", sample.rows, len(grid.names), limits)
    return folder


def evaluate(folder: str, traffic: "Traffic", *, days: float = TRIAL_DAYS) -> str:
    """Judge it on attacks planted into `days` of simulated windows, beside chance and simple rules.

    Figures and pictures go to `evaluation/`. The traffic is that of the settings; its rate is taken from the training data.
    """
    from adnomaly.bundle.codec import to_json
    from adnomaly.evaluation import backtest
    from adnomaly.evaluation.holdout import build_holdout
    from adnomaly.evaluation.plots import draw
    from adnomaly.evaluation.report import as_text
    from adnomaly.pipelines._training_run import TrainingRun

    work, sample = TrainingRun(folder), TrainingRun(folder).sample
    build_holdout(work.path, traffic, work.windows, sample.end, seed=sample.seed, days=days)
    bundle, backtest_set = work.drafted, work.backtest_set
    truth, scores = backtest.rules(backtest_set)
    simple = {name: truth.evaluate(score) for name, score in scores.items()}
    seen = backtest.predict(bundle.detector, backtest_set)
    found = backtest.evaluate(seen, simple, sample.budget_per_day)
    work.figures.mkdir(exist_ok=True)
    (work.figures / "evaluation.json").write_bytes(to_json(found))
    ordered = [truth.grid.names.index(name) for name in seen.truth.grid.names]
    drawn = {
        backtest.OURS: seen.score,
        **{name: score[:, ordered] for name, score in scores.items()},
    }
    for name, picture in draw(seen.truth, drawn, found.ours, backtest.OURS).items():
        (work.figures / name).write_bytes(picture)
    log.info(
        "evaluated\n%s", as_text(seen.truth, found.detectors, budget_per_day=sample.budget_per_day)
    )
    return folder


def seal(folder: str) -> str:
    """The bundle, with its figures in the card; below `bundles/` of the work folder."""
    import msgspec

    from adnomaly.bundle import bundle as sealed
    from adnomaly.bundle.codec import to_json
    from adnomaly.pipelines._training_run import TrainingRun

    work = TrainingRun(folder)
    files = work.draft()
    card = msgspec.json.decode(files[sealed.CARD_FILE]) | {
        "evaluation": msgspec.to_builtins(work.evaluation)
    }
    sealed_in = sealed.seal(work.bundles, files | {sealed.CARD_FILE: to_json(card)})
    (work.path / "version").write_text(sealed_in.name)
    log.info("sealed %s", sealed_in.name)
    return folder


def _check_hours(table: "pa.Table", days: float, start: str, end: str) -> None:
    import pyarrow.compute as pc

    hours = pc.count_distinct(pc.floor_temporal(table["window_end"], unit="hour")).as_py()
    if hours < MIN_SHARE * 24 * days:
        raise NotEnoughHistory(
            f"{start} to {end} has windows in {hours} of {24 * days:.0f} hours: backfill more days, generate history, "
            f"or ask for fewer days to train on"
        )
