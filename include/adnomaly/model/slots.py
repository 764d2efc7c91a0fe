"""Where a window lies in the week: between which quarters of an hour, and how much of it at a weekend (UTC)."""

import math
from datetime import date
from typing import Final, NamedTuple

import numpy as np

from adnomaly.windows import SIZE

_SIZE_S: Final = int(SIZE.total_seconds())
_DAY_S: Final = 86400
_HOUR_S: Final = 3600

STEPS: Final = 4
"""Steps per hour. Step 0 is the middle of the hour from 0 to 1 o'clock."""


class Slots(NamedTuple):
    """Of many windows.

    Attributes:
        step: the last step before the window's middle, 0 to 95.
        weekend: share of the window on a Saturday or Sunday, 0 to 1.
        share: how far the window's middle is on its way to the next step, 0 to 1.
    """

    step: np.ndarray
    weekend: np.ndarray
    share: np.ndarray


def hour_of(end_s: np.ndarray) -> np.ndarray:
    """The hour that holds the middle of each window."""
    return (end_s - _SIZE_S // 2) % _DAY_S // _HOUR_S


def slots_of(end_s: np.ndarray) -> Slots:
    """The slots of windows by their ends, Unix seconds."""
    steps = ((end_s - _SIZE_S / 2) % _DAY_S / _HOUR_S - 0.5) * STEPS
    below = np.floor(steps)
    # 1970-01-01 was a Thursday. A window that ends at midnight belongs to the day before.
    last, first = ((((end_s - back) // _DAY_S + 3) % 7 >= 5).astype(float) for back in (1, _SIZE_S))
    share = np.minimum(end_s % _DAY_S, _SIZE_S) / _SIZE_S
    weekend = np.where(last == first, last, last * share + first * (1 - share))
    return Slots(below.astype(np.int64) % (24 * STEPS), weekend, steps - below)


def slot_of(timestamp: str) -> tuple[int, float, float]:
    """Step, weekend and share of one window, from its end as ISO 8601 text in UTC."""
    ordinal = date(int(timestamp[:4]), int(timestamp[5:7]), int(timestamp[8:10])).toordinal() - 1  # ordinal 1 was a Monday
    second = int(timestamp[11:13]) * _HOUR_S + int(timestamp[14:16]) * 60 + int(timestamp[17:19])
    steps = ((second - _SIZE_S / 2) % _DAY_S / _HOUR_S - 0.5) * STEPS
    below = math.floor(steps)
    last, first = ((ordinal - (second < back)) % 7 >= 5 for back in (1, _SIZE_S))
    share = min(second, _SIZE_S) / _SIZE_S
    return below % (24 * STEPS), float(last) if last == first else last * share + first * (1 - share), steps - below
