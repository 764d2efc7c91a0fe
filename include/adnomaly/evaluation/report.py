"""Metrics of several detectors as a table, as JSON and as plots."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from adnomaly.arrays import Floats
from adnomaly.evaluation import plots
from adnomaly.evaluation.metrics import GroundTruth, Metrics
from adnomaly.files import write_atomic

OVER_BUDGET: Final = 1.5
"""Realised over budgeted false incidents from which the report says so in words."""

_WHERE: Final = {
    "adnomaly, entity": "windows scored alone, as over HTTP",
    "adnomaly, global": "the same for an entity without a history",
}


def as_text(truth: GroundTruth, metrics: Mapping[str, Metrics], *, budget_per_day: float) -> str:
    """A line per detector, then the flags of those that have a threshold."""
    benign = sum(e.benign for e in truth.events)
    lines = [
        f"{len(truth.attacks)} attacks and {benign} benign events in {truth.days:.1f} days of "
        f"{len(truth.grid.names)} entities; chance has a PR of {truth.base_rate:.3f}",
        f"{'detector':<28}{'ROC':>7}{'PR':>7}{'R@1/wk':>8}{'R@1/d':>8}{'+-':>6}{'delay':>9}",
    ]
    lines += [f"{name:<28}{_row(m)}" for name, m in metrics.items()]
    for name, m in metrics.items():
        if m.recall_at_threshold is None:
            continue
        budget = f"{budget_per_day:g} false incident{'' if budget_per_day == 1 else 's'} a day"
        where = f" ({_WHERE[name]})" if name in _WHERE else ""
        lines += [
            "",
            f"{name}{where}, what it flags for {budget}:",
            _flags(m, m.recall_at_threshold),
        ]
        if max(m.realised, default=0.0) > OVER_BUDGET:
            lines.append(
                f"  over its budget: where it decides, expect up to {max(m.realised):.1f} times as"
                " many false incidents as asked for"
            )
        if m.recall_by_kind:
            lines.append(
                "  recall at one false incident a day by kind: "
                + ", ".join(f"{kind} {recall:.2f}" for kind, recall in m.recall_by_kind.items())
            )
    return "\n".join(lines)


def _row(m: Metrics) -> str:
    delay = "-" if m.delay_minutes is None else f"{m.delay_minutes:.0f} min"
    return (
        f"{m.roc_auc:>7.3f}{m.pr_auc:>7.3f}{m.recall_per_week:>8.3f}{m.recall_per_day:>8.3f}"
        f"{m.error:>6.3f}{delay:>9}"
    )


def _flags(m: Metrics, recall: float) -> str:
    realised = ", ".join(f"{ratio:.2f}" for ratio in m.realised)
    parts = [
        f"  recall {recall:.3f}",
        f"realised / budgeted false incidents {realised} (each fortnight)",
    ]
    if m.delay_at_threshold is not None:
        parts.append(f"median delay {m.delay_at_threshold:.0f} min")
    if m.benign_flagged is not None:
        parts.append(f"{m.benign_flagged:.1%} of the benign events")
    if m.normal_flagged is not None:
        parts.append(f"{m.normal_flagged:.2%} of the normal windows")
    return "; ".join(parts)


def save(
    folder: Path,
    truth: GroundTruth,
    metrics: Mapping[str, Metrics],
    scores: Mapping[str, Floats],
    best: str,
) -> list[str]:
    """Write figures.json and the plots into a folder; returns the file names."""
    plain: dict[str, Any] = {name: msgspec.to_builtins(m) for name, m in metrics.items()}
    plain["base_rate"] = truth.base_rate
    text = msgspec.json.format(msgspec.json.encode(plain), indent=1)
    images = plots.draw(truth, scores, metrics[best], best)
    for name, data in {"figures.json": text, **images}.items():
        write_atomic(folder / name, data)
    return ["figures.json", *images]
