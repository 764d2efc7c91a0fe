"""Temporal smoothing of raw scores: an anomaly that lasts counts in full, a single window less.

Stream, files and thresholds share this function. A row depends on rows at or before it only.
"""

from typing import Final

import numpy as np

from adnomaly.arrays import Floats
from adnomaly.detector.grid import Cadence

OF: Final = 5
MIN_HIGH: Final = 3
"""Overlapping windows share events: the score must be reached in 3 of the last 5."""
DISCOUNT: Final = 0.5
"""Discount of a single window, on the logarithmic scale of raw scores."""
DECAY: Final = 1.2
"""Largest drop between two long windows, a factor of 0.3: the one after a peak belongs to it."""
LONG_S: Final = 1800


def smooth(raw_score: Floats, cadence: Cadence) -> Floats:
    """Smoothed raw scores (T, E). NaN stays NaN and counts as low for the rows after it."""
    filled = np.where(np.isfinite(raw_score), raw_score, -np.inf)
    if cadence.overlaps:
        filled = _persistent(filled)
    elif cadence.slide_s >= LONG_S:
        filled = _decaying(filled)
    return np.where(np.isfinite(raw_score), filled, np.nan)


def _persistent(raw_score: Floats) -> Floats:
    before = np.full((OF - 1, raw_score.shape[1]), -np.inf)
    padded = np.concatenate([before, raw_score])
    last = np.stack([padded[i : i + len(raw_score)] for i in range(OF)])
    reached = np.partition(last, OF - MIN_HIGH, axis=0)[OF - MIN_HIGH]
    smoothed: Floats = np.maximum(np.minimum(raw_score, reached), raw_score - DISCOUNT)
    return smoothed


def _decaying(raw_score: Floats) -> Floats:
    out = raw_score.copy()
    for row in range(1, len(out)):
        out[row] = np.maximum(out[row], out[row - 1] - DECAY)
    return out


def lookback(cadence: Cadence, row: int) -> int:
    """Number of rows before a row that its smoothed score depends on."""
    if cadence.overlaps:
        return OF - 1
    return row if cadence.slide_s >= LONG_S else 0
