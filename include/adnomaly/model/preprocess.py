"""From raw window features to residuals: how far a window is from what its entity usually does at that hour.

Per entity the expected value follows 48 slots (24 hours, on weekdays and at weekends), a smooth curve through the middles of
the hours; a residual is counted in robust standard deviations of that entity around that hour. A window of an unknown
entity is compared with all entities together.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

import numpy as np

from adnomaly.errors import NotEnoughHistory
from adnomaly.features import CONTRACT
from adnomaly.model.columns import Columns
from adnomaly.model.daycurve import KNOWN_HOURS, LEAST_SCALE, MAD, SLOT_ROWS, curve, fill, line, medians, scales
from adnomaly.model.slots import STEPS, hour_of, slot_of, slots_of

REFINEMENTS: Final = 2
CLIP: Final = 30.0
"""Residuals beyond this many deviations say nothing more."""

_LEAST_CTR: Final = 1e-6


class Residual(NamedTuple):
    """One window against its baseline; lists are in the order of the features.

    Attributes:
        z: robust standard deviations, within +-30.
        expected: in the features' own units.
        known: against its own entity, not against all of them.
    """

    z: list[float]
    expected: list[float]
    known: bool


class Baseline:
    """What is normal. Arrays are in transformed units: ln(ctr), bounce rate, ln(1 + count).

    Attributes:
        entities: known `geo|platform`; their position is the first index of the arrays.
        center: at the middle of each hour, per entity, weekday (0) or weekend (1), hour and feature, (E, 2, 24, F); NaN where
            it is not known.
        scale: per entity, hour and feature, (E, 24, F), above 0.
        pooled_center, pooled_scale: of all entities together, (F,).
    """

    def __init__(
        self, entities: Sequence[str], center: np.ndarray, scale: np.ndarray, pooled_center: np.ndarray, pooled_scale: np.ndarray
    ) -> None:
        self.entities = tuple(entities)
        self.center, self.scale, self.pooled_center, self.pooled_scale = center, scale, pooled_center, pooled_scale
        self.known = ~np.isnan(center).any(axis=(2, 3))
        self._number = {name: i for i, name in enumerate(self.entities)}
        self._center, self._scale = curve(center), line(scale)
        # One row at a time is faster in plain lists than in numpy.
        self._centers, self._scales, self._knowns = self._center.tolist(), self._scale.tolist(), self.known.tolist()
        self._pooled = (pooled_center.tolist(), pooled_scale.tolist())

    @classmethod
    def fit(cls, windows: Columns) -> Self:
        """Medians and scales of these windows.

        Raises:
            NotEnoughHistory: no entity has enough windows in enough hours.
        """
        values = transformed(windows.raw)
        weekend, hour = slots_of(windows.end_s).weekend, hour_of(windows.end_s)
        group = (windows.entity * 2 + (weekend >= 0.5)) * 24 + hour
        center = medians(values, group, len(windows.entities) * 48).reshape(-1, 2, 24, values.shape[1])
        center = fill(center)
        if np.isnan(center).any(axis=(2, 3)).all():
            raise NotEnoughHistory(
                f"a baseline needs {SLOT_ROWS} windows in {KNOWN_HOURS} hours of the day, got {len(windows)} windows over "
                f"{windows.days:.1f} days: generate or wait for more history"
            )
        unit, level = np.ones_like(center[:, 0]), np.ones(values.shape[1])
        # The median over an hour is not the value at its middle where the day's curve bends: what is left is added.
        for _ in range(REFINEMENTS):
            left = values - cls(windows.entities, center, unit, level, level).expected(windows)
            center = center + np.nan_to_num(medians(left, group, len(windows.entities) * 48)).reshape(center.shape)
        pooled_center = np.median(values, axis=0)
        pooled_scale = np.maximum(MAD * np.median(np.abs(values - pooled_center), axis=0), LEAST_SCALE)
        left = values - cls(windows.entities, center, unit, level, level).expected(windows)
        scale = scales(np.abs(left), windows.entity * 24 + hour, len(windows.entities))
        # Rounded as it will be stored, so that what is trained and what is served agree to the last bit.
        return cls.from_json(cls(windows.entities, center, scale, pooled_center, pooled_scale).to_json())

    def expected(self, windows: Columns) -> np.ndarray:
        """Transformed value expected by each window's own entity, NaN where it is not known, (n, F)."""
        entity = self._numbers(windows)
        step, weekend, share = slots_of(windows.end_s)
        low, high = self._center[entity, :, step], self._center[entity, :, (step + 1) % (24 * STEPS)]
        both = low + (high - low) * share[:, None, None]
        out = np.where((weekend == 0)[:, None], both[:, 0], both[:, 1])
        mixed = (weekend > 0) & (weekend < 1)
        out[mixed] = both[mixed, 0] + (both[mixed, 1] - both[mixed, 0]) * weekend[mixed, None]
        out[entity < 0] = np.nan
        return out

    def residuals(self, windows: Columns, *, pooled: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Residuals (n, F) float32 within +-30, and which of them are against the window's own entity, (n,) bool.

        Args:
            pooled: compare every window with all entities together.
        """
        values = transformed(windows.raw)
        z = (values - self.pooled_center) / self.pooled_scale
        known = np.zeros(len(values), bool)
        if not pooled:
            entity, (step, _, share) = self._numbers(windows), slots_of(windows.end_s)
            expected = self.expected(windows)
            known = ~np.isnan(expected).any(axis=1)
            low, high = self._scale[entity, step], self._scale[entity, (step + 1) % (24 * STEPS)]
            own = (values - expected) / (low + (high - low) * share[:, None])
            z[known] = own[known]
        return np.clip(z, -CLIP, CLIP).astype(np.float32), known

    def residual(self, row: Mapping[str, Any]) -> Residual:
        """The residual of one row: the features, and `geo`, `platform` and `timestamp` (the window's end) when known."""
        values = [math.log(max(row["ctr_avg"], _LEAST_CTR)), float(row["bounce_rate_avg"]), math.log1p(row["event_count"])]
        found = self._lookup(row.get("geo"), row.get("platform"), row.get("timestamp"))
        center, scale = found or self._pooled
        z = [min(CLIP, max(-CLIP, (v - c) / s)) for v, c, s in zip(values, center, scale, strict=True)]
        return Residual(z, [math.exp(center[0]), center[1], math.expm1(center[2])], found is not None)

    def _lookup(self, geo: str | None, platform: str | None, timestamp: str | None) -> tuple[list[float], list[float]] | None:
        number = self._number.get(f"{geo}|{platform}") if timestamp else None
        if number is None or timestamp is None:
            return None
        step, weekend, share = slot_of(timestamp)
        centers, scales, knowns = self._centers[number], self._scales[number], self._knowns[number]
        after = (step + 1) % (24 * STEPS)
        sides = [
            [a + (b - a) * share for a, b in zip(side[step], side[after], strict=True)] if known else None
            for side, known in zip(centers, knowns, strict=True)
        ]
        weekday_side, weekend_side = sides
        if weekend in (0, 1):
            center = weekend_side if weekend else weekday_side
        else:
            center = weekday_side and weekend_side and [a + (b - a) * weekend for a, b in zip(weekday_side, weekend_side, strict=True)]
        return center and (center, [a + (b - a) * share for a, b in zip(scales[step], scales[after], strict=True)])

    def _numbers(self, windows: Columns) -> np.ndarray:
        """Our number of each window's entity, -1 when we do not have it."""
        return np.array([self._number.get(name, -1) for name in windows.entities], np.int64)[windows.entity]

    def to_json(self) -> dict[str, Any]:
        """Plain lists, 9 significant digits; NaN is written as null."""
        return {
            "features": list(CONTRACT),
            "transforms": ["ln", "none", "ln1p"],
            "clip": CLIP,
            "entities": list(self.entities),
            "center": _plain(self.center),
            "scale": _plain(self.scale),
            "pooled_center": _plain(self.pooled_center),
            "pooled_scale": _plain(self.pooled_scale),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The baseline that `to_json` wrote.

        Raises:
            ValueError: it is of other features, of a wrong shape, or holds a scale that is not above 0.
        """
        if raw["features"] != list(CONTRACT) or raw["clip"] != CLIP:
            raise ValueError(f"is for features {raw['features']}, this code knows {list(CONTRACT)}")
        arrays = [np.array(raw[name], np.float64) for name in ("center", "scale", "pooled_center", "pooled_scale")]
        count, width = len(raw["entities"]), len(CONTRACT)
        if [a.shape for a in arrays] != [(count, 2, 24, width), (count, 24, width), (width,), (width,)]:
            raise ValueError(f"arrays have the shapes {[a.shape for a in arrays]} for {count} entities")
        if not (arrays[1] > 0).all() or not (arrays[3] > 0).all() or not np.isfinite(arrays[2]).all():
            raise ValueError("a scale is not above 0")
        return cls(raw["entities"], *arrays)


def transformed(raw: np.ndarray) -> np.ndarray:
    """ln(ctr), bounce rate, ln(1 + count), (n, F) float64."""
    ctr, bounce, count = raw.T
    return np.column_stack([np.log(np.maximum(ctr, _LEAST_CTR)), bounce, np.log1p(count)])


def _plain(array: np.ndarray) -> Any:
    flat = [None if math.isnan(v) else float(f"{v:.9g}") for v in array.ravel().tolist()]
    return np.array(flat, object).reshape(array.shape).tolist()
