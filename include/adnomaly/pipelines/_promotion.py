"""From a sealed bundle to the champion of the registry: the last two steps of training."""

import logging
from typing import TYPE_CHECKING, Any, Final

from adnomaly.windows import time_text

if TYPE_CHECKING:
    from adnomaly.clients.mlflow import Registry
    from adnomaly.pipelines._training_run import TrainingRun

MIN_SHARE: Final = 0.9
"""Of the training time asked for, that must hold windows."""

log = logging.getLogger(__name__)


def register(folder: str, registry: "Registry") -> str:
    """Run, figures, pictures and bundle in the registry; the version becomes the challenger. Returns the id of the run."""
    from adnomaly.pipelines._training_run import TrainingRun

    registered = _registered(TrainingRun(folder), registry)
    log.info("registered as version %s, bundle %s", registered.number, registered.bundle)
    return registered.run_id


def promote_if_better(folder: str, registry: "Registry") -> bool:
    """Make it the champion if the promotion check finds it good, and not worse than the champion. No is a result, not a failure.

    The decision, with every figure, is logged, and kept with the run as `decision.json` and `decision.txt`.
    """
    from adnomaly.bundle.codec import to_json
    from adnomaly.evaluation import backtest
    from adnomaly.evaluation.promotion_gate import decide, expected_thresholds
    from adnomaly.pipelines._training_run import TrainingRun

    work = TrainingRun(folder)
    sample = work.sample
    registered, champion = _registered(work, registry), registry.champion()
    current = None
    if champion and champion.number != registered.number:
        (work.path / "champion").mkdir(exist_ok=True)
        current = registry.download(champion, work.path / "champion")
    simple = {name: work.evaluation.detectors[name] for name in backtest.RULES}
    days, budget = MIN_SHARE * sample.days, sample.budget_per_day
    thresholds = expected_thresholds(work.windows, budget_per_day=budget, seed=sample.seed)
    decision = decide(
        work.bundle,
        work.backtest_set,
        simple,
        thresholds=thresholds,
        champion=current,
        least_days=days,
        budget_per_day=budget,
    )
    why = "; ".join(decision.refusals) or f"passed {len(decision.checks)} checks"
    tags = {"promoted": str(decision.promoted).lower(), "against": decision.against or "-"}
    registry.note(
        registered,
        tags,
        why,
        {"decision.json": to_json(decision), "decision.txt": f"{decision}\n".encode()},
    )
    if decision.promoted:
        registry.promote(registered)
    log.info("%s", decision)
    return decision.promoted


def _registered(work: "TrainingRun", registry: "Registry") -> Any:
    """This work folder's registration; registering twice gives the same."""
    sample, feature_sets = work.sample, work.drafted.detector.feature_sets
    params = {
        "seed": sample.seed,
        "train": f"{time_text(sample.start)}..{time_text(sample.end)}",
        "rows": sample.rows,
        "data_sha256": sample.sha256,
        "budget_per_day": sample.budget_per_day,
    }
    params |= {
        f"limit.{name}.{how}": round(limit.raw_score, 4)
        for name, feature_set in feature_sets.items()
        for how, limit in feature_set.thresholds.items()
    }
    metrics, name = work.evaluation.flat(), work.path.name
    return registry.register(
        name, params=params, metrics=metrics, files=work.figures, bundle=work.bundle, source=name
    )
