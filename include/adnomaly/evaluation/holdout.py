"""The trial of a detector: the windows that follow those it learned from, simulated, with attacks planted by chance."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pyarrow.parquet as pq

from adnomaly.detector.spec import Spec
from adnomaly.detector.windows import Windows, from_table
from adnomaly.evaluation.backtest import BacktestSet
from adnomaly.evaluation.metrics import Event
from adnomaly.evaluation.scenarios import event_of, surges_of
from adnomaly.synthetic.attacks import plan_attacks
from adnomaly.synthetic.traffic import Traffic
from adnomaly.synthetic.windows import simulate_windows
from adnomaly.windows import SIZE, SLIDE

ATTACKS_PER_DAY: Final = 15.5
STRENGTHS: Final = (0.7, 1.5)

_WINDOWS: Final = "trial.parquet"
_EVENTS: Final = "trial.json"


def build_holdout(
    folder: Path, traffic: Traffic, past: Windows, start: datetime, *, seed: int, days: float
) -> None:
    """Plan attacks, simulate the windows from `start` on, and keep both in the folder. Equal arguments give an equal trial.

    The traffic is that of the settings, its promotions among it, at the rate that the past windows show.
    """
    like = replace(traffic, base_eps=traffic.base_eps * _rate(traffic, past))
    end = start + timedelta(days=days)
    attacks = plan_attacks(
        like,
        start=start,
        end=end,
        count=round(ATTACKS_PER_DAY * days),
        seed=seed,
        strengths=STRENGTHS,
    )
    pq.write_table(simulate_windows(like, start, days, seed, attacks), folder / _WINDOWS)
    events = [*map(event_of, attacks), *surges_of(like, start, end)]
    (folder / _EVENTS).write_bytes(msgspec.json.encode(events))


def load_holdout(folder: Path, past: Windows) -> BacktestSet:
    """The trial that `build_trial` left in the folder."""
    live = from_table(pq.read_table(folder / _WINDOWS), Spec.ours())
    return BacktestSet(
        past, live, msgspec.json.decode((folder / _EVENTS).read_bytes(), type=list[Event])
    )


def _rate(traffic: Traffic, past: Windows) -> float:
    """Clicks in these windows against those that the traffic would have sent."""
    first, last = int(past.end_s.min()) // 60, int(past.end_s.max()) // 60
    expected = traffic.volume(np.arange(first, last)).sum()
    return float(past.values[:, Spec.ours().volume].sum() / (SIZE / SLIDE) / expected)
