"""The course of a day from medians per hour: smooth, and closed round the clock."""

from typing import Final

import numpy as np

STEPS: Final = 4
"""Points of a curve per hour. Point 0 is the middle of the hour from 0 to 1 o'clock."""

KNOWN_HOURS: Final = 22
"""Hours of the day with believed medians that make an entity known; the missing ones are interpolated."""
SLOT_ROWS: Final = 24
"""Windows that a slot needs before its median is believed."""

MAD: Final = 1.4826
"""Median absolute deviation to standard deviation, for normal noise."""


def fill(center: np.ndarray) -> np.ndarray:
    """Interpolate the few missing hours of a day round the clock; a day with too many of them is not known at all."""
    filled = np.full_like(center, np.nan)
    for e, side in np.ndindex(center.shape[:2]):
        hours = np.flatnonzero(~np.isnan(center[e, side, :, 0]))
        if len(hours) >= KNOWN_HOURS:
            for f in range(center.shape[3]):
                filled[e, side, :, f] = np.interp(
                    np.arange(24), hours, center[e, side, hours, f], period=24
                )
    return filled


def curve(hours: np.ndarray) -> np.ndarray:
    """A smooth curve round the clock through the hours' middles (axis 2), at `STEPS` points per hour: Catmull and Rom's."""
    before, here, after, later = (np.roll(hours, -shift, axis=2) for shift in (-1, 0, 1, 2))
    t = np.arange(STEPS) / STEPS
    weights = (
        (-t + 2 * t**2 - t**3) / 2,
        (2 - 5 * t**2 + 3 * t**3) / 2,
        (t + 4 * t**2 - 3 * t**3) / 2,
        (t**3 - t**2) / 2,
    )
    parts = (
        part[:, :, :, None] * weight[:, None]
        for part, weight in zip((before, here, after, later), weights, strict=True)
    )
    return sum(parts, start=np.zeros(1)).reshape(*hours.shape[:2], 24 * STEPS, hours.shape[3])
