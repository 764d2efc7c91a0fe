"""The scale on which each feature is compared: where its changes mean the same at every height."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from adnomaly.detector.spec import Spec

LOG: Final = "log"
LOG1P: Final = "log1p"
LINEAR: Final = "linear"

SMALL_RATIO: Final = 0.1
"""A ratio that is usually below this is multiplied by what happens to it; above, it is shifted."""
MIN_RATIO: Final = 1e-6


def choose_transforms(values: np.ndarray, spec: Spec) -> tuple[str, ...]:
    """A link for each feature of values (..., F): log1p for counts, log for small ratios, linear for the rest."""
    usual = [
        float(np.nanmedian(values[..., i])) if np.isfinite(values[..., i]).any() else 1.0
        for i in range(values.shape[-1])
    ]
    by_kind = {
        "count": lambda _: LOG1P,
        "level": lambda _: LINEAR,
        "ratio": lambda height: LOG if height < SMALL_RATIO else LINEAR,
    }
    return tuple(by_kind[m.kind](height) for m, height in zip(spec.measures, usual, strict=True))


def transform(values: np.ndarray, transforms: Sequence[str]) -> np.ndarray:
    """Values (..., F) on the scale of their links."""
    out = np.array(values, np.float64)
    for i, link in enumerate(transforms):
        if link == LOG1P:
            out[..., i] = np.log1p(values[..., i])
        elif link == LOG:
            out[..., i] = np.log(np.maximum(values[..., i], MIN_RATIO))
    return out


def inverse_transform(linked_values: np.ndarray, transforms: Sequence[str]) -> np.ndarray:
    """Back in their own units."""
    out = np.array(linked_values, np.float64)
    for i, link in enumerate(transforms):
        if link == LOG1P:
            out[..., i] = np.expm1(np.minimum(out[..., i], 700))
        elif link == LOG:
            out[..., i] = np.exp(np.minimum(out[..., i], 700))
    return out
