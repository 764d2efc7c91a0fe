"""The scale on which a feature is compared: equal changes mean the same at every level."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from adnomaly.arrays import Floats
from adnomaly.detector.spec import Spec

LOG: Final = "log"
LOG1P: Final = "log1p"
LINEAR: Final = "linear"

SMALL_RATIO: Final = 0.1
"""Effects on a ratio with a median below this are multiplicative, else additive."""
MIN_RATIO: Final = 1e-6
MAX_EXPONENT: Final = 700


def choose_transforms(values: Floats, spec: Spec) -> tuple[str, ...]:
    """For values (..., F): log1p for counts, log for small ratios, linear for the rest."""
    medians = [
        float(np.nanmedian(values[..., i])) if np.isfinite(values[..., i]).any() else 1.0
        for i in range(values.shape[-1])
    ]
    return tuple(_transform_of(m.kind, x) for m, x in zip(spec.measures, medians, strict=True))


def _transform_of(kind: str, median: float) -> str:
    if kind == "count":
        return LOG1P
    return LOG if kind == "ratio" and median < SMALL_RATIO else LINEAR


def transform(values: Floats, transforms: Sequence[str]) -> Floats:
    """Values (..., F) on the transformed scale."""
    out = np.array(values, np.float64)
    for i, name in enumerate(transforms):
        if name == LOG1P:
            out[..., i] = np.log1p(values[..., i])
        elif name == LOG:
            out[..., i] = np.log(np.maximum(values[..., i], MIN_RATIO))
    return out


def inverse_transform(transformed: Floats, transforms: Sequence[str]) -> Floats:
    """Transformed values (..., F) in the features' units."""
    out = np.array(transformed, np.float64)
    for i, name in enumerate(transforms):
        if name == LOG1P:
            out[..., i] = np.expm1(np.minimum(out[..., i], MAX_EXPONENT))
        elif name == LOG:
            out[..., i] = np.exp(np.minimum(out[..., i], MAX_EXPONENT))
    return out
