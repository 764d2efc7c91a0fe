"""Click validation. Pure: the clock, the topic id and the recent ids are arguments."""

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
"""Ids per partition, about 300 MB; beyond it the oldest are dropped early."""

_NAMESPACE: Final = UUID("6f1dbf6e-5d0c-5b3e-9a53-1d0f3ad0c0de")


class Arrival(NamedTuple):
    """One message as it arrived: its position and its bytes."""

    topic_id: str
    partition: int
    offset: int
    value: bytes | None


class Valid(NamedTuple):
    """A valid click in canonical form: contract fields only, always with event_id, time in
    microseconds.
    """

    value: bytes


class Duplicate(NamedTuple):
    """A click whose event_id was seen within the last 15 minutes."""

    event_id: UUID


class Rejected(NamedTuple):
    """An invalid click: the field, the rule it breaks, and its value."""

    field: str
    rule: str
    value: str


Verdict = Valid | Duplicate | Rejected


class VerdictCounts(msgspec.Struct, frozen=True):
    """Verdicts so far on one partition, by kind; stored as metadata of the committed offset."""

    valid: int = 0
    rejected: int = 0
    duplicate: int = 0

    def add(self, verdicts: Iterable[Verdict]) -> Self:
        """The counts after more verdicts."""
        more = Counter(type(verdict) for verdict in verdicts)
        return type(self)(
            self.valid + more[Valid],
            self.rejected + more[Rejected],
            self.duplicate + more[Duplicate],
        )

    def text(self) -> str:
        """As offset metadata."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def of(cls, text: str) -> Self:
        """Counts from offset metadata; zero when it is empty."""
        return msgspec.json.decode(text, type=cls) if text else cls()

    @classmethod
    def total(cls, counts: Iterable[Self]) -> Self:
        """Sum over partitions."""
        valid, rejected, duplicate = (
            sum(column)
            for column in zip((0, 0, 0), *map(msgspec.structs.astuple, counts), strict=True)
        )
        return cls(valid, rejected, duplicate)


class RecentIds:
    """Event ids of one partition within the last 15 minutes, oldest first."""

    def __init__(self) -> None:
        self._times: dict[UUID, datetime] = {}

    def __contains__(self, event_id: UUID) -> bool:
        return event_id in self._times

    def __len__(self) -> int:
        return len(self._times)

    def add(self, event_ids: Iterable[UUID], now: datetime) -> None:
        """Add ids, and drop those older than 15 minutes."""
        for event_id in event_ids:
            self._times[event_id] = now
        for event_id in self._expired(now):
            del self._times[event_id]

    def _expired(self, now: datetime) -> list[UUID]:
        old = []
        surplus = len(self._times) - MAX_REMEMBERED
        for position, (event_id, at) in enumerate(self._times.items()):
            if position >= surplus and now - at <= MEMORY:
                break
            old.append(event_id)
        return old


def validate_batch(
    arrivals: Sequence[Arrival], memory: RecentIds, *, now: datetime, max_age_hours: float
) -> tuple[list[Verdict], list[UUID]]:
    """Verdicts on messages of one partition, in order, and the ids to add once the verdicts are
    committed.

    `memory` is not changed: a batch whose transaction is aborted is validated again.
    """
    new_ids: dict[UUID, None] = {}
    verdicts: list[Verdict] = []
    for arrival in arrivals:
        try:
            event_id, value = _validate(arrival, now, max_age_hours)
        except InvalidClick as invalid:
            verdicts.append(Rejected(invalid.field, invalid.rule, invalid.value))
            continue
        if event_id in memory or event_id in new_ids:
            verdicts.append(Duplicate(event_id))
            continue
        new_ids[event_id] = None
        verdicts.append(Valid(value))
    return verdicts, list(new_ids)


def _validate(arrival: Arrival, now: datetime, max_age_hours: float) -> tuple[UUID, bytes]:
    click = decode(arrival.value)
    moment = event_time(click)
    check_age(click, moment, now=now, max_age_hours=max_age_hours)
    event_id = derived_id(arrival) if click.event_id is msgspec.UNSET else UUID(click.event_id)
    return event_id, msgspec.json.encode(canonical(click, moment, event_id))


def canonical(click: Click, moment: datetime, event_id: UUID) -> Click:
    """The form in `clickstream.valid`: lower-case id, microseconds written out."""
    return msgspec.structs.replace(click, timestamp=canonical_time(moment), event_id=str(event_id))


def derived_id(arrival: Arrival) -> UUID:
    """Id of a click that has none: derived from its position, so a replay gives the same one
    (UUIDv5, RFC 9562).
    """
    return uuid5(_NAMESPACE, f"{arrival.topic_id}/{arrival.partition}/{arrival.offset}")
