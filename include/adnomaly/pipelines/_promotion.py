"""From a sealed bundle to the champion of the registry: the last two steps of training."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from adnomaly.windows import time_text

if TYPE_CHECKING:
    from adnomaly.pipelines._training_run import WorkFolder

LEAST_SHARE: Final = 0.9
"""Of the training time asked for, that must hold windows."""

log = logging.getLogger(__name__)


class ModelRegistry(Protocol):
    """Where models are registered, and one of them is the champion. A registered model has `number`, `run_id` and `bundle`."""

    def register(
        self,
        name: str,
        *,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        files: Path,
        bundle: Path,
        source: str,
    ) -> Any: ...
    def champion(self) -> Any: ...
    def promote(self, registered: Any) -> None: ...
    def note(
        self, registered: Any, tags: Mapping[str, str], text: str, files: Mapping[str, bytes]
    ) -> None: ...
    def download(self, registered: Any, to: Path) -> Path: ...


def register(folder: str, registry: ModelRegistry) -> str:
    """Run, figures, pictures and bundle in the registry; the version becomes the challenger. Returns the id of the run."""
    from adnomaly.pipelines._training_run import WorkFolder

    registered = _registered(WorkFolder(folder), registry)
    log.info("registered as version %s, bundle %s", registered.number, registered.bundle)
    return registered.run_id


def promote_if_better(folder: str, registry: ModelRegistry) -> bool:
    """Make it the champion if the promotion check finds it good, and not worse than the champion. No is a result, not a failure.

    The decision, with every figure, is logged, and kept with the run as `decision.json` and `decision.txt`.
    """
    from adnomaly.bundle.codec import to_json
    from adnomaly.evaluation import backtest
    from adnomaly.evaluation.promotion_gate import decide, own_limits
    from adnomaly.pipelines._training_run import WorkFolder

    work = WorkFolder(folder)
    sample = work.sample
    registered, champion = _registered(work, registry), registry.champion()
    current = None
    if champion and champion.number != registered.number:
        (work.path / "champion").mkdir(exist_ok=True)
        current = registry.download(champion, work.path / "champion")
    simple = {name: work.evaluation.detectors[name] for name in backtest.RULES}
    days, budget = LEAST_SHARE * sample.days, sample.budget_per_day
    limits = own_limits(work.windows, budget_per_day=budget, seed=sample.seed)
    decision = decide(
        work.bundle,
        work.trial,
        simple,
        limits=limits,
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


def _registered(work: "WorkFolder", registry: ModelRegistry) -> Any:
    """This work folder's registration; registering twice gives the same."""
    sample, views = work.sample, work.drafted.detector.views
    params = {
        "seed": sample.seed,
        "train": f"{time_text(sample.start)}..{time_text(sample.end)}",
        "rows": sample.rows,
        "data_sha256": sample.sha256,
        "budget_per_day": sample.budget_per_day,
    }
    params |= {
        f"limit.{name}.{how}": round(limit.height, 4)
        for name, view in views.items()
        for how, limit in view.limits.items()
    }
    metrics, name = work.evaluation.flat(), work.path.name
    return registry.register(
        name, params=params, metrics=metrics, files=work.figures, bundle=work.bundle, source=name
    )
