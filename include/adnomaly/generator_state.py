"""State of the generator and of the history, in four small files.

- `truth/plan.json`: start of sending, rate and attacks; written by the starter of the generator.
- `truth/attacks.jsonl`: ground truth, the attacks that were planted.
- `run/generator.json`: spans sent live, so that a restart resumes at the last one.
- `run/history.json`: end of the generated history in the lake.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self, TypeVar

import msgspec
import numpy as np

from adnomaly.arrays import Bools, Ints
from adnomaly.attacks import Attack, append_ground_truth, read_ground_truth
from adnomaly.errors import InvalidSetting
from adnomaly.files import write_atomic
from adnomaly.home import Home

T = TypeVar("T")

_MAX_SPANS: Final = 200


class Plan(msgspec.Struct, frozen=True, kw_only=True, rename={"begin": "from"}):
    """What to send: from `from` on (null: resume, or start now), with these attacks.

    `base_eps` replaces the generator's BASE_EPS, so a rate set in a DAG's form also applies to a
    running generator.
    """

    begin: datetime | None = None
    attacks: tuple[Attack, ...] = ()
    base_eps: float | None = None


class SentSpans(msgspec.Struct, frozen=True, kw_only=True):
    """Spans of event time that were sent and acknowledged, oldest first, each [start, end)."""

    sent: tuple[tuple[datetime, datetime], ...] = ()

    @property
    def next(self) -> datetime | None:
        """The first moment not sent yet; None before the first run."""
        return self.sent[-1][1] if self.sent else None

    def extended(self, start: datetime, end: datetime) -> Self:
        """With [start, end) added; it continues the last span when it begins at its end."""
        if self.sent and self.sent[-1][1] == start:
            return type(self)(sent=(*self.sent[:-1], (self.sent[-1][0], end)))
        return type(self)(sent=(*self.sent, (start, end))[-_MAX_SPANS:])

    def covers(self, time_us: Ints) -> Bools:
        """Whether each moment (microseconds since 1970) lies in a sent span, (n,)."""
        covered = np.zeros(len(time_us), bool)
        for start, end in self.sent:
            covered |= (time_us >= microseconds(start)) & (time_us < microseconds(end))
        return covered


class GeneratorFiles:
    """The files above, below one ADNOMALY_HOME. Writes are atomic."""

    def __init__(self, home: Home) -> None:
        self.plan = home.plan
        self.truth = home.ground_truth
        self.progress = home.progress
        self.history = home.history

    def read_plan(self) -> Plan:
        return _read(self.plan, Plan) or Plan()

    def write_plan(self, plan: Plan) -> None:
        """Takes effect at the generator's start; attacks and rate within a minute of event time."""
        _write(self.plan, plan)

    def read_progress(self) -> SentSpans:
        return _read(self.progress, SentSpans) or SentSpans()

    def write_progress(self, progress: SentSpans) -> None:
        _write(self.progress, progress)

    def read_history_end(self) -> datetime | None:
        """The end of the newest history in the lake; None when there is none."""
        return _read(self.history, datetime)

    def write_history_end(self, end: datetime) -> None:
        _write(self.history, max(end, self.read_history_end() or end))

    def plant(self, attacks: Sequence[Attack], *, after: datetime) -> list[Attack]:
        """Record the part of each attack after `after` as ground truth, once; returns the new ones.

        The planned attack is not shortened, so its remaining clicks do not change.
        """
        known = {_identity(attack) for attack in read_ground_truth(self.truth)}
        new = [
            attack for attack in attacks if attack.end > after and _identity(attack) not in known
        ]
        planted = [
            msgspec.structs.replace(attack, start=max(attack.start, after)) for attack in new
        ]
        append_ground_truth(self.truth, planted)
        return planted


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970, exact."""
    utc = moment.astimezone(UTC)
    return int(utc.replace(microsecond=0).timestamp()) * 1_000_000 + utc.microsecond


def moment_at(time_us: int) -> datetime:
    """The inverse of `microseconds`."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(time_us))


def first_moment(
    wanted: datetime | None, progress: SentSpans, history_end: datetime | None, *, now: datetime
) -> datetime:
    """Where sending begins: at `wanted`, but after everything sent and after the history."""
    known = [moment for moment in (wanted, progress.next, history_end) if moment is not None]
    return min(max(known), now) if known else now


def _identity(attack: Attack) -> tuple[str, str, str, datetime, float]:
    return attack.kind, attack.geo, attack.platform, attack.end, attack.strength


def _read(file: Path, kind: type[T]) -> T | None:
    if not file.exists():
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except msgspec.DecodeError as error:
        raise InvalidSetting(f"{file}: {error}; correct or delete it") from None


def _write(file: Path, content: object) -> None:
    write_atomic(file, msgspec.json.encode(content))
