"""Synthetic scenarios with planted attacks: weeks of unlabelled history, then two labelled weeks.

Choose on development seeds, report on test seeds; nothing may be chosen on the latter.
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
from adnomaly.detector.windows import SEPARATOR, from_table
from adnomaly.evaluation.metrics import Event, GroundTruth
from adnomaly.features import ENTITY
from adnomaly.files import replacing
from adnomaly.synthetic.attacks import plan_attacks
from adnomaly.synthetic.traffic import Traffic, minute_of
from adnomaly.synthetic.variation import moment_of
from adnomaly.synthetic.windows import simulate_windows
from adnomaly.windows import SIZE, SLIDE

START: Final = datetime(2026, 3, 2, tzinfo=UTC)
"""A Monday. Holidays with a fixed date are simulated; Easter and other movable feasts are not."""
HISTORY_DAYS: Final = 28
LIVE_DAYS: Final = 14
LIVE: Final = START + timedelta(days=HISTORY_DAYS)
ATTACKS_PER_DAY: Final = 15.5
HISTORY_ATTACKS_PER_DAY: Final = 2.0
STRENGTHS: Final = (0.7, 1.5)

DEVELOPMENT_SEEDS: Final = (1, 2, 3)
TEST_SEEDS: Final = (101, 102, 103)


class Scenario(NamedTuple):
    """One seed of synthetic traffic: history and labelled windows on one grid, and ground truth.

    Attributes:
        split: first labelled row.
        truth: ground truth of the rows from `split` on.
    """

    grid: Grid
    split: int
    truth: GroundTruth

    @property
    def history(self) -> Grid:
        return self.grid.between(0, self.split)

    def with_features(self, columns: Sequence[int]) -> "Scenario":
        """The scenario with the other features missing."""
        used = np.isin(np.arange(self.grid.values.shape[2]), columns)
        values = np.where(used, self.grid.values, np.nan)
        return self._replace(grid=self.grid._replace(values=values))


def build(
    traffic: Traffic,
    seed: int,
    *,
    strengths: tuple[float, float] = STRENGTHS,
    kinds: Sequence[str] = ATTACKS,
) -> Scenario:
    """The scenario of one seed; equal arguments give equal scenarios."""
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
    """All windows of one seed, and the events of its labelled days."""
    seeded = replace(traffic, seed=seed)
    end = LIVE + timedelta(days=LIVE_DAYS)
    unlabelled = plan_attacks(
        seeded,
        start=START,
        end=LIVE,
        count=round(HISTORY_ATTACKS_PER_DAY * HISTORY_DAYS),
        seed=seed + 1,
        kinds=KNOWN,
    )
    attacks = plan_attacks(
        seeded,
        start=LIVE,
        end=end,
        count=round(ATTACKS_PER_DAY * LIVE_DAYS),
        seed=seed,
        strengths=strengths,
        kinds=kinds,
    )
    days = HISTORY_DAYS + LIVE_DAYS
    table = simulate_windows(seeded, START, days, seed, [*unlabelled, *attacks])
    return table, [*map(event_of, attacks), *surges_of(seeded, LIVE, end)]


def write_example(traffic: Traffic, folder: Path, seed: int = 7) -> list[Path]:
    """Write history.parquet, live.parquet and labels.parquet of one seed."""
    table, events = simulate(traffic, seed)
    history = pc.less_equal(table["window_end"], pa.scalar(LIVE, table["window_end"].type))
    tables = {
        "history": table.filter(history),
        "live": table.filter(pc.invert(history)),
        "labels": _labels(events),
    }
    files = [folder / f"{name}.parquet" for name in tables]
    for file, part in zip(files, tables.values(), strict=True):
        with replacing(file) as draft:
            pq.write_table(part, draft)
    return files


def _labels(events: Sequence[Event]) -> pa.Table:
    """Events as `adnomaly eval --labels` reads them."""
    entities = zip(*(e.entity.split(SEPARATOR) for e in events), strict=True)
    return pa.table(
        {
            "start": [datetime.fromtimestamp(e.start_s, UTC) for e in events],
            "end": [datetime.fromtimestamp(e.end_s, UTC) for e in events],
            **{name: list(values) for name, values in zip(ENTITY, entities, strict=True)},
            "kind": [e.kind for e in events],
            "benign": [e.benign for e in events],
            "strength": [e.strength for e in events],
        }
    )


def event_of(attack: Attack) -> Event:
    """A planted attack as a labelled event."""
    return Event(
        attack.kind,
        SEPARATOR.join((attack.geo, attack.platform)),
        int(attack.start.timestamp()),
        int(attack.end.timestamp()),
        False,
        attack.strength,
    )


def surges_of(traffic: Traffic, start: datetime, end: datetime) -> list[Event]:
    """The benign surges between two moments, as events of the kind `promotion`."""
    return [
        Event(
            "promotion",
            SEPARATOR.join(traffic.entities[surge.entity]),
            int(moment_of(surge.start).timestamp()),
            int(moment_of(surge.end).timestamp()),
            True,
            surge.lift,
        )
        for surge in traffic.benign_surges(minute_of(start), minute_of(end))
    ]
