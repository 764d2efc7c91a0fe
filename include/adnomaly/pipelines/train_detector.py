"""From offline features to a champion: sample, fit, evaluate, seal, register, promote.

Each step reads and replaces files of one work folder and returns its path, so any step can run
again. The steps import what they compute with: a DAG that names them loads in milliseconds.
"""

import logging
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from adnomaly.errors import NotEnoughHistory
from adnomaly.windows import time_text

if TYPE_CHECKING:
    import pyarrow as pa

    from adnomaly.clients.mlflow import Registry
    from adnomaly.detector.detector import Detector
    from adnomaly.stores.offline_features import OfflineFeatures
    from adnomaly.synthetic.traffic import Traffic

TRAIN_DAYS: Final = 21
"""Three weekends; the thresholds come from the last quarter."""
HOLDOUT_DAYS: Final = 14
MIN_COVERAGE: Final = 0.9
"""Share of the training hours that must hold windows."""

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
    """Copy the training windows into the work folder.

    Args:
        budget_per_day: false incidents a day over all entities, for which thresholds are chosen.
        until: the last window_end; the newest offline window when None.

    Raises:
        NotEnoughHistory: more than one hour in ten holds no window.
    """
    from adnomaly.pipelines._training_run import TrainingRun, TrainingSample, sample_digest

    end = until or newest(offline)
    start = end - timedelta(days=train_days)
    windows = offline.between(start, end)
    _check_coverage(windows, train_days, time_text(start), time_text(end))
    rows, digest = windows.num_rows, sample_digest(windows)
    sample = TrainingSample(start, end, train_days, seed, budget_per_day, rows, digest)
    TrainingRun(work).save_sample(sample, windows)
    log.info("sample: %d windows, %s to %s", rows, time_text(start), time_text(end))
    return str(work)


def newest(offline: "OfflineFeatures") -> datetime:
    """The end of the newest offline window.

    Raises:
        NotEnoughHistory: there is none.
    """
    import pyarrow.compute as pc

    for day in reversed(offline.days()):
        midnight = datetime.combine(day, time(), UTC)
        table = offline.between(midnight, midnight + timedelta(days=1))
        if table.num_rows:
            end: datetime = pc.max(table["window_end"]).as_py()
            return end
    raise NotEnoughHistory("there are no offline windows: run backfill_features first")


def fit(folder: str) -> str:
    """Fit the detector on the sample and save it as a draft bundle, its ONNX exports verified.

    Raises:
        BundleRejected: an export differs from its forest.
        NotEnoughHistory: no entity has a full day of windows.
    """
    from adnomaly.bundle.contents import build_card, build_files, check_exports
    from adnomaly.detector.detector import Detector
    from adnomaly.detector.feature_sets import IN_CONTEXT
    from adnomaly.detector.grid import Cadence, to_grid
    from adnomaly.detector.spec import Spec
    from adnomaly.pipelines._training_run import TrainingRun

    run = TrainingRun(folder)
    sample = run.sample
    grid, _ = to_grid(run.windows, Cadence.of(run.windows))
    detector = Detector.fit(
        grid, Spec.ours(), budget_per_day=sample.budget_per_day, seed=sample.seed, seasonal=True
    )
    _check_baseline(detector, sample.days)
    card = build_card(detector, grid, sample.rows, sample.budget_per_day, sample.seed)
    card["training"]["sha256"] = sample.sha256
    card["parity"] = {
        name: parity._asdict() for name, parity in check_exports(detector, seed=sample.seed).items()
    }
    run.save_draft(build_files(detector, grid, card, sample.budget_per_day, seed=sample.seed))
    thresholds = {
        name: round(feature_set.thresholds[IN_CONTEXT].raw_score, 3)
        for name, feature_set in detector.feature_sets.items()
    }
    log.info(
        "fitted on %d windows of %d entities; thresholds %s",
        sample.rows,
        len(grid.names),
        thresholds,
    )
    return folder


