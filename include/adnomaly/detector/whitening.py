"""Independent coordinates of unit variance from correlated innovations.

Volume comes first. More of the same traffic (a promotion, a holiday sale) raises volume alone.
Where history shows more of such spikes than the budget of false incidents allows, a volume-only
spike up to the size in history counts little. A drop of volume, a larger rise, and a rise together
with other features count in full.
"""

from typing import Any, Final, NamedTuple, Self

import numpy as np

from adnomaly.arrays import Bools, Floats

MAX_FIT_Z: Final = 6.0
"""Windows with a larger |z| do not shape the covariance."""
BEND: Final = 3.0
"""Beyond this many deviations of volume, the slopes of the other features are fitted separately."""
MIN_ROWS: Final = 500
CALM_RADIUS: Final = 4.0
"""Within this radius of the other coordinates, a spike is one of volume only."""
SPIKE: Final = 5.0
KNOWN_SHARE: Final = 0.95
MAX_TOLERANCE: Final = float(np.log(2.5))
"""A rise of volume beyond this factor counts in full, whatever history shows."""
SOFT: Final = 0.1
MAX_SOFT: Final = 2.0
RIDGE: Final = 1e-6


class Whitening(NamedTuple):
    """For the features at `columns`; `volume` is a position among them, or None.

    Attributes:
        slope, bent: change of the other features per deviation of volume, below and above 3, (K,).
        whiten: of the other features, (K, K).
        spread: standard deviation of volume.
        volume_tolerance: volume-only rise that history shows, natural logarithm.
    """

    columns: tuple[int, ...]
    volume: int | None
    slope: Floats
    bent: Floats
    whiten: Floats
    spread: float
    volume_tolerance: float

    @classmethod
    def fit(cls, innovations: Floats, columns: tuple[int, ...], volume: int | None) -> Self:
        """Fit on innovations (n, F), without a tolerance for volume-only spikes."""
        rows = innovations[:, columns]
        rows = rows[np.isfinite(rows).all(axis=1)]
        near = rows[np.abs(rows).max(axis=1, initial=0) < MAX_FIT_Z]
        # Rows of standard normal noise keep the covariance regular where history is short.
        near = np.concatenate([near, np.random.default_rng(0).standard_normal((50, len(columns)))])
        covariance = np.atleast_2d(np.cov(near.T)) + RIDGE * np.eye(len(columns))
        if volume is None or volume not in columns:
            none, whiten = np.zeros(len(columns)), np.linalg.inv(np.linalg.cholesky(covariance))
            return cls(columns, None, none, none, whiten, 1.0, 0.0)
        v = columns.index(volume)
        others = [i for i in range(len(columns)) if i != v]
        slope = covariance[others, v] / covariance[v, v]
        rest = covariance[np.ix_(others, others)] - np.outer(slope, slope) * covariance[v, v]
        whiten = np.linalg.inv(np.linalg.cholesky(rest))
        draft = cls(columns, v, slope, slope, whiten, float(np.sqrt(covariance[v, v])), 0.0)
        return draft._replace(bent=draft._fit_bend(rows, v))

    def _fit_bend(self, rows: Floats, volume: int) -> Floats:
        bent = self.slope
        for _ in range(2):
            others = self._others(rows, volume, bent)
            high = (rows[:, volume] > BEND + 1) & (
                np.abs(others).max(axis=1, initial=0) < 2 * MAX_FIT_Z - CALM_RADIUS
            )
            if high.sum() < MIN_ROWS or not len(bent):
                return self.slope
            above = rows[high, volume] - BEND
            along = np.delete(rows[high], volume, axis=1) - BEND * self.slope
            bent = np.median(along / above[:, None], axis=0)
        return bent

    def _others(self, rows: Floats, column: int, bent: Floats) -> Floats:
        """The other features without their dependence on volume, whose column is given."""
        volume = rows[..., [column]]
        along = np.minimum(volume, BEND) * self.slope + np.maximum(volume - BEND, 0) * bent
        return np.delete(rows, column, axis=-1) - along

    def volume_only_spikes(self, innovations: Floats, lift: Floats) -> Bools:
        """Windows (...) in which volume alone is far too high."""
        if self.volume is None:
            return np.zeros(innovations.shape[:-1], bool)
        rows = innovations[..., self.columns]
        others = _transformed(self._others(rows, self.volume, self.bent), self.whiten)
        calm = np.linalg.norm(others, axis=-1) < CALM_RADIUS
        spikes: Bools = calm & (rows[..., self.volume] > SPIKE) & (lift > 0)
        return spikes

    def with_tolerance(self, spike_lifts: Floats) -> Self:
        """Tolerate volume-only spikes of these sizes."""
        known = float(np.quantile(spike_lifts, KNOWN_SHARE)) if len(spike_lifts) else 0.0
        return self._replace(volume_tolerance=min(known, MAX_TOLERANCE))

    def apply(self, innovations: Floats, lift: Floats) -> Floats:
        """Coordinates (..., K) of innovations (..., F): the other features first, then volume.

        Args:
            lift: ln(volume / expected volume), (...).
        """
        rows = innovations[..., self.columns]
        if self.volume is None:
            return _transformed(rows, self.whiten)
        volume = rows[..., self.volume] / self.spread
        if self.volume_tolerance > 0:
            rest = np.where(
                lift > 0, np.maximum(lift - self.volume_tolerance, 0) / np.maximum(lift, 1e-9), 1.0
            )
            soft = np.minimum(np.sqrt(SOFT) * np.abs(volume), MAX_SOFT)
            volume = np.where((lift > 0) & (volume > 0), np.maximum(volume * rest, soft), volume)
        others = _transformed(self._others(rows, self.volume, self.bent), self.whiten)
        return np.concatenate([others, volume[..., None]], axis=-1)

    def to_plain(self) -> dict[str, Any]:
        """As stored in preprocess.json, where the tolerance is called `allowance`."""
        plain = self._asdict()
        return {"allowance" if k == "volume_tolerance" else k: v for k, v in plain.items()}

    @classmethod
    def from_plain(cls, raw: dict[str, Any]) -> Self:
        plain = {"volume_tolerance" if k == "allowance" else k: v for k, v in raw.items()}
        return cls(**{**plain, "columns": tuple(raw["columns"])})


def _transformed(rows: Floats, matrix: Floats) -> Floats:
    """Rows (..., K) times matrix (J, K), (..., J).

    Not by BLAS, whose last bits depend on the number of rows.
    """
    product: Floats = np.einsum("...k,jk->...j", rows, matrix)
    return product
