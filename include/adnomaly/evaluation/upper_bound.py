"""The supervised upper bound: boosted trees trained on labels that no detector here may use."""

from typing import Final

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from adnomaly.arrays import Floats, Floats32
from adnomaly.detector.forecast import inputs
from adnomaly.detector.grid import Cadence
from adnomaly.evaluation.scenarios import Scenario

SEED: Final = 42
MAX_Z: Final = 30


def supervised_upper_bound(
    scenario: Scenario, z: Floats, training_scenario: Scenario, training_z: Floats
) -> Floats:
    """Scores (T, E) of trees trained on another seed's labels, from residuals z (T, E, K).

    Each window comes with its changes over the last day, as the detector's residual forecast has.
    """
    # Without the penalty, leaves of normal windows alone diverge, and some of them score highest.
    trees = HistGradientBoostingClassifier(
        max_iter=300,
        learning_rate=0.05,
        max_leaf_nodes=31,
        min_samples_leaf=200,
        l2_regularization=10.0,
        random_state=SEED,
    )
    labelled = training_scenario.truth
    training = _with_changes(training_z, training_scenario.grid.cadence)
    trees.fit(training[training_scenario.split :][labelled.present], labelled.is_attack)
    present = scenario.truth.present
    live = _with_changes(z, scenario.grid.cadence)[scenario.split :]
    score = np.full(present.shape, np.nan)
    score[present] = trees.decision_function(live[present])
    return score


def _with_changes(z: Floats, cadence: Cadence) -> Floats32:
    """z and its change against means of the last half hour to day and of other entities.

    Shape (T, E, 6 K).
    """
    none_left_out = np.zeros(z.shape[:2], bool)
    before = inputs(z, none_left_out, cadence)
    changes = (np.clip(z, -MAX_Z, MAX_Z)[..., None] - before).reshape(*z.shape[:2], -1)
    rows: Floats32 = np.concatenate([z, changes], axis=2).astype(np.float32)
    return rows
