"""What a detector must beat, and what it cannot: simple rules on the same residuals, an off-the-shelf one, a labelled ceiling."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from adnomaly.detector.forecast import inputs
from adnomaly.detector.grid import Cadence, Grid
from adnomaly.detector.seasonal import SeasonalBaseline
from adnomaly.detector.spec import Spec
from adnomaly.evaluation.scenarios import Scenario

SEED: Final = 42
SAMPLE: Final = 20_000
OFF_THE_SHELF: Final = ("ECOD", "COPOD", "HBOS")


def residuals(scenario: Scenario, spec: Spec, columns: Sequence[int]) -> np.ndarray:
    """z of all rows against a slot table of history, (T, E, K)."""
    return SeasonalBaseline.fit(scenario.history, spec).compare(scenario.grid).z[..., columns]


def off_the_shelf(scenario: Scenario, columns: Sequence[int]) -> tuple[str, np.ndarray]:
    """The best of PyOD's detectors for large data on the raw windows, by its average precision here (which flatters it)."""
    from pyod.models.copod import COPOD
    from pyod.models.ecod import ECOD
    from pyod.models.hbos import HBOS

    values = scenario.grid.values[..., columns]
    known = np.isfinite(values).all(axis=2)
    history = values[: scenario.split][known[: scenario.split]]
    history = history[
        np.random.default_rng(SEED).choice(len(history), min(SAMPLE, len(history)), replace=False)
    ]
    live = known[scenario.split :]
    best: tuple[float, str, np.ndarray] | None = None
    for name, model in zip(OFF_THE_SHELF, (ECOD(), COPOD(), HBOS()), strict=True):
        model.fit(history)
        score = np.full(live.shape, np.nan)
        score[live] = _in_parts(model.decision_function, values[scenario.split :][live])
        figures = scenario.truth.evaluate(score)
        if best is None or figures.pr_auc > best[0]:
            best = (figures.pr_auc, f"PyOD {name}", score)
    assert best is not None
    return best[1], best[2]


def supervised_upper_bound(
    scenario: Scenario, z: np.ndarray, training_scenario: Scenario, teacher_z: np.ndarray
) -> np.ndarray:
    """Boosted trees that were shown labels of another seed of the same world, with the memory of the last day: not a rival."""
    # Without the penalty, leaves of nothing but normal windows diverge, and some of those come out on top.
    trees = HistGradientBoostingClassifier(
        max_iter=300,
        learning_rate=0.05,
        max_leaf_nodes=31,
        min_samples_leaf=200,
        l2_regularization=10.0,
        random_state=SEED,
    )
    known = training_scenario.truth.present
    seen = _with_memory(teacher_z, training_scenario.grid.cadence)[training_scenario.split :]
    trees.fit(seen[known], training_scenario.truth.attack[known] >= 0)
    score = np.full(scenario.truth.present.shape, np.nan)
    present = scenario.truth.present
    score[present] = trees.decision_function(
        _with_memory(z, scenario.grid.cadence)[scenario.split :][present]
    )
    return score


def _with_memory(z: np.ndarray, cadence: Cadence) -> np.ndarray:
    """z, and its change against the means of the last half hour to day and of the other entities, (T, E, 6 K)."""
    nothing = np.zeros(z.shape[:2], bool)
    before = inputs(z, nothing, cadence)
    changes = (np.clip(z, -30, 30)[..., None] - before).reshape(*z.shape[:2], -1)
    return np.concatenate([z, changes], axis=2).astype(np.float32)


def _in_parts(function: object, rows: np.ndarray, size: int = 50_000) -> np.ndarray:
    return np.concatenate([function(rows[i : i + size]) for i in range(0, len(rows), size)])  # type: ignore[operator]


def grid_of(scenario: Scenario, columns: Sequence[int]) -> Grid:
    """The world as one sees it who has these features only."""
    keep = np.isin(np.arange(scenario.grid.values.shape[2]), columns)
    return scenario.grid._replace(values=np.where(keep, scenario.grid.values, np.nan))
