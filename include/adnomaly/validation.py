"""The gate: judges each message of `clickstream` once. Pure: the clock, the topic id and the memory come from outside."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Self
from uuid import UUID, uuid5

import msgspec

from adnomaly.events import (
    DUPLICATE_MEMORY_MINUTES,
    Click,
    InvalidClick,
    canonical_time,
    check_age,
    decode,
    event_time,
)

MEMORY: Final = timedelta(minutes=DUPLICATE_MEMORY_MINUTES)
MAX_REMEMBERED: Final = 3_000_000
"""Ids per partition; beyond it the oldest are forgotten early (about 300 MB)."""

_NAMESPACE: Final = UUID("6f1dbf6e-5d0c-5b3e-9a53-1d0f3ad0c0de")


class Arrival(NamedTuple):
    """One message as it came: where it lies in the topic, and its bytes."""

    topic_id: str
    partition: int
    offset: int
    value: bytes | None


class Valid(NamedTuple):
    """A valid click in canonical form: contract fields only, event_id always, time in microseconds."""

    value: bytes


class Duplicate(NamedTuple):
    """A click whose event_id passed here within the last 15 minutes."""

    event_id: UUID


class Rejected(NamedTuple):
    """No valid click: which field, which rule, which value."""

    field: str
    rule: str
    value: str


Verdict = Valid | Duplicate | Rejected


class VerdictCounts(msgspec.Struct, frozen=True):
    """How many verdicts of each kind there were so far on one partition. Kafka keeps it with the gate's offset."""

    valid: int = 0
    rejected: int = 0
    duplicate: int = 0

    def add(self, verdicts: Iterable[Verdict]) -> Self:
        """The tally after some more verdicts."""
        more = Counter(type(verdict) for verdict in verdicts)
        return type(self)(
            self.valid + more[Valid],
            self.rejected + more[Rejected],
            self.duplicate + more[Duplicate],
        )

    def text(self) -> str:
        return msgspec.json.encode(self).decode()

    @classmethod
    def of(cls, text: str) -> Self:
        """The tally that a text holds; nothing counted yet when it is empty."""
        return msgspec.json.decode(text, type=cls) if text else cls()

    @classmethod
    def total(cls, tallies: Iterable[Self]) -> Self:
        """Of several partitions together."""
        valid, rejected, duplicate = (
            sum(column)
            for column in zip((0, 0, 0), *map(msgspec.structs.astuple, tallies), strict=True)
        )
        return cls(valid, rejected, duplicate)


class DuplicateMemory:
    """The event ids that passed one partition within 15 minutes of the gate's clock, oldest first."""

    def __init__(self) -> None:
        self._seen: dict[UUID, datetime] = {}

    def __contains__(self, event_id: UUID) -> bool:
        return event_id in self._seen

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, event_ids: Iterable[UUID], now: datetime) -> None:
        """Remember ids, and forget those older than 15 minutes."""
        for event_id in event_ids:
            self._seen[event_id] = now
        for event_id in self._too_old(now):
            del self._seen[event_id]

    def _too_old(self, now: datetime) -> list[UUID]:
        old = []
        surplus = len(self._seen) - MAX_REMEMBERED
        for position, (event_id, at) in enumerate(self._seen.items()):
            if position >= surplus and now - at <= MEMORY:
                break
            old.append(event_id)
        return old


def validate_batch(
    arrivals: Sequence[Arrival], memory: DuplicateMemory, *, now: datetime, max_age_hours: float
) -> tuple[list[Verdict], list[UUID]]:
    """The verdict on each message of one partition, in order, and the ids to remember once the verdicts are stored.

    The memory itself is not changed: a batch whose transaction is given up is judged again.
    """
    fresh: dict[UUID, None] = {}
    verdicts: list[Verdict] = []
    for arrival in arrivals:
        try:
            event_id, value = _judge(arrival, now, max_age_hours)
        except InvalidClick as invalid:
            verdicts.append(Rejected(invalid.field, invalid.rule, invalid.value))
            continue
        if event_id in memory or event_id in fresh:
            verdicts.append(Duplicate(event_id))
            continue
        fresh[event_id] = None
        verdicts.append(Valid(value))
    return verdicts, list(fresh)


def _judge(arrival: Arrival, now: datetime, max_age_hours: float) -> tuple[UUID, bytes]:
    click = decode(arrival.value)
    moment = event_time(click)
    check_age(click, moment, now=now, max_age_hours=max_age_hours)
    event_id = derived_id(arrival) if click.event_id is msgspec.UNSET else UUID(click.event_id)
    return event_id, msgspec.json.encode(canonical(click, moment, event_id))


def canonical(click: Click, moment: datetime, event_id: UUID) -> Click:
    """The form every reader sees: lower-case id, microseconds written out."""
    return msgspec.structs.replace(click, timestamp=canonical_time(moment), event_id=str(event_id))


def derived_id(arrival: Arrival) -> UUID:
    """The id of a click that came without one: the same at every replay of its place in the topic (UUIDv5, RFC 9562)."""
    return uuid5(_NAMESPACE, f"{arrival.topic_id}/{arrival.partition}/{arrival.offset}")
