"""Worlds of our own making, with attacks planted: weeks of history that nobody labels, then two weeks that are judged.

Development seeds are for choosing, test seeds for reporting; nothing may be chosen on the latter.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adnomaly.attack_kinds import ATTACKS, KNOWN
from adnomaly.attacks import Attack
from adnomaly.detector.grid import Cadence, Grid, to_grid
from adnomaly.detector.spec import Spec
from adnomaly.detector.windows import from_table
from adnomaly.evaluation.metrics import Event, GroundTruth
from adnomaly.synthetic.attacks import plan_attacks
from adnomaly.synthetic.traffic import Traffic, minute_of
from adnomaly.synthetic.variation import moment_of
from adnomaly.synthetic.windows import simulate_windows
from adnomaly.windows import SIZE, SLIDE

START: Final = datetime(2026, 3, 2, tzinfo=UTC)
"""A Monday; Easter and other moving feasts are not in the world, the first of May is."""
HISTORY_DAYS: Final = 28
LIVE_DAYS: Final = 14
LIVE: Final = START + timedelta(days=HISTORY_DAYS)
ATTACKS_PER_DAY: Final = 15.5
HISTORY_ATTACKS_PER_DAY: Final = 2.0
STRENGTHS: Final = (0.7, 1.5)

DEVELOPMENT_SEEDS: Final = (1, 2, 3)
TEST_SEEDS: Final = (101, 102, 103)


class Scenario(NamedTuple):
    """One seed of one world: windows of history and of the time that is judged, on one grid, and what happened.

    Attributes:
        split: the first row that is judged.
        truth: of the rows from `split` on.
    """

    grid: Grid
    split: int
    truth: GroundTruth

    @property
    def history(self) -> Grid:
        return self.grid.between(0, self.split)


def build(
    traffic: Traffic,
    seed: int,
    *,
    strengths: tuple[float, float] = STRENGTHS,
    kinds: Sequence[str] = ATTACKS,
) -> Scenario:
    """The world of one seed; equal arguments give equal worlds."""
    table, events = simulate(traffic, seed, strengths=strengths, kinds=kinds)
    grid, _ = to_grid(
        from_table(table, Spec.ours()),
        Cadence(int(SIZE.total_seconds()), int(SLIDE.total_seconds())),
    )
    split = int(np.searchsorted(grid.end_s, int(LIVE.timestamp()), side="right"))
    return Scenario(grid, split, GroundTruth(grid.between(split, len(grid.end_s)), events))


def simulate(
    traffic: Traffic,
    seed: int,
    *,
    strengths: tuple[float, float] = STRENGTHS,
    kinds: Sequence[str] = ATTACKS,
) -> tuple[pa.Table, list[Event]]:
    """All windows of one seed, and what happens in the time that is judged."""
    own = replace(traffic, seed=seed)
    live, end = LIVE, LIVE + timedelta(days=LIVE_DAYS)
    unlabelled = plan_attacks(
        own,
        start=START,
        end=live,
        count=round(HISTORY_ATTACKS_PER_DAY * HISTORY_DAYS),
        seed=seed + 1,
        kinds=KNOWN,
    )
    attacks = plan_attacks(
        own,
        start=live,
        end=end,
        count=round(ATTACKS_PER_DAY * LIVE_DAYS),
        seed=seed,
        strengths=strengths,
        kinds=kinds,
    )
    table = simulate_windows(own, START, HISTORY_DAYS + LIVE_DAYS, seed, [*unlabelled, *attacks])
    return table, [*map(event_of, attacks), *surges_of(own, live, end)]


def write_example(traffic: Traffic, folder: Path, seed: int = 7) -> list[Path]:
    """history.parquet, live.parquet and labels.parquet of one seed."""
    table, events = simulate(traffic, seed)
    folder.mkdir(parents=True, exist_ok=True)
    history = pc.less_equal(table["window_end"], pa.scalar(LIVE, table["window_end"].type))
    moments = {
        name: [datetime.fromtimestamp(getattr(e, f"{name}_s"), UTC) for e in events]
        for name in ("start", "end")
    }
    where = dict(
        zip(
            ("geo", "platform"),
            zip(*(e.entity.split("|") for e in events), strict=True),
            strict=True,
        )
    )
    about = {name: [getattr(e, name) for e in events] for name in ("kind", "benign", "strength")}
    tables = {
        "history": table.filter(history),
        "live": table.filter(pc.invert(history)),
        "labels": pa.table(
            moments | {name: list(values) for name, values in where.items()} | about
        ),
    }
    for name, part in tables.items():
        pq.write_table(part, folder / f"{name}.parquet")
    return [folder / f"{name}.parquet" for name in tables]


def event_of(attack: Attack) -> Event:
    """What is known of a planted attack."""
    return Event(
        attack.kind,
        f"{attack.geo}|{attack.platform}",
        int(attack.start.timestamp()),
        int(attack.end.timestamp()),
        False,
        attack.strength,
    )


def surges_of(traffic: Traffic, start: datetime, end: datetime) -> list[Event]:
    """The promotions of a world between two moments."""
    found = traffic.benign_surges(minute_of(start), minute_of(end))
    times = [
        (int(moment_of(p.start).timestamp()), int(moment_of(p.end).timestamp())) for p in found
    ]
    return [
        Event("promotion", "|".join(traffic.entities[p.entity]), *time, True, p.lift)
        for p, time in zip(found, times, strict=True)
    ]
