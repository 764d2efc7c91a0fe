"""Features that move together, taken apart: independent axes of unit spread, and how far out a window lies.

Volume is taken first. More of the same traffic (a promotion, a holiday sale) moves volume alone: where history shows more of such
excursions than false incidents are allowed, volume alone counts little up to the size that history knows. A fall of volume, a
larger rise, and a rise in company of other features count in full.
"""

from typing import Any, Final, NamedTuple, Self

import numpy as np

USED: Final = 6.0
"""Windows with a larger |z| do not shape the axes."""
BEND: Final = 3.0
"""Beyond this many deviations of volume, what other features do along with it is learned apart."""
MIN_ROWS: Final = 500
COMPANY: Final = 4.0
"""A window within this radius of the other axes has no company for its volume."""
EXCURSION: Final = 5.0
KNOWN_SHARE: Final = 0.95
MAX_RISE: Final = float(np.log(2.5))
"""A rise of volume beyond this factor counts in full, whatever history shows."""
SOFT: Final = 0.1
SOFT_LIMIT: Final = 2.0
RIDGE: Final = 1e-6


class Whitening(NamedTuple):
    """For features at `columns` of the innovations; `volume` is a position among them, or None.

    Attributes:
        slope, bent: what the other features do per deviation of volume, below and above 3 deviations, (K,).
        whiten: of the other features, (K, K).
        spread: of volume.
        allowance: rise of volume alone that history knows, as a natural logarithm.
    """

    columns: tuple[int, ...]
    volume: int | None
    slope: np.ndarray
    bent: np.ndarray
    whiten: np.ndarray
    spread: float
    volume_tolerance: float

    @classmethod
    def fit(cls, left: np.ndarray, columns: tuple[int, ...], volume: int | None) -> Self:
        """Axes of innovations (n, F); without an allowance for volume alone."""
        rows = left[:, columns]
        rows = rows[np.isfinite(rows).all(axis=1)]
        near = rows[np.abs(rows).max(axis=1, initial=0) < USED]
        # A few rows of plain normal noise keep the axes sound where history is short.
        near = np.concatenate([near, np.random.default_rng(0).standard_normal((50, len(columns)))])
        spread = np.atleast_2d(np.cov(near.T)) + RIDGE * np.eye(len(columns))
        if volume is None or volume not in columns:
            none = np.zeros(len(columns))
            return cls(
                columns, None, none, none, np.linalg.inv(np.linalg.cholesky(spread)), 1.0, 0.0
            )
        v = columns.index(volume)
        others = [i for i in range(len(columns)) if i != v]
        slope = spread[others, v] / spread[v, v]
        rest = spread[np.ix_(others, others)] - np.outer(slope, slope) * spread[v, v]
        draft = cls(
            columns,
            v,
            slope,
            slope,
            np.linalg.inv(np.linalg.cholesky(rest)),
            float(np.sqrt(spread[v, v])),
            0.0,
        )
        return draft._replace(bent=draft._learn_bend(rows))

    def _learn_bend(self, rows: np.ndarray) -> np.ndarray:
        bent = self.slope
        for _ in range(2):
            others = self._others(rows, bent)
            high = (rows[:, self.volume] > BEND + 1) & (
                np.abs(others).max(axis=1, initial=0) < 2 * USED - COMPANY
            )
            if high.sum() < MIN_ROWS or not len(bent):
                return self.slope
            above = rows[high, self.volume] - BEND
            along = np.delete(rows[high], self.volume, axis=1) - BEND * self.slope
            bent = np.median(along / above[:, None], axis=0)
        return bent

    def _others(self, rows: np.ndarray, bent: np.ndarray) -> np.ndarray:
        """The other features without what goes along with volume."""
        volume = rows[..., [self.volume]]
        along = np.minimum(volume, BEND) * self.slope + np.maximum(volume - BEND, 0) * bent
        return np.delete(rows, self.volume, axis=-1) - along

    def volume_only_spikes(self, left: np.ndarray, lift: np.ndarray) -> np.ndarray:
        """Windows whose volume alone is far too high, of innovations (..., F)."""
        if self.volume is None:
            return np.zeros(left.shape[:-1], bool)
        rows = left[..., self.columns]
        calm = (
            np.linalg.norm(_turned(self._others(rows, self.bent), self.whiten), axis=-1) < COMPANY
        )
        return calm & (rows[..., self.volume] > EXCURSION) & (lift > 0)

    def with_tolerance(self, lone_lifts: np.ndarray) -> Self:
        """The same axes, with the size of these rises of volume alone allowed."""
        known = float(np.quantile(lone_lifts, KNOWN_SHARE)) if len(lone_lifts) else 0.0
        return self._replace(volume_tolerance=min(known, MAX_RISE))

    def apply(self, left: np.ndarray, lift: np.ndarray) -> np.ndarray:
        """Coordinates (..., F) of innovations (..., F): the other features first, then volume.

        Args:
            lift: logarithm of volume against what was expected, (...).
        """
        rows = left[..., self.columns]
        if self.volume is None:
            return _turned(rows, self.whiten)
        volume = rows[..., self.volume] / self.spread
        if self.volume_tolerance > 0:
            rest = np.where(
                lift > 0, np.maximum(lift - self.volume_tolerance, 0) / np.maximum(lift, 1e-9), 1.0
            )
            soft = np.minimum(np.sqrt(SOFT) * np.abs(volume), SOFT_LIMIT)
            volume = np.where((lift > 0) & (volume > 0), np.maximum(volume * rest, soft), volume)
        return np.concatenate(
            [_turned(self._others(rows, self.bent), self.whiten), volume[..., None]], axis=-1
        )

    def to_plain(self) -> dict[str, Any]:
        """As stored in preprocess.json, where the tolerance is called `allowance`."""
        plain = self._asdict()
        return {"allowance" if k == "volume_tolerance" else k: v for k, v in plain.items()}

    @classmethod
    def from_plain(cls, raw: dict[str, Any]) -> Self:
        plain = {"volume_tolerance" if k == "allowance" else k: v for k, v in raw.items()}
        return cls(**{**plain, "columns": tuple(raw["columns"])})


def _turned(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Rows (..., K) times a matrix (J, K), (..., J); not by BLAS, whose last bits depend on how many rows there are."""
    return np.einsum("...k,jk->...j", rows, matrix)
