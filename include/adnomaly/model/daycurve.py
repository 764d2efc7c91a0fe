"""The course of a day from medians and deviations per hour: robust, smooth, and closed round the clock."""

from typing import Final

import numpy as np

from adnomaly.model.slots import STEPS

KNOWN_HOURS: Final = 22
"""Hours of the day with believed medians that make an entity known; the missing ones are interpolated."""
SLOT_ROWS: Final = 24
"""Windows that a slot needs before its median is believed."""

MAD: Final = 1.4826
"""Median absolute deviation to standard deviation, for normal noise."""
LEAST_SCALE: Final = 1e-4
_LEAST_SHARE: Final = 0.3


def medians(values: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Median of each group, (groups, F); NaN for groups of fewer than SLOT_ROWS rows."""
    order = np.argsort(group, kind="stable")
    edges = np.searchsorted(group[order], np.arange(groups + 1))
    out = np.full((groups, values.shape[1]), np.nan)
    ordered = values[order]
    for i in np.flatnonzero(np.diff(edges) >= SLOT_ROWS):
        out[i] = np.median(ordered[edges[i] : edges[i + 1]], axis=0)
    return out


def fill(center: np.ndarray) -> np.ndarray:
    """Interpolate the few missing hours of a day round the clock; a day with too many of them is not known at all."""
    filled = np.full_like(center, np.nan)
    for e, side in np.ndindex(center.shape[:2]):
        hours = np.flatnonzero(~np.isnan(center[e, side, :, 0]))
        if len(hours) >= KNOWN_HOURS:
            for f in range(center.shape[3]):
                filled[e, side, :, f] = np.interp(np.arange(24), hours, center[e, side, hours, f], period=24)
    return filled


def curve(hours: np.ndarray) -> np.ndarray:
    """A smooth curve round the clock through the hours' middles (axis 2), at `STEPS` points per hour: Catmull and Rom's."""
    before, here, after, later = (np.roll(hours, -shift, axis=2) for shift in (-1, 0, 1, 2))
    t = np.arange(STEPS) / STEPS
    weights = ((-t + 2 * t**2 - t**3) / 2, (2 - 5 * t**2 + 3 * t**3) / 2, (t + 4 * t**2 - 3 * t**3) / 2, (t**3 - t**2) / 2)
    parts = (part[:, :, :, None] * weight[:, None] for part, weight in zip((before, here, after, later), weights, strict=True))
    return sum(parts, start=np.zeros(1)).reshape(*hours.shape[:2], 24 * STEPS, hours.shape[3])


def line(hours: np.ndarray) -> np.ndarray:
    """Straight lines round the clock through the hours' middles (axis 1), at `STEPS` points per hour."""
    t = (np.arange(STEPS) / STEPS)[:, None]
    between = hours[:, :, None] * (1 - t) + np.roll(hours, -1, axis=1)[:, :, None] * t
    return between.reshape(len(hours), 24 * STEPS, hours.shape[2])


def scales(distance: np.ndarray, group: np.ndarray, entities: int) -> np.ndarray:
    """1.4826 MAD per entity and hour with its neighbours, (E, 24, F), at least 0.3 of the entity's median scale."""
    order = np.argsort(group, kind="stable")
    edges = np.searchsorted(group[order], np.arange(entities * 24 + 1))
    ordered = distance[order]
    scale = np.full((entities, 24, distance.shape[1]), np.nan)
    for e, hour in np.ndindex(entities, 24):
        near = [e * 24 + (hour + step) % 24 for step in (-1, 0, 1)]
        rows = np.concatenate([ordered[edges[i] : edges[i + 1]] for i in near])
        rows = rows[~np.isnan(rows).any(axis=1)]
        if len(rows) >= SLOT_ROWS:
            scale[e, hour] = MAD * np.median(rows, axis=0)
    usual = np.array([np.nanmedian(own, axis=0) if (~np.isnan(own)).any() else np.ones(own.shape[1]) for own in scale])
    least = np.maximum(_LEAST_SHARE * usual, LEAST_SCALE)[:, None]
    return np.maximum(np.where(np.isnan(scale), usual[:, None], scale), least)
