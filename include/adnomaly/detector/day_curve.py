"""A smooth, periodic curve over the day from hourly medians."""

from typing import Final

import numpy as np

from adnomaly.arrays import Floats

STEPS: Final = 4
"""Points of a curve per hour. Point 0 is 00:30."""

MIN_HOURS: Final = 22
"""Hours with a median that an entity needs; the missing ones are interpolated."""
MIN_HOUR_ROWS: Final = 24
"""Windows behind the median of an hour."""

MAD: Final = 1.4826
"""Median absolute deviation to standard deviation, for normal noise."""


def fill(center: Floats) -> Floats:
    """Interpolate missing hours periodically, (E, 2, 24, F); NaN with fewer than 22 of them."""
    filled = np.full_like(center, np.nan)
    for e, side in np.ndindex(center.shape[:2]):
        hours = np.flatnonzero(~np.isnan(center[e, side, :, 0]))
        if len(hours) >= MIN_HOURS:
            for f in range(center.shape[3]):
                filled[e, side, :, f] = np.interp(
                    np.arange(24), hours, center[e, side, hours, f], period=24
                )
    return filled


def curve(hours: Floats) -> Floats:
    """Catmull-Rom spline through the middles of the hours (axis 2), `STEPS` points per hour."""
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
    total: Floats = sum(parts, start=np.zeros(1))
    return total.reshape(*hours.shape[:2], 24 * STEPS, hours.shape[3])
