"""From a sealed bundle to the champion of the registry: the last two steps of training."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from adnomaly.windows import time_text

if TYPE_CHECKING:
    from adnomaly.pipelines.workfolder import WorkFolder

LEAST_SHARE: Final = 0.9
"""Of the training time asked for, that must hold windows."""

log = logging.getLogger(__name__)


class ModelRegistry(Protocol):
    """Where models are registered, and one of them is the champion. A registered model has `number` and `bundle`."""

    def register(
        self, name: str, *, params: Mapping[str, Any], metrics: Mapping[str, float], files: Path, bundle: Path, source: str
    ) -> Any: ...
    def champion(self) -> Any: ...
    def promote(self, registered: Any) -> None: ...
    def note(self, registered: Any, tags: Mapping[str, str], text: str = "") -> None: ...
    def download(self, registered: Any, to: Path) -> Path: ...


def register(folder: str, registry: ModelRegistry) -> str:
    """Run, figures, pictures and bundle in the registry; the version becomes the challenger."""
    from adnomaly.model.report import figures
    from adnomaly.pipelines.workfolder import WorkFolder

    work = WorkFolder(folder)
    registered = _registered(work, registry)
    log.info("registered as version %s, bundle %s, with %d figures", registered.number, registered.bundle, len(figures(work.evaluation)))
    return folder


def promote_if_better(folder: str, registry: ModelRegistry) -> bool:
    """Make it the champion if the promotion check finds it good, and not worse than the champion. No is a result, not a failure.

    The decision, with every figure, is kept beside the registered model and in `evaluation/decision.json`.
    """
    from adnomaly.model.bundle import to_json
    from adnomaly.model.promotion import decide
    from adnomaly.pipelines.workfolder import WorkFolder

    work = WorkFolder(folder)
    registered, champion = _registered(work, registry), registry.champion()
    current = None
    if champion and champion.number != registered.number:
        (work.path / "champion").mkdir(exist_ok=True)
        current = registry.download(champion, work.path / "champion")
    decision = decide(work.bundle, work.trial, work.rivals, champion=current, least_days=LEAST_SHARE * work.sample.train_days)
    (work.figures / "decision.json").write_bytes(to_json(decision))
    why = "; ".join(decision.refusals) or f"passed {len(decision.checks)} checks"
    registry.note(registered, {"promoted": str(decision.promoted).lower(), "against": decision.against or "-"}, why)
    if decision.promoted:
        registry.promote(registered)
    log.info("%s: %s", "champion" if decision.promoted else "not promoted", why)
    return decision.promoted


def _registered(work: "WorkFolder", registry: ModelRegistry) -> Any:
    """This work folder's registration; registering twice gives the same."""
    from adnomaly.model.report import figures

    sample, thresholds = work.sample, work.thresholds
    params = {
        "seed": sample.seed,
        "train": f"{time_text(sample.start)}..{time_text(sample.split)}",
        "calibrate": f"{time_text(sample.split)}..{time_text(sample.end)}",
        "rows": sample.rows,
        "data_sha256": sample.sha256,
        "trees": len(work.forest.estimators_),
        "budget_per_day": thresholds.budget_per_day,
        "threshold": thresholds.entity.threshold,
        "threshold_global": thresholds.pooled.threshold,
    }
    metrics, name = figures(work.evaluation), work.path.name
    return registry.register(name, params=params, metrics=metrics, files=work.figures, bundle=work.bundle, source=name)
