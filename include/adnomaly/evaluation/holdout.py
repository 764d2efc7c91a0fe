"""The holdout of a training run: simulated windows that follow its sample, with planted attacks."""

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
from adnomaly.evaluation.scenarios import ATTACKS_PER_DAY, STRENGTHS, event_of, surges_of
from adnomaly.files import replacing, write_atomic
from adnomaly.synthetic.attacks import plan_attacks
from adnomaly.synthetic.traffic import Traffic
from adnomaly.synthetic.windows import simulate_windows
from adnomaly.windows import SIZE, SLIDE

_WINDOWS: Final = "trial.parquet"
_EVENTS: Final = "trial.json"


def build_holdout(
    folder: Path, traffic: Traffic, past: Windows, start: datetime, *, seed: int, days: float
) -> None:
    """Plan attacks, simulate windows from `start` on, and save both; deterministic.

    The traffic is that of the settings, benign surges included, at the rate of the past windows.
    """
    scaled = replace(traffic, base_eps=traffic.base_eps * _rate(traffic, past))
    end = start + timedelta(days=days)
    attacks = plan_attacks(
        scaled,
        start=start,
        end=end,
        count=round(ATTACKS_PER_DAY * days),
        seed=seed,
        strengths=STRENGTHS,
    )
    with replacing(folder / _WINDOWS) as draft:
        pq.write_table(simulate_windows(scaled, start, days, seed, attacks), draft)
    events = [*map(event_of, attacks), *surges_of(scaled, start, end)]
    write_atomic(folder / _EVENTS, msgspec.json.encode(events))


def load_holdout(folder: Path, past: Windows) -> BacktestSet:
    """The holdout that `build_holdout` saved in the folder."""
    live = from_table(pq.read_table(folder / _WINDOWS), Spec.ours())
    events = msgspec.json.decode((folder / _EVENTS).read_bytes(), type=list[Event])
    return BacktestSet(past, live, events)


def _rate(traffic: Traffic, past: Windows) -> float:
    """Clicks in the past windows divided by those that the traffic predicts."""
    first, last = int(past.end_s.min()) // 60, int(past.end_s.max()) // 60
    expected = traffic.volume(np.arange(first, last)).sum()
    return float(past.values[:, Spec.ours().volume].sum() / (SIZE / SLIDE) / expected)
