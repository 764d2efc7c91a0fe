"""What a person sees while waiting: plain lines with the time, at once also in a pipe, and never a silent minute."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

QUIET_SECONDS = 10.0
"""After this long without news the wait itself is reported."""


class Progress:
    """Lines on standard output, each with the seconds since the start."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._began = clock, clock()
        self._said = clock()

    @property
    def seconds(self) -> float:
        return self._clock() - self._began

    def say(self, text: str) -> None:
        """One line now."""
        self._said = self._clock()
        # One write: threads report side by side.
        print(f"{self.seconds:5.0f} s  {text}\n", end="", flush=True)

    def waiting(self, text: Callable[[], str]) -> None:
        """A line about a wait, when nothing was said for QUIET_SECONDS."""
        if self._clock() - self._said >= QUIET_SECONDS:
            self.say(text())

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A step with its duration when it is done."""
        began = self._clock()
        self.say(f"== {title}")
        yield
        self.say(f"   done in {self._clock() - began:.0f} s")
