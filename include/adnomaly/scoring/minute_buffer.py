"""When a minute is complete: its windows are judged together, because silence and outage are about those that are missing."""

from collections.abc import Sequence
from typing import Final, Generic, NamedTuple, TypeVar

GRACE_S: Final = 10.0
"""So long a partition may say nothing before it is taken to have nothing more of a minute."""
REMEMBERED_S: Final = 3600
"""An entity is waited for so long, in time of windows, after its last window."""
MAX_S: Final = 24 * 3600
"""Windows that are judged at once lie no further apart."""

T = TypeVar("T")


class Buffered(NamedTuple, Generic[T]):
    """One message, in the order of its partition; `end_s` and `entity` are None for one that is no window."""

    item: T
    partition: int
    end_s: int | None
    entity: str | None


class MinuteBuffer(Generic[T]):
    """Holds messages until their minute is complete.

    A minute is complete when every entity of the last hour has its window, or when each partition is past it or silent. What is
    taken is always the beginning of each partition, so that what was done can be remembered as one offset.
    """

    def __init__(self) -> None:
        self._held: list[Buffered[T]] = []
        self._last_heard: dict[int, float] = {}
        self._newest: dict[int, int] = {}
        self._seen: dict[str, int] = {}
        self._begun = False

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, messages: Sequence[Buffered[T]], partitions: Sequence[int], now: float) -> None:
        """Messages that were read, in their order, and the partitions that they could have come from."""
        self._held += messages
        for partition in partitions:
            self._last_heard.setdefault(partition, now)
        for message in messages:
            self._last_heard[message.partition] = now
            if message.end_s is not None and message.entity is not None:
                self._newest[message.partition] = max(
                    message.end_s, self._newest.get(message.partition, message.end_s)
                )
                self._seen[message.entity] = max(
                    message.end_s, self._seen.get(message.entity, message.end_s)
                )

    def complete(self, now: float) -> list[Buffered[T]]:
        """Take what can be judged now, in the order of partitions and messages."""
        last = self._last_complete(now)
        self._begun = self._begun or last is not None
        taken, left, stopped = [], [], set()
        for message in self._held:
            ready = message.end_s is None or (last is not None and message.end_s <= last)
            if message.partition in stopped or not ready:
                stopped.add(message.partition)
                left.append(message)
            else:
                taken.append(message)
        self._held = left
        return taken

    def _last_complete(self, now: float) -> int | None:
        """End of the last minute, in their order, of which all is there; None while the first is not."""
        there = sorted({message.end_s for message in self._held if message.end_s is not None})
        found = None
        for end_s in there:
            # At the beginning nobody knows who should be there.
            everyone = (self._begun or found is not None) and self._everyone(end_s)
            if end_s - there[0] > MAX_S or not (everyone or self._nothing_more(end_s, now)):
                break
            found = end_s
        return found

    def _everyone(self, end_s: int) -> bool:
        """No entity of the last hour is still to come: of one that was seen later, this window was seen or is missing."""
        return not any(end_s - REMEMBERED_S <= last < end_s for last in self._seen.values())

    def _nothing_more(self, end_s: int, now: float) -> bool:
        return all(
            self._newest.get(p, end_s) > end_s or now - heard >= GRACE_S
            for p, heard in self._last_heard.items()
        )
