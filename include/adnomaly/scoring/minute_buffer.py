"""Buffer windows until their minute is complete: silence and outage are about missing windows."""

from collections.abc import Sequence
from typing import Final, Generic, NamedTuple, TypeVar

GRACE_S: Final = 10.0
"""A partition silent this long is considered caught up."""
EXPECTED_S: Final = 3600
"""An entity is expected for this long after its last window, in event time."""
MAX_S: Final = 24 * 3600
"""Longest event time that is scored at once."""

T = TypeVar("T")


class Buffered(NamedTuple, Generic[T]):
    """One message; `end_s` and `entity` are None for an invalid one."""

    item: T
    partition: int
    end_s: int | None
    entity: str | None


class MinuteBuffer(Generic[T]):
    """Holds messages until their minute is complete.

    A minute is complete when every entity of the last hour has its window, or when each partition
    is past it or silent. Messages leave in the order of their partition, so one offset per
    partition is enough to resume.
    """

    def __init__(self) -> None:
        self._buffered: list[Buffered[T]] = []
        self._last_heard: dict[int, float] = {}
        self._newest: dict[int, int] = {}
        self._last_window: dict[str, int] = {}
        self._started = False

    def __len__(self) -> int:
        return len(self._buffered)

    def hold(self, messages: Sequence[Buffered[T]], partitions: Sequence[int], now: float) -> None:
        """Add messages in the order read, and the partitions assigned to this consumer."""
        self._buffered += messages
        for partition in partitions:
            self._last_heard.setdefault(partition, now)
        for message in messages:
            self._last_heard[message.partition] = now
            if message.end_s is not None and message.entity is not None:
                self._newest[message.partition] = max(
                    message.end_s, self._newest.get(message.partition, message.end_s)
                )
                self._last_window[message.entity] = max(
                    message.end_s, self._last_window.get(message.entity, message.end_s)
                )

    def complete(self, now: float) -> list[Buffered[T]]:
        """Remove and return the messages of complete minutes, in order."""
        last = self._last_complete(now)
        self._started = self._started or last is not None
        taken: list[Buffered[T]] = []
        kept: list[Buffered[T]] = []
        stopped: set[int] = set()
        for message in self._buffered:
            ready = message.end_s is None or (last is not None and message.end_s <= last)
            if message.partition in stopped or not ready:
                stopped.add(message.partition)
                kept.append(message)
            else:
                taken.append(message)
        self._buffered = kept
        return taken

    def _last_complete(self, now: float) -> int | None:
        """End of the last complete minute before the first incomplete one; None without one."""
        ends = sorted({message.end_s for message in self._buffered if message.end_s is not None})
        complete = None
        for end_s in ends:
            # Before the first complete minute the set of entities is unknown.
            all_entities = (self._started or complete is not None) and self._has_all_entities(end_s)
            if end_s - ends[0] > MAX_S or not (all_entities or self._caught_up(end_s, now)):
                break
            complete = end_s
        return complete

    def _has_all_entities(self, end_s: int) -> bool:
        """Every entity of the last hour has reached this minute; it sends its windows in order."""
        return not any(end_s - EXPECTED_S <= last < end_s for last in self._last_window.values())

    def _caught_up(self, end_s: int, now: float) -> bool:
        """Every partition is past this minute or silent."""
        return all(
            self._newest.get(p, end_s) > end_s or now - heard >= GRACE_S
            for p, heard in self._last_heard.items()
        )
