"""Why: the share of each feature in what makes a window unusual, and that as one sentence."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from adnomaly.detector.spec import Measure

LISTED: Final = 4
"""Features that a sentence names at most, the most unusual first."""
NAMED_SHARE: Final = 0.05
NAMED_Z: Final = 4.0
"""A feature this far off is news however far off another one is: squares leave it no share worth naming."""


def attribute(z: np.ndarray) -> np.ndarray:
    """Share of each feature of z (..., F), with the sign of its deviation; sizes sum to 1. NaN where z is."""
    power = np.nan_to_num(z) ** 2
    total = power.sum(axis=-1, keepdims=True)
    equal = np.isfinite(z).sum(axis=-1, keepdims=True)
    size = np.where(total > 0, power / np.where(total > 0, total, 1), 1 / np.maximum(equal, 1))
    return np.where(np.isfinite(z), np.copysign(size, z), np.nan)


def summarize(
    entity: Sequence[str],
    measures: Sequence[Measure],
    values: Mapping[str, float],
    expected: Mapping[str, float],
    z: Mapping[str, float],
) -> str:
    """Such as `US web: 3.1 times the expected clicks (3100 instead of 1000), 0.51 times the expected distinct users per click (...)`.

    Args:
        measures: counts and ratios are compared as multiples, levels as differences.
    """
    known = {m.name: m for m in measures}
    names = sorted(z, key=lambda name: -abs(z[name]))
    share = dict(
        zip(names, np.abs(attribute(np.array([z[n] for n in names]))).tolist(), strict=True)
    )
    told = [
        name
        for i, name in enumerate(names[:LISTED])
        if i == 0 or share[name] >= NAMED_SHARE or abs(z[name]) >= NAMED_Z
    ]
    return f"{' '.join(entity)}: {', '.join(_part(known[name], values[name], expected[name]) for name in told)}"


def _part(measure: Measure, value: float, expected: float) -> str:
    label, both = measure.label or measure.name, f"({_short(value)} instead of {_short(expected)})"
    if measure.kind == "level" or expected <= 0:
        return f"{label} {'above' if value >= expected else 'below'} the expected {both}"
    return f"{value / expected:.2g} times the expected {label} {both}"


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
