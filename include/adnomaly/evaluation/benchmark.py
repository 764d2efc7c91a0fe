"""Our detector and its rivals on some seeds of a world, and the mean of their figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from adnomaly.attack_kinds import HELD_OUT
from adnomaly.detector.detector import Detector
from adnomaly.detector.forecast import GAP_S, LENGTHS_S
from adnomaly.detector.spec import Spec
from adnomaly.evaluation import upper_bound
from adnomaly.evaluation.metrics import Metrics
from adnomaly.evaluation.reference_detectors import reference_scores
from adnomaly.evaluation.scenarios import Scenario, build
from adnomaly.synthetic.traffic import Traffic

BUDGET_PER_DAY: Final = 1.0
SEED: Final = 42
OURS: Final = "adnomaly"
CEILING: Final = "ceiling (saw labels)"
TEACHER_SEED: Final = 901
"""The ceiling learns from attacks of this seed, which nothing is tested on."""

Say = Callable[[str], None]


def feature_sets(spec: Spec) -> dict[str, tuple[int, ...]]:
    """The features of the contract, and all of them."""
    return {"contract features": spec.required, "all features": tuple(range(len(spec.measures)))}


def judge_seed(
    traffic: Traffic, seed: int, training_scenario: Scenario, say: Say
) -> tuple[Scenario, dict[str, dict[str, Metrics]], dict[str, np.ndarray]]:
    """Figures by view and detector of one seed; and the scores of the last view, for pictures."""
    spec, scenario = Spec.ours(), build(traffic, seed)
    found: dict[str, dict[str, Metrics]] = {}
    scores: dict[str, np.ndarray] = {}
    for feature_set, columns in feature_sets(spec).items():
        seen = scenario._replace(grid=upper_bound.grid_of(scenario, columns))
        z = upper_bound.residuals(seen, spec, columns)
        scores = {OURS: np.empty(0)} | reference_scores(z, seen.split)
        scores[OURS], flagged = ours(seen, spec)
        name, score = upper_bound.off_the_shelf(seen, columns)
        scores[f"{name}, raw windows"] = score
        taught = training_scenario._replace(grid=upper_bound.grid_of(training_scenario, columns))
        scores[CEILING] = upper_bound.supervised_upper_bound(
            seen, z, taught, upper_bound.residuals(taught, spec, columns)
        )
        found[feature_set] = {
            name: scenario.truth.evaluate(
                score, flagged if name == OURS else None, budget_per_day=BUDGET_PER_DAY
            )
            for name, score in scores.items()
        }
        say(
            f"  seed {seed}, {feature_set}: PR {found[feature_set][OURS].pr_auc:.3f}, recall at one false incident a day {found[feature_set][OURS].recall_per_day:.3f}"
        )
    return scenario, found, scores


def ours(scenario: Scenario, spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    """Score and flags of the judged rows, as `adnomaly train` and `adnomaly score` make them."""
    detector = Detector.fit(scenario.history, spec, budget_per_day=BUDGET_PER_DAY, seed=SEED)
    before = min(scenario.split, scenario.grid.cadence.steps(LENGTHS_S[-1] + GAP_S + 3600))
    judged = detector.score(
        scenario.grid.between(scenario.split - before, len(scenario.grid.end_s))
    )
    return judged.score[before:], judged.flagged[before:]


def table(found: Sequence[Mapping[str, Metrics]]) -> str:
    """Means over seeds, a line for each detector; standard errors are those of recall over all attacks."""
    lines = [f"{'':<26}{'ROC':>7}{'PR':>7}{'R@1/wk':>8}{'R@1/d':>8}{'+-':>7}{'delay':>8}"]
    names = sorted(
        {
            name.split(",")[0] if name.startswith("PyOD") else name
            for seed in found
            for name in seed
        },
        key=_place,
    )
    for name in names:
        rows = [
            figures
            for seed in found
            for key, figures in seed.items()
            if key == name or key.split(",")[0] == name
        ]
        delays = [f.delay_minutes for f in rows if f.delay_minutes is not None]
        error = float(np.sqrt(np.sum([f.error**2 for f in rows])) / len(rows))
        delay = f"{np.median(delays):.0f} min" if delays else "-"
        means = [
            float(np.mean([getattr(f, field) for f in rows]))
            for field in ("roc_auc", "pr_auc", "recall_per_week", "recall_per_day")
        ]
        lines.append(
            f"{name:<26}{means[0]:>7.3f}{means[1]:>7.3f}{means[2]:>8.3f}{means[3]:>8.3f}{error:>7.3f}{delay:>8}"
        )
    return "\n".join(lines)


def flags(found: Sequence[Mapping[str, Metrics]]) -> str:
    """What our detector flags by itself, and the kinds it catches."""
    own = [seed[OURS] for seed in found]
    kinds = {
        kind: float(np.mean([f.recall_by_kind.get(kind, np.nan) for f in own]))
        for kind in own[0].recall_by_kind
    }
    held, known = (
        [share for kind, share in kinds.items() if (kind in HELD_OUT) == held]
        for held in (True, False)
    )
    realised = [r for f in own for r in f.realised]
    benign = [f.benign_flagged for f in own if f.benign_flagged is not None]
    return "\n".join([
        f"  at the flag: recall {np.mean([f.recall_at_threshold for f in own]):.3f}; realised / budgeted false incidents a fortnight "
        + ", ".join(f"{r:.2f}" for r in realised)
        + (f"; {np.mean(benign):.1%} of the promotions" if benign else "")
        + f"; {np.mean([f.normal_flagged for f in own]):.3%} of the normal windows",
        "  recall by kind at one false incident a day: " + ", ".join(f"{k}{' (held out)' * (k in HELD_OUT)} {v:.2f}" for k, v in kinds.items()),
        f"  kinds that were never tuned on {np.mean(held):.3f}, known kinds {np.mean(known):.3f}",
    ])  # fmt: skip


def build_training_scenario(traffic: Traffic) -> Scenario:
    """Another seed of the world, whose labels the ceiling learns from."""
    return build(replace(traffic), TEACHER_SEED)


def _place(name: str) -> tuple[int, str]:
    order = [OURS, CEILING, "Mahalanobis", "max |z|", "PyOD", "always on", "random"]
    return next((i for i, start in enumerate(order) if name.startswith(start)), len(order)), name
