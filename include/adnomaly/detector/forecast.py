"""What the hours before, and the other entities, say about the next difference: taken away before it is judged.

Traffic has good and bad days, and an hour like the last one. A linear forecast of each feature's z from its own means over the
last half hour, hour, 4 hours and day, and from the median of all entities one window before. The means end 90 minutes before
the window, so that an attack does not become usual while it lasts, and leave out windows that were themselves conspicuous.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Self

import numpy as np

from adnomaly.detector.day_curve import MAD
from adnomaly.detector.grid import Cadence

LENGTHS_S: Final = (1800, 3600, 4 * 3600, 24 * 3600)
GAP_S: Final = 90 * 60
LIMIT: Final = 3.0
"""A single window says no more than this, in standard deviations."""
USED: Final = 2.5
"""Windows further from the forecast than this do not shape it."""
SHRINK: Final = 200.0
"""Rows that the forecast of all entities counts for in that of a single one."""
FIT_EVERY_S: Final = 300
MIN_SCALE: Final = 0.05

Outliers = Callable[[np.ndarray, slice], np.ndarray]
"""Of the innovations of some rows (B, E, F), and the rows: which windows must not become usual, (B, E) bool."""


class ResidualForecast(NamedTuple):
    """A forecast per entity and feature.

    Attributes:
        cadence: of the windows.
        weights: of the four means and of the other entities, (E, F, 5).
        scale: standard deviation of what the forecast leaves, (F,), in those of z.
    """

    cadence: Cadence
    weights: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, z: np.ndarray, cadence: Cadence, left_out: np.ndarray) -> Self:
        """The forecast that fits z (T, E, F) best, without the windows that are left out, (T, E) bool."""
        before = inputs(z, left_out, cadence)
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
            left = y - np.einsum("tek,ek->te", x, weights[:, f])
            scale[f] = max(MIN_SCALE, MAD * np.nanmedian(np.abs(left)))
        return cls(cadence, weights, scale)

    def innovations(self, z: np.ndarray, outliers: Outliers) -> tuple[np.ndarray, np.ndarray]:
        """What the forecast leaves of z (T, E, F), in its own standard deviations, and the forecast in those of z.

        Row by row forward, as it would run live: what was conspicuous is known when its turn in the means comes.
        """
        gap = self.cadence.steps(GAP_S)
        clipped = np.clip(z, -LIMIT, LIMIT)
        sums, counts = np.zeros((len(z) + 1, *z.shape[1:])), np.zeros((len(z) + 1, *z.shape[1:]))
        others = _others(clipped)
        forecast, left = np.zeros_like(z), np.full_like(z, np.nan)
        for first in range(0, len(z), gap):
            block = slice(first, min(first + gap, len(z)))
            x = _means(sums, counts, np.arange(block.start, block.stop), self.cadence)
            x = np.concatenate([x, others[block][..., None]], axis=-1)
            forecast[block] = np.einsum("tefk,efk->tef", x, self.weights)
            left[block] = (z[block] - forecast[block]) / self.scale
            used = np.isfinite(clipped[block]) & ~outliers(left[block], block)[..., None]
            sums[block.start + 1 : block.stop + 1] = sums[first] + np.cumsum(
                np.where(used, clipped[block], 0.0), axis=0
            )
            counts[block.start + 1 : block.stop + 1] = counts[first] + np.cumsum(used, axis=0)
        return left, forecast

    def to_plain(self) -> dict[str, Any]:
        return {"weights": self.weights, "scale": self.scale}

    @classmethod
    def from_plain(cls, raw: dict[str, Any], cadence: Cadence) -> Self:
        return cls(cadence, raw["weights"], raw["scale"])

    def for_entities(self, count: int) -> Self:
        """With entities that it does not know after those it does; for them it forecasts nothing."""
        weights = np.zeros((count, *self.weights.shape[1:]))
        weights[: len(self.weights)] = self.weights
        return self._replace(weights=weights)


def inputs(z: np.ndarray, left_out: np.ndarray, cadence: Cadence) -> np.ndarray:
    """(T, E, F, 5)."""
    clipped = np.clip(z, -LIMIT, LIMIT)
    used = np.isfinite(clipped) & ~left_out[..., None]
    zero = np.zeros((1, *z.shape[1:]))
    sums = np.concatenate([zero, np.cumsum(np.where(used, clipped, 0.0), axis=0)])
    counts = np.concatenate([zero, np.cumsum(used, axis=0)])
    return np.concatenate(
        [_means(sums, counts, np.arange(len(z)), cadence), _others(clipped)[..., None]], axis=-1
    )


def _means(sums: np.ndarray, counts: np.ndarray, rows: np.ndarray, cadence: Cadence) -> np.ndarray:
    """Means over each length of time that ends a gap before each row, (B, E, F, 4); drawn to 0 where few windows are left."""
    end = np.maximum(rows - cadence.steps(GAP_S) + 1, 0)
    parts = []
    for length in LENGTHS_S:
        steps = cadence.steps(length)
        begin = np.maximum(end - steps, 0)
        parts.append((sums[end] - sums[begin]) / np.maximum(counts[end] - counts[begin], steps / 2))
    return np.stack(parts, axis=-1)


def _others(clipped: np.ndarray) -> np.ndarray:
    """Median of all entities one window before, (T, E, F); 0 with fewer than 5 of them."""
    if clipped.shape[1] < 5:
        return np.zeros_like(clipped)
    known = np.nan_to_num(clipped)
    median = np.median(known, axis=1, keepdims=True)
    before = np.concatenate([np.zeros_like(median[:1]), median[:-1]])
    return np.broadcast_to(before, clipped.shape)


def _solve(x: np.ndarray, y: np.ndarray, prior: np.ndarray, strength: float) -> np.ndarray:
    """Least squares without the rows that lie far off, drawn to the prior."""
    weights = prior
    for _ in range(3):
        near = np.abs(y - x @ weights) < USED
        a, b = x[near], y[near]
        weights = np.linalg.solve(
            a.T @ a + strength * np.eye(x.shape[1]), a.T @ b + strength * prior
        )
    return weights
