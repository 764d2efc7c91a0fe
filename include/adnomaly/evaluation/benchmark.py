"""Benchmark of the detector against reference detectors on some seeds of a scenario."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from adnomaly.arrays import Bools, Floats
from adnomaly.attack_kinds import HELD_OUT
from adnomaly.detector.detector import Detector
from adnomaly.detector.forecast import GAP_S, LENGTHS_S
from adnomaly.detector.seasonal import SeasonalBaseline
from adnomaly.detector.spec import Spec
from adnomaly.evaluation.backtest import OURS
from adnomaly.evaluation.metrics import Metrics
from adnomaly.evaluation.reference_detectors import (
    ALWAYS_ON,
    MAHALANOBIS,
    MAX_Z,
    RANDOM,
    off_the_shelf,
    reference_scores,
)
from adnomaly.evaluation.scenarios import Scenario, build
from adnomaly.evaluation.upper_bound import supervised_upper_bound
from adnomaly.synthetic.traffic import Traffic

BUDGET_PER_DAY: Final = 1.0
SEED: Final = 42
UPPER_BOUND: Final = "ceiling (saw labels)"
TRAINING_SEED: Final = 901
"""The supervised upper bound is trained on this seed, which nothing is tested on."""
PYOD: Final = "PyOD"
ORDER: Final = (OURS, UPPER_BOUND, MAHALANOBIS, MAX_Z, PYOD, ALWAYS_ON, RANDOM)
"""Order of the detectors in a table."""

Say = Callable[[str], None]


class SeedResult(NamedTuple):
    """Results of one seed.

    Attributes:
        metrics: by feature set, then by detector.
        scores: (T, E) by detector, on the last feature set, for plots.
    """

    scenario: Scenario
    metrics: dict[str, dict[str, Metrics]]
    scores: dict[str, Floats]


def feature_sets(spec: Spec) -> dict[str, tuple[int, ...]]:
    """Columns of the features of the contract, and of all features."""
    return {"contract features": spec.required, "all features": tuple(range(len(spec.measures)))}


def evaluate_seed(traffic: Traffic, seed: int, training_scenario: Scenario, say: Say) -> SeedResult:
    """Evaluate every detector on every feature set of one seed."""
    spec, scenario = Spec.ours(), build(traffic, seed)
    result = SeedResult(scenario, {}, {})
    for feature_set, columns in feature_sets(spec).items():
        limited = scenario.with_features(columns)
        training = training_scenario.with_features(columns)
        z = _residuals(limited, spec, columns)
        ours, flagged = _score_ours(limited, spec)
        shelf, shelf_score = off_the_shelf(
            limited.grid.values[..., columns], limited.split, limited.truth
        )
        scores = {
            OURS: ours,
            **reference_scores(z, limited.split),
            f"{shelf}, raw windows": shelf_score,
            UPPER_BOUND: supervised_upper_bound(
                limited, z, training, _residuals(training, spec, columns)
            ),
        }
        metrics = {
            name: scenario.truth.evaluate(
                score, flagged if name == OURS else None, budget_per_day=BUDGET_PER_DAY
            )
            for name, score in scores.items()
        }
        result = SeedResult(scenario, result.metrics | {feature_set: metrics}, scores)
        say(
            f"  seed {seed}, {feature_set}: PR {metrics[OURS].pr_auc:.3f}, "
            f"recall at one false incident a day {metrics[OURS].recall_per_day:.3f}"
        )
    return result


def build_training_scenario(traffic: Traffic) -> Scenario:
    """The scenario whose labels train the supervised upper bound."""
    return build(traffic, TRAINING_SEED)


def table(seeds: Sequence[Mapping[str, Metrics]]) -> str:
    """Means over seeds, a line per detector; `+-` is the standard error over all attacks."""
    lines = [f"{'':<26}{'ROC':>7}{'PR':>7}{'R@1/wk':>8}{'R@1/d':>8}{'+-':>7}{'delay':>8}"]
    # The best of PyOD's detectors differs between seeds; the raw windows are not named.
    names = {_short(name) for seed in seeds for name in seed}
    for name in sorted(names, key=_place):
        rows = [m for seed in seeds for key, m in seed.items() if name in (key, _short(key))]
        lines.append(f"{name:<26}{_mean_row(rows)}")
    return "\n".join(lines)


def _mean_row(rows: Sequence[Metrics]) -> str:
    delays = [m.delay_minutes for m in rows if m.delay_minutes is not None]
    delay = f"{np.median(delays):.0f} min" if delays else "-"
    error = float(np.sqrt(np.sum([m.error**2 for m in rows])) / len(rows))
    roc, pr = np.mean([m.roc_auc for m in rows]), np.mean([m.pr_auc for m in rows])
    week = np.mean([m.recall_per_week for m in rows])
    day = np.mean([m.recall_per_day for m in rows])
    return f"{roc:>7.3f}{pr:>7.3f}{week:>8.3f}{day:>8.3f}{error:>7.3f}{delay:>8}"


def flags(seeds: Sequence[Mapping[str, Metrics]]) -> str:
    """The flags of our detector, and the kinds of attacks that it catches."""
    ours = [seed[OURS] for seed in seeds]
    kinds = {
        kind: float(np.mean([m.recall_by_kind.get(kind, np.nan) for m in ours]))
        for kind in ours[0].recall_by_kind
    }
    held_out, known = (
        float(np.mean([share for kind, share in kinds.items() if (kind in HELD_OUT) == held]))
        for held in (True, False)
    )
    recall = np.mean([m.recall_at_threshold for m in ours if m.recall_at_threshold is not None])
    normal = np.mean([m.normal_flagged for m in ours if m.normal_flagged is not None])
    realised = ", ".join(f"{ratio:.2f}" for m in ours for ratio in m.realised)
    benign = [m.benign_flagged for m in ours if m.benign_flagged is not None]
    by_kind = ", ".join(
        f"{kind}{' (held out)' * (kind in HELD_OUT)} {share:.2f}" for kind, share in kinds.items()
    )
    return "\n".join(
        [
            f"  at the flag: recall {recall:.3f}; "
            f"realised / budgeted false incidents a fortnight {realised}"
            + (f"; {np.mean(benign):.1%} of the promotions" if benign else "")
            + f"; {normal:.3%} of the normal windows",
            f"  recall by kind at one false incident a day: {by_kind}",
            f"  kinds that were never tuned on {held_out:.3f}, known kinds {known:.3f}",
        ]
    )


def _residuals(scenario: Scenario, spec: Spec, columns: Sequence[int]) -> Floats:
    """z of all rows against a seasonal baseline of history, (T, E, K)."""
    baseline = SeasonalBaseline.fit(scenario.history, spec)
    z: Floats = baseline.compare(scenario.grid).z[..., columns]
    return z


def _score_ours(scenario: Scenario, spec: Spec) -> tuple[Floats, Bools]:
    """Scores and flags of the labelled rows, as `adnomaly train` and `adnomaly score` make them."""
    detector = Detector.fit(scenario.history, spec, budget_per_day=BUDGET_PER_DAY, seed=SEED)
    before = min(scenario.split, scenario.grid.cadence.steps(LENGTHS_S[-1] + GAP_S + 3600))
    first, last = scenario.split - before, len(scenario.grid.end_s)
    scores = detector.score(scenario.grid.between(first, last))
    return scores.score[before:], scores.flagged[before:]


def _short(name: str) -> str:
    return name.split(",")[0] if name.startswith(PYOD) else name


def _place(name: str) -> tuple[int, str]:
    place = next((i for i, start in enumerate(ORDER) if name.startswith(start)), len(ORDER))
    return place, name
