"""Progress lines for a person: timestamped, unbuffered, and a line about every long wait."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

QUIET_SECONDS = 10.0
"""Report a wait after this many seconds without a line."""


class Progress:
    """Lines on standard output, each with the seconds since the start."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._start = clock, clock()
        self._last_line = clock()

    @property
    def seconds(self) -> float:
        return self._clock() - self._start

    def say(self, text: str) -> None:
        """Print a line."""
        self._last_line = self._clock()
        # One write per line: threads report at the same time.
        print(f"{self.seconds:5.0f} s  {text}\n", end="", flush=True)

    def waiting(self, text: Callable[[], str]) -> None:
        """Print a line about a wait, if none was printed for QUIET_SECONDS."""
        if self._clock() - self._last_line >= QUIET_SECONDS:
            self.say(text())

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Print a step's title, and its duration at the end."""
        start = self._clock()
        self.say(f"== {title}")
        yield
        self.say(f"   done in {self._clock() - start:.0f} s")
