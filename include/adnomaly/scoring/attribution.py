"""Explain a score: attribution to the features, and a summary in one sentence."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from adnomaly.arrays import Floats
from adnomaly.detector.spec import Measure

MAX_NAMED: Final = 4
"""Features in a summary, the largest deviation first."""
MIN_SHARE: Final = 0.05
MIN_Z: Final = 4.0
"""A deviation this large is named even if a larger one leaves it a small share."""


def attribute(z: Floats) -> Floats:
    """Share of each feature in the squares of z (..., F), with its sign; NaN where z is.

    Sizes sum to 1.
    """
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
    """Such as `US web: 3.1 times the expected clicks (3100 instead of 1000), 0.51 times ...`.

    Args:
        measures: counts and ratios are compared as multiples, levels as differences.
    """
    known = {m.name: m for m in measures}
    names = sorted(z, key=lambda name: -abs(z[name]))
    share = dict(
        zip(names, np.abs(attribute(np.array([z[n] for n in names]))).tolist(), strict=True)
    )
    named = [
        name
        for i, name in enumerate(names[:MAX_NAMED])
        if i == 0 or share[name] >= MIN_SHARE or abs(z[name]) >= MIN_Z
    ]
    parts = (_part(known[name], values[name], expected[name]) for name in named)
    return f"{' '.join(entity)}: {', '.join(parts)}"


def _part(measure: Measure, value: float, expected: float) -> str:
    label, both = measure.label or measure.name, f"({_short(value)} instead of {_short(expected)})"
    if measure.kind == "level" or expected <= 0:
        return f"{label} {'above' if value >= expected else 'below'} the expected {both}"
    return f"{value / expected:.2g} times the expected {label} {both}"


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
