"""The trial of a detector: windows like those it learned from, with attacks and promotions planted by chance."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adnomaly.model.columns import Columns
from adnomaly.model.evaluate import Event, Trial
from adnomaly.synthetic.attacks import Attack, plan_attacks
from adnomaly.synthetic.traffic import Traffic
from adnomaly.synthetic.windows import attack_of, simulate_windows
from adnomaly.windows import SIZE, SLIDE

if TYPE_CHECKING:
    from datetime import datetime

ATTACKS_PER_DAY: Final = 15.5
PROMOTIONS_PER_DAY: Final = 2.2
STRENGTHS: Final = (0.7, 1.5)

_WINDOWS: Final = "trial.parquet"
_EVENTS: Final = "trial.json"


def build_trial(folder: Path, traffic: Traffic, training: Columns, start: "datetime", *, seed: int, days: float) -> None:
    """Plan events, simulate the windows from `start` on, and keep both in the folder. Equal arguments give an equal trial.

    The traffic is that of the settings, at the rate that the training windows show.
    """
    like = replace(traffic, base_eps=traffic.base_eps * _rate(traffic, training))
    end = start + timedelta(days=days)
    promotions = plan_attacks(like, start=start, end=end, count=round(PROMOTIONS_PER_DAY * days), seed=seed + 1, kinds=["promotion"])
    attacks = plan_attacks(like, start=start, end=end, count=round(ATTACKS_PER_DAY * days), seed=seed, strengths=STRENGTHS)
    # A window of both counts as attacked: the later in the list wins.
    planned: list[Attack] = promotions + attacks
    windows = simulate_windows(like, start, days, seed, planned)
    hit = attack_of(windows, planned)
    pq.write_table(windows.append_column("event", pa.array(hit)), folder / _WINDOWS)
    events = [Event(a.kind, int(a.start.timestamp()), a.profile.benign) for a in planned]
    (folder / _EVENTS).write_bytes(msgspec.json.encode(events))


def load_trial(folder: Path) -> Trial:
    """The trial that `build_trial` left in the folder."""
    windows = pq.read_table(folder / _WINDOWS)
    events = msgspec.json.decode((folder / _EVENTS).read_bytes(), type=list[Event])
    return Trial(Columns.of(windows), windows["event"].to_numpy(), events)


def _rate(traffic: Traffic, training: Columns) -> float:
    """Clicks in these windows against those that the traffic would have sent."""
    first, last = int(training.end_s.min()) // 60, int(training.end_s.max()) // 60
    expected = traffic.volume(np.arange(first, last)).sum()
    return float(training.raw[:, 2].sum() / (SIZE / SLIDE) / expected)
