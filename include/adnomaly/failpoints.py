"""Named lines at which a test lets a process kill itself, so that a crash between two steps can be repeated at will."""

import os
import signal


class Failpoints:
    """Kills this process (SIGKILL) when it passes the line `wanted` for the n-th time: `after_put`, or `after_put:3`."""

    def __init__(self, wanted: str) -> None:
        self._name, _, times = wanted.partition(":")
        self._left = int(times or 1)

    def reach(self, name: str) -> None:
        """Say that the line `name` is passed now. Does nothing unless a test asked for it."""
        if name != self._name:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
