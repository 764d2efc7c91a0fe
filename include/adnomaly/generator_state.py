"""What the generator should send, how far it is, and what the history already holds: four small files.

- `truth/plan.json`: from where to send and which attacks to plant; written by whoever starts the generator.
- `truth/attacks.jsonl`: the attacks that really were planted.
- `run/generator.json`: what was sent live, so that a restart goes on where the last run stopped.
- `run/history.json`: up to where the lake was filled.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self, TypeVar

import msgspec
import numpy as np

from adnomaly.attacks import Attack, read_truth, record
from adnomaly.errors import InvalidSetting
from adnomaly.home import Home

T = TypeVar("T")

_MAX_SPANS: Final = 200


class Plan(msgspec.Struct, frozen=True, kw_only=True, rename={"begin": "from"}):
    """Send from `from` on (null: from now, or where the last run stopped), with these attacks mixed in.

    `base_eps` replaces BASE_EPS of whoever sends, so that a rate asked for in a DAG's form holds for a running system.
    """

    begin: datetime | None = None
    attacks: tuple[Attack, ...] = ()
    base_eps: float | None = None


class SentSpans(msgspec.Struct, frozen=True, kw_only=True):
    """The spans of event time that were sent and acknowledged, oldest first; each is start <= time < end."""

    sent: tuple[tuple[datetime, datetime], ...] = ()

    @property
    def next(self) -> datetime | None:
        """The first moment that was not sent yet; None before the first run."""
        return self.sent[-1][1] if self.sent else None

    def extended(self, start: datetime, end: datetime) -> Self:
        """With [start, end) sent too; a span that begins where the last ended continues it."""
        if self.sent and self.sent[-1][1] == start:
            return type(self)(sent=(*self.sent[:-1], (self.sent[-1][0], end)))
        return type(self)(sent=(*self.sent, (start, end))[-_MAX_SPANS:])

    def covers(self, time_us: np.ndarray) -> np.ndarray:
        """Which of these moments (microseconds since 1970) lie in a span that was sent, (n,) bool."""
        covered = np.zeros(len(time_us), bool)
        for start, end in self.sent:
            covered |= (time_us >= microseconds(start)) & (time_us < microseconds(end))
        return covered


class GeneratorFiles:
    """The files above, below one ADNOMALY_HOME. Each write replaces the whole file at once."""

    def __init__(self, home: Home) -> None:
        self.plan = home.plan
        self.truth = home.ground_truth
        self.progress = home.progress
        self.history = home.history

    def read_plan(self) -> Plan:
        return _read(self.plan, Plan) or Plan()

    def write_plan(self, plan: Plan) -> None:
        """Takes effect when the generator starts; attacks and rate also while it runs, within a minute of event time."""
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
        """Record as truth the part of each attack that lies after `after`, once; returns what is new.

        The attack itself is not shortened: its remaining clicks stay the same whenever they are generated.
        """
        known = {_identity(attack) for attack in read_truth(self.truth)}
        new = [
            attack for attack in attacks if attack.end > after and _identity(attack) not in known
        ]
        planted = [
            msgspec.structs.replace(attack, start=max(attack.start, after)) for attack in new
        ]
        record(self.truth, planted)
        return planted


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970, exactly."""
    whole = moment.astimezone(UTC)
    return int(whole.replace(microsecond=0).timestamp()) * 1_000_000 + whole.microsecond


def moment_at(time_us: int) -> datetime:
    """The inverse of `microseconds`."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(time_us))


def first_moment(
    wanted: datetime | None, progress: SentSpans, history_end: datetime | None, *, now: datetime
) -> datetime:
    """Where sending begins: as early as wanted, but never before what was sent already or what the history holds."""
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
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{os.getpid()}.new")
    draft.write_bytes(msgspec.json.encode(content))
    draft.replace(file)
