"""What the detector returns."""

from typing import NamedTuple

from adnomaly.arrays import Bools, Floats
from adnomaly.detector.baseline import Comparison


class GridScores(NamedTuple):
    """All windows of a grid, each (T, E) or (T, E, F).

    Attributes:
        score: in [0, 1); NaN for a missing window, or while the entity warms up.
        flagged: score >= 0.5, unless the platform is down.
        expected: in the features' units.
        z: innovations, in robust standard deviations.
        low, high: expected value -+ 3 standard deviations, in the features' units.
        down: the platform is down, (T,).
        there: the entity has been observed, (T, E).
    """

    score: Floats
    flagged: Bools
    expected: Floats
    z: Floats
    low: Floats
    high: Floats
    down: Bools
    there: Bools


class SingleScores(NamedTuple):
    """Windows scored without context.

    Attributes:
        score: in [0, 1), (n,).
        comparison: with the baseline, (n, F).
        by_entity: compared with the entity's baseline, not the pooled one, (n,).
        complete: scored by ALL_FEATURES, (n,).
    """

    score: Floats
    comparison: Comparison
    by_entity: Bools
    complete: Bools
