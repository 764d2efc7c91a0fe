"""From the height of single windows to that of a stretch of time: what lasts counts, what flickers counts less.

One function for stream, batch and command line; a row's height depends on rows at or before it only.
"""

from typing import Final

import numpy as np

from adnomaly.detector.grid import Cadence

OF: Final = 5
AT_LEAST: Final = 3
"""Where windows overlap, an event shows in all windows that hold it: 3 of the last 5 must be as high."""
DISCOUNT: Final = 0.5
"""A window that stands alone counts less by this, on the logarithmic scale of heights."""
DECAY: Final = 1.2
"""Where windows are long, a height falls by no more than this from one window to the next: after a peak the next window is still
part of it. 1.2 is a factor of 0.3."""
LONG_S: Final = 1800


def smooth(height: np.ndarray, cadence: Cadence) -> np.ndarray:
    """Heights (T, E) with their past; NaN stays NaN, and counts as low in the past of others."""
    filled = np.where(np.isfinite(height), height, -np.inf)
    if cadence.overlaps:
        filled = _lasting(filled)
    elif cadence.slide_s >= LONG_S:
        filled = _held(filled)
    return np.where(np.isfinite(height), filled, np.nan)


def _lasting(height: np.ndarray) -> np.ndarray:
    before = np.full((OF - 1, height.shape[1]), -np.inf)
    padded = np.concatenate([before, height])
    last = np.stack([padded[i : i + len(height)] for i in range(OF)])
    usual = np.partition(last, OF - AT_LEAST, axis=0)[OF - AT_LEAST]
    return np.maximum(np.minimum(height, usual), height - DISCOUNT)


def _held(height: np.ndarray) -> np.ndarray:
    out = height.copy()
    for row in range(1, len(out)):
        out[row] = np.maximum(out[row], out[row - 1] - DECAY)
    return out


def lookback(cadence: Cadence, row: int) -> int:
    """Rows before a row that its height depends on."""
    if cadence.overlaps:
        return OF - 1
    return row if cadence.slide_s >= LONG_S else 0
