"""From offline features to a champion: sample, fit, calibrate, evaluate, seal, register, promote.

Each step reads and replaces files of one work folder and returns the folder, so that any step can be run again.
"""

import hashlib
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np

from adnomaly.errors import NotEnoughHistory
from adnomaly.features import CONTRACT
from adnomaly.windows import time_text

if TYPE_CHECKING:
    import pyarrow as pa

    from adnomaly.model.evaluate import Evaluation, Trial
    from adnomaly.model.promotion import Decision
    from adnomaly.synthetic.traffic import Traffic

TRAIN_DAYS: Final = 14
CALIBRATE_DAYS: Final = 7
TEST_DAYS: Final = 14
ATTACKS: Final = 216
PROMOTIONS: Final = 30
LEAST_SHARE: Final = 0.9
"""Of the days asked for, that must be there."""

SENTINELS: Final = (30, 20, 6)
"""Rows that every loaded model must answer as here: normal, attacked, without an entity."""

log = logging.getLogger(__name__)


class OfflineTable(Protocol):
    """All windows, one file per UTC day."""

    def days(self) -> list[Any]: ...
    def between(self, start: datetime, end: datetime) -> "pa.Table": ...


class Sample(msgspec.Struct, frozen=True):
    """What a model learns from: moments in UTC, windows with start < window_end <= end of each part."""

    start: datetime
    split: datetime
    end: datetime
    train_days: float
    seed: int
    sha256: str
    rows: int
    calibrate_rows: int
