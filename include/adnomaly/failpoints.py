"""Failpoints: named lines at which a test makes a process kill itself."""

import os
import signal


class Failpoints:
    """Kills this process (SIGKILL) when it reaches a line for the n-th time: `after_put`, or
    `after_put:3`.
    """

    def __init__(self, setting: str) -> None:
        self._name, _, times = setting.partition(":")
        self._left = int(times or 1)

    def reach(self, name: str) -> None:
        """Mark the line `name`; without effect unless a test has set it."""
        if name != self._name:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
