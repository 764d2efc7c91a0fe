"""The residual forecast: predicts z from earlier windows and from the other entities.

Traffic has good and bad days, and an hour resembles the last one. A linear forecast of each
feature's z from its means over the last half hour, hour, 4 hours and day, and from the median over
all entities one window earlier. The means end 90 minutes before the window and leave out outliers,
so that an attack does not become part of the forecast while it lasts.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Self

import numpy as np

from adnomaly.arrays import Bools, Floats, Ints
from adnomaly.detector.day_curve import MAD
from adnomaly.detector.grid import Cadence

LENGTHS_S: Final = (1800, 3600, 4 * 3600, 24 * 3600)
GAP_S: Final = 90 * 60
MAX_INPUT: Final = 3.0
"""z is clipped here before it enters a mean."""
MAX_FIT_ERROR: Final = 2.5
"""Rows with a larger residual do not shape the forecast."""
SHRINK: Final = 200.0
"""Weight of the shared forecast in that of one entity, in rows."""
FIT_EVERY_S: Final = 300
MIN_SCALE: Final = 0.05
MIN_ENTITIES: Final = 5

Outliers = Callable[[Floats, slice], Bools]
"""From innovations (B, E, F) and their rows: windows that the means leave out, (B, E)."""


class ResidualForecast(NamedTuple):
    """A linear forecast per entity and feature.

    Attributes:
        weights: of the four means and of the other entities, (E, F, 5).
        scale: standard deviation of z minus forecast, (F,).
    """

    cadence: Cadence
    weights: Floats
    scale: Floats

    @classmethod
    def fit(cls, z: Floats, cadence: Cadence, outliers: Bools) -> Self:
        """Fit on z (T, E, F) without outliers (T, E)."""
        before = inputs(z, outliers, cadence)
        step, warm = cadence.steps(FIT_EVERY_S), cadence.steps(GAP_S + LENGTHS_S[-1])
        rows = slice(min(warm, len(z) // 2), None, step)
        weights = np.zeros((*z.shape[1:], before.shape[-1]))
        scale = np.ones(z.shape[2])
        for f in range(z.shape[2]):
            x, y = before[rows, :, f], z[rows, :, f]
            known = np.isfinite(y)
            if not known.any():
                continue
            shared = _solve(x[known], y[known], np.zeros(x.shape[-1]), 1e-3)
            for e in range(z.shape[1]):
                weights[e, f] = _solve(x[known[:, e], e], y[known[:, e], e], shared, SHRINK)
            error = y - np.einsum("tek,ek->te", x, weights[:, f])
            scale[f] = max(MIN_SCALE, MAD * np.nanmedian(np.abs(error)))
        return cls(cadence, weights, scale)

    def innovations(self, z: Floats, outliers: Outliers) -> tuple[Floats, Floats]:
        """Innovations (z - forecast) / scale, and the forecast, both (T, E, F).

        Runs forward block by block, as the stream does: outliers of earlier blocks are known.
        """
        gap = self.cadence.steps(GAP_S)
        clipped = np.clip(z, -MAX_INPUT, MAX_INPUT)
        sums, counts = np.zeros((len(z) + 1, *z.shape[1:])), np.zeros((len(z) + 1, *z.shape[1:]))
        others = _others(clipped)
        forecast, innovations = np.zeros_like(z), np.full_like(z, np.nan)
        for first in range(0, len(z), gap):
            block = slice(first, min(first + gap, len(z)))
            x = _means(sums, counts, np.arange(block.start, block.stop), self.cadence)
            x = np.concatenate([x, others[block][..., None]], axis=-1)
            forecast[block] = np.einsum("tefk,efk->tef", x, self.weights)
            innovations[block] = (z[block] - forecast[block]) / self.scale
            used = np.isfinite(clipped[block]) & ~outliers(innovations[block], block)[..., None]
            after = slice(block.start + 1, block.stop + 1)
            sums[after] = sums[first] + np.cumsum(np.where(used, clipped[block], 0.0), axis=0)
            counts[after] = counts[first] + np.cumsum(used, axis=0)
        return innovations, forecast

    def to_plain(self) -> dict[str, Any]:
        return {"weights": self.weights, "scale": self.scale}

    @classmethod
    def from_plain(cls, raw: dict[str, Any], cadence: Cadence) -> Self:
        return cls(cadence, raw["weights"], raw["scale"])

    def for_entities(self, count: int) -> Self:
        """Extend to more entities, with a forecast of 0 for those after the fitted ones."""
        weights = np.zeros((count, *self.weights.shape[1:]))
        weights[: len(self.weights)] = self.weights
        return self._replace(weights=weights)


def inputs(z: Floats, outliers: Bools, cadence: Cadence) -> Floats:
    """Inputs of the forecast for all rows at once, (T, E, F, 5)."""
    clipped = np.clip(z, -MAX_INPUT, MAX_INPUT)
    used = np.isfinite(clipped) & ~outliers[..., None]
    zero = np.zeros((1, *z.shape[1:]))
    sums = np.concatenate([zero, np.cumsum(np.where(used, clipped, 0.0), axis=0)])
    counts = np.concatenate([zero, np.cumsum(used, axis=0)])
    return np.concatenate(
        [_means(sums, counts, np.arange(len(z)), cadence), _others(clipped)[..., None]], axis=-1
    )


def _means(sums: Floats, counts: Floats, rows: Ints, cadence: Cadence) -> Floats:
    """Means over each length up to a gap before each row, (B, E, F, 4); shrunk if incomplete."""
    end = np.maximum(rows - cadence.steps(GAP_S) + 1, 0)
    parts = []
    for length in LENGTHS_S:
        steps = cadence.steps(length)
        begin = np.maximum(end - steps, 0)
        parts.append((sums[end] - sums[begin]) / np.maximum(counts[end] - counts[begin], steps / 2))
    return np.stack(parts, axis=-1)


def _others(clipped: Floats) -> Floats:
    """Median over all entities one window earlier, (T, E, F); 0 with fewer than 5 entities."""
    if clipped.shape[1] < MIN_ENTITIES:
        return np.zeros_like(clipped)
    known = np.nan_to_num(clipped)
    median = np.median(known, axis=1, keepdims=True)
    before = np.concatenate([np.zeros_like(median[:1]), median[:-1]])
    return np.broadcast_to(before, clipped.shape)


def _solve(x: Floats, y: Floats, prior: Floats, strength: float) -> Floats:
    """Trimmed ridge regression towards the prior."""
    weights = prior
    for _ in range(3):
        near = np.abs(y - x @ weights) < MAX_FIT_ERROR
        a, b = x[near], y[near]
        weights = np.linalg.solve(
            a.T @ a + strength * np.eye(x.shape[1]), a.T @ b + strength * prior
        )
    return weights
