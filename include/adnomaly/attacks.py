"""Attacks, and the ground truth about those that were planted.

An attack adds clicks to normal traffic or removes some: counts stay integers and no average is
scaled, so only its effect reveals it. Ground truth is kept outside the events.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

import msgspec

from adnomaly.attack_kinds import KINDS, AttackKind

MAX_LOST: Final = 0.95
"""Share of normal clicks that an attack can remove."""

_UNITS: Final = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}


class Attack(msgspec.Struct, frozen=True, kw_only=True):
    """One attack on one entity, in [start, end), UTC, whole minutes. Strength 1 is nominal."""

    kind: str
    geo: str
    platform: str
    start: datetime
    end: datetime
    strength: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown attack {self.kind!r}; known are {', '.join(KINDS)}")
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError(
                f"an attack needs moments with a time zone, got {self.start} and {self.end}"
            )
        if self.end <= self.start or self.strength <= 0:
            raise ValueError(
                "an attack needs end > start and strength > 0, "
                f"got {self.start}..{self.end}, {self.strength:g}"
            )

    @property
    def profile(self) -> AttackKind:
        return KINDS[self.kind]

    @property
    def extra(self) -> float:
        """Clicks added, as a multiple of the normal rate."""
        return self.profile.extra * self.strength

    @property
    def lost(self) -> float:
        """Share of normal clicks that vanish."""
        return min(self.profile.lost * self.strength, MAX_LOST)

    @property
    def first_minute(self) -> int:
        return int(self.start.timestamp() // 60)

    @property
    def end_minute(self) -> int:
        """The first minute after it; a part of a minute counts as a full one."""
        return -(-int(self.end.timestamp()) // 60)

    @property
    def stream(self) -> int:
        """Stream of its random numbers, which depends on the attack alone."""
        text = (
            f"{self.kind}|{self.geo}|{self.platform}|"
            f"{self.first_minute}|{self.end_minute}|{self.strength:g}"
        )
        return 2**32 + int.from_bytes(text.encode(), "big") % (2**61 - 1)

    def __str__(self) -> str:
        start, end = (f"{m.astimezone(UTC):%Y-%m-%dT%H:%MZ}" for m in (self.start, self.end))
        return f"{self.geo} {self.platform} {self.kind} {start}..{end}"

    @classmethod
    def parse(cls, text: str, *, now: datetime) -> Self:
        """Parse `kind:GEO:platform:start:duration[:strength]`.

        The start is ISO 8601 or relative (`-90m`), the duration like `30m`.

        Raises:
            ValueError: naming the expected form.
        """
        match = re.fullmatch(r"(\w+):(\w+):(\w+):(.+?):(\d+[smhd])(?::([0-9.]+))?", text)
        if match is None:
            raise ValueError(
                "an attack is kind:GEO:platform:start:duration[:strength], "
                f"such as click_flood:DE:ios:-60m:20m:1.5, got {text!r}"
            )
        kind, geo, platform, start, duration, strength = match.groups()
        begin = moment(start, now=now)
        begin -= timedelta(seconds=begin.second, microseconds=begin.microsecond)
        return cls(
            kind=kind,
            geo=geo,
            platform=platform,
            start=begin,
            end=begin + _duration(duration),
            strength=float(strength or 1),
        )


def moment(text: str, *, now: datetime) -> datetime:
    """A moment in UTC: ISO 8601, or relative to `now` such as `-2h`, `+10m`, `-1d`.

    Raises:
        ValueError: it is neither.
    """
    if re.fullmatch(r"[+-]\d+[smhd]", text):
        return now + (_duration(text[1:]) if text[0] == "+" else -_duration(text[1:]))
    parsed = datetime.fromisoformat(text)
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


def _duration(text: str) -> timedelta:
    return int(text[:-1]) * _UNITS[text[-1]]


def append_ground_truth(file: Path, attacks: Iterable[Attack]) -> None:
    """Append attacks to the ground truth as JSON lines, each once."""
    known = set(read_ground_truth(file))
    lines = [
        msgspec.json.encode(attack) + b"\n"
        for attack in dict.fromkeys(attacks)
        if attack not in known
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as out:
        out.write(b"".join(lines))


def read_ground_truth(file: Path) -> list[Attack]:
    """The planted attacks, in the order of their planting; none when the file does not exist."""
    return (
        [msgspec.json.decode(line, type=Attack) for line in file.read_bytes().splitlines()]
        if file.exists()
        else []
    )