def evaluate(folder: str, traffic: "Traffic", *, days: float = HOLDOUT_DAYS) -> str:
    """Evaluate the draft on a holdout of `days` simulated days, against reference detectors.

    Metrics and plots go to `evaluation/`. The traffic is that of the settings at the rate of the
    training data.
    """
    from adnomaly.evaluation import backtest
    from adnomaly.evaluation.holdout import build_holdout
    from adnomaly.evaluation.plots import draw
    from adnomaly.evaluation.report import as_text
    from adnomaly.pipelines._training_run import TrainingRun

    run = TrainingRun(folder)
    sample, budget = run.sample, run.sample.budget_per_day
    build_holdout(run.path, traffic, run.windows, sample.end, seed=sample.seed, days=days)
    reference_truth, reference_scores = backtest.score_references(run.backtest_set)
    references = {name: reference_truth.evaluate(score) for name, score in reference_scores.items()}
    predictions = backtest.predict(run.drafted.detector, run.backtest_set)
    evaluation = backtest.evaluate(predictions, references, budget)
    truth = predictions.truth
    order = [reference_truth.grid.names.index(name) for name in truth.grid.names]
    scores = {backtest.OURS: predictions.score} | {
        name: score[:, order] for name, score in reference_scores.items()
    }
    run.save_evaluation(evaluation, draw(truth, scores, evaluation.ours, backtest.OURS))
    log.info("evaluated\n%s", as_text(truth, evaluation.detectors, budget_per_day=budget))
    return folder


def seal(folder: str) -> str:
    """Seal the draft, with its evaluation in the card, below `bundles/` of the work folder."""
    import msgspec

    from adnomaly.bundle import bundle
    from adnomaly.bundle.codec import to_json
    from adnomaly.pipelines._training_run import TrainingRun

    run = TrainingRun(folder)
    files = run.draft()
    card = msgspec.json.decode(files[bundle.CARD_FILE]) | {
        "evaluation": msgspec.to_builtins(run.evaluation)
    }
    sealed = bundle.seal(run.bundles, files | {bundle.CARD_FILE: to_json(card)})
    run.save_version(sealed.name)
    log.info("sealed %s", sealed.name)
    return folder


def register(folder: str, registry: "Registry") -> str:
    """Register the run and its bundle, which becomes the challenger; returns the run's id."""
    from adnomaly.pipelines._training_run import TrainingRun, register_run

    registered = register_run(TrainingRun(folder), registry)
    log.info("registered as version %s, bundle %s", registered.number, registered.bundle)
    return registered.run_id


def promote_if_better(folder: str, registry: "Registry") -> bool:
    """Make the challenger the champion if it passes the promotion gate. No is a result, no failure.

    The decision, with every check, is logged and saved with the run as `decision.json` and
    `decision.txt`.
    """
    from adnomaly.bundle.codec import to_json
    from adnomaly.evaluation.promotion_gate import decide, expected_thresholds
    from adnomaly.pipelines._training_run import TrainingRun, register_run

    run = TrainingRun(folder)
    sample = run.sample
    registered, champion = register_run(run, registry), registry.champion()
    current = None
    if champion and champion.number != registered.number:
        (run.path / "champion").mkdir(exist_ok=True)
        current = registry.download(champion, run.path / "champion")
    decision = decide(
        run.bundle,
        run.backtest_set,
        run.reference_metrics,
        thresholds=expected_thresholds(
            run.windows, budget_per_day=sample.budget_per_day, seed=sample.seed
        ),
        champion=current,
        min_days=MIN_COVERAGE * sample.days,
        budget_per_day=sample.budget_per_day,
    )
    registry.record_decision(
        registered,
        {"promoted": str(decision.promoted).lower(), "against": decision.against or "-"},
        "; ".join(decision.refusals) or f"passed {len(decision.checks)} checks",
        {"decision.json": to_json(decision), "decision.txt": f"{decision}\n".encode()},
    )
    if decision.promoted:
        registry.promote(registered)
    log.info("%s", decision)
    return decision.promoted


def _check_coverage(windows: "pa.Table", days: float, start: str, end: str) -> None:
    import pyarrow.compute as pc

    hours = pc.count_distinct(pc.floor_temporal(windows["window_end"], unit="hour")).as_py()
    if hours < MIN_COVERAGE * 24 * days:
        raise NotEnoughHistory(
            f"{start} to {end} has windows in {hours} of {24 * days:.0f} hours: "
            "backfill more days, generate history, or train on fewer days"
        )


def _check_baseline(detector: "Detector", days: float) -> None:
    if not detector.baseline.knows_entities:
        raise NotEnoughHistory(
            f"no entity has windows in all hours of a weekday and of a weekend in {days:g} days: "
            "train on more days"
        )
