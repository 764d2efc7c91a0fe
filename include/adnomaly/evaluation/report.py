"""Figures of several detectors side by side, as text, as JSON and as pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from adnomaly.evaluation import plots
from adnomaly.evaluation.metrics import GroundTruth, Metrics


def as_text(
    truth: GroundTruth, found: Mapping[str, Metrics], *, budget_per_day: float, kinds: bool = True
) -> str:
    """A line for each detector, then what those with a threshold of their own flag."""
    benign = sum(e.benign for e in truth.events)
    lines = [
        f"{len(truth.attacks)} attacks and {benign} benign events in {truth.days:.1f} days of {len(truth.grid.names)} entities; "
        f"chance has a PR of {truth.base_rate:.3f}",
        f"{'detector':<28}{'ROC':>7}{'PR':>7}{'R@1/wk':>8}{'R@1/d':>8}{'+-':>6}{'delay':>9}",
    ]
    lines += [f"{name:<28}{_figures(f)}" for name, f in found.items()]
    for name, f in found.items():
        if f.recall_at_threshold is not None:
            lines += [
                "",
                f"{name}, what it flags for {budget_per_day:g} false incidents a day:",
                _flag(f),
            ]
            if kinds and f.recall_by_kind:
                lines.append(
                    "  recall at one false incident a day by kind: "
                    + ", ".join(f"{k} {v:.2f}" for k, v in f.recall_by_kind.items())
                )
    return "\n".join(lines)


def _figures(f: Metrics) -> str:
    delay = "-" if f.delay_minutes is None else f"{f.delay_minutes:.0f} min"
    return f"{f.roc_auc:>7.3f}{f.pr_auc:>7.3f}{f.recall_per_week:>8.3f}{f.recall_per_day:>8.3f}{f.error:>6.3f}{delay:>9}"


def _flag(f: Metrics) -> str:
    parts = [
        f"  recall {f.recall_at_threshold:.3f}",
        f"realised / budgeted false incidents {', '.join(f'{r:.2f}' for r in f.realised)} (each fortnight)",
    ]
    if f.delay_at_threshold is not None:
        parts.append(f"median delay {f.delay_at_threshold:.0f} min")
    if f.benign_flagged is not None:
        parts.append(f"{f.benign_flagged:.1%} of the benign events")
    if f.normal_flagged is not None:
        parts.append(f"{f.normal_flagged:.2%} of the normal windows")
    return "; ".join(parts)


def keep(
    folder: Path,
    truth: GroundTruth,
    found: Mapping[str, Metrics],
    scores: Mapping[str, np.ndarray],
    best: str,
) -> list[str]:
    """figures.json and pictures in a folder; returns the names of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    plain: dict[str, Any] = {name: msgspec.to_builtins(f) for name, f in found.items()}
    plain["base_rate"] = truth.base_rate
    (folder / "figures.json").write_bytes(msgspec.json.format(msgspec.json.encode(plain), indent=1))
    drawn = plots.draw(truth, scores, found[best], best)
    for name, picture in drawn.items():
        (folder / name).write_bytes(picture)
    return ["figures.json", *drawn]
