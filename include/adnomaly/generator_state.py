"""State of the generator and of the history, in four small files.

- `truth/plan.json`: start of sending, rate and attacks; written by the starter of the generator.
- `truth/attacks.jsonl`: ground truth, the attacks that were planted.
- `run/generator.json`: spans sent live, so that a restart resumes at the last one.
- `run/history.json`: spans and rates of the generated history in the lake.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

import msgspec
import numpy as np

from adnomaly.arrays import Bools, Ints
from adnomaly.attacks import Attack, append_ground_truth, read_ground_truth
from adnomaly.errors import InvalidSetting
from adnomaly.files import write_atomic
from adnomaly.home import Home

_MAX_SPANS: Final = 200
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Plan(msgspec.Struct, frozen=True, kw_only=True, rename={"begin": "from"}):
    """What to send: from `from` on (null: resume, or start now), with these attacks.

    `base_eps` replaces the setting BASE_EPS, so a rate set in a DAG's form also applies to a
    running generator. `instead_of` is the BASE_EPS that it replaced: once the setting has another
    value, the setting is the newer word.
    """

    begin: datetime | None = None
    attacks: tuple[Attack, ...] = ()
    base_eps: float | None = None
    instead_of: float | None = None

    def rate(self, setting: float) -> float:
        """Mean clicks per second, given the present value of BASE_EPS."""
        if self.base_eps is None or self.instead_of not in (None, setting):
            return setting
        return self.base_eps


class HistorySpan(msgspec.Struct, frozen=True):
    """Generated history in the lake, [start, end), and its mean clicks per second; None when
    unknown.
    """

    start: datetime
    end: datetime
    base_eps: float | None = None


class History(msgspec.Struct, frozen=True):
    """What was generated into the lake. Spans do not overlap; oldest first."""

    spans: tuple[HistorySpan, ...] = ()

    @property
    def end(self) -> datetime | None:
        """The end of the newest span."""
        return self.spans[-1].end if self.spans else None

    @property
    def base_eps(self) -> float | None:
        """The rate of the newest span."""
        return self.spans[-1].base_eps if self.spans else None

    def of_another_rate(self, span: HistorySpan) -> HistorySpan | None:
        """The part of the oldest overlapping span that has another known rate."""
        for old in self.spans:
            start, end = max(old.start, span.start), min(old.end, span.end)
            if start < end and old.base_eps not in (None, span.base_eps):
                return HistorySpan(start, end, old.base_eps)
        return None

    def with_span(self, span: HistorySpan) -> Self:
        """With a span that replaces what it overlaps."""
        parts = [span]
        for old in self.spans:
            before = msgspec.structs.replace(old, end=min(old.end, span.start))
            after = msgspec.structs.replace(old, start=max(old.start, span.end))
            parts += [part for part in (before, after) if part.start < part.end]
        return type(self)(tuple(sorted(parts, key=lambda part: part.start)))


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

    def read_history(self) -> History:
        """What was generated into the lake."""
        # Earlier versions wrote the end alone.
        found = _read(self.history, History | datetime)
        if isinstance(found, datetime):
            return History((HistorySpan(_EARLIEST, found),))
        return found or History()

    def write_history(self, history: History) -> None:
        _write(self.history, history)

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


def _read(file: Path, kind: Any) -> Any:
    if not file.exists():
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except msgspec.DecodeError as error:
        raise InvalidSetting(f"{file}: {error}; correct or delete it") from None


def _write(file: Path, content: object) -> None:
    write_atomic(file, msgspec.json.encode(content))
