"""Starts of each program, and programs given up after repeated crashes: files below `run/`."""

import re
import time
from typing import Final

from adnomaly.files import write_atomic
from adnomaly.home import Home

LOG_BYTES: Final = 20_000
MAX_STARTS: Final = 100
_ERROR: Final = re.compile(r"\b\w*(Error|Exception)\b|\berror: ")


class RestartHistory:
    """A program is recorded when it starts; a start on request resets its count."""

    def __init__(self, home: Home) -> None:
        self._starts, self._given_up, self._logs = (
            home.starts,
            home.given_up,
            home.logs,
        )

    def record(self, program: str) -> None:
        """Record a start now."""
        file = self._starts / program
        earlier = file.read_text().splitlines()[-MAX_STARTS:] if file.exists() else []
        write_atomic(file, ("\n".join([*earlier, f"{time.time():.3f}"]) + "\n").encode())

    def since(self, program: str, moment_s: float) -> int:
        """Number of starts since a moment (Unix seconds)."""
        file = self._starts / program
        return (
            sum(float(line) >= moment_s for line in file.read_text().splitlines())
            if file.exists()
            else 0
        )

    def reset(self, program: str) -> None:
        """Reset the count of starts, and clear that it was given up."""
        for folder in (self._starts, self._given_up):
            (folder / program).unlink(missing_ok=True)

    def give_up(self, program: str, reason: str) -> None:
        """Mark as given up: it is not restarted until it is started on request."""
        write_atomic(self._given_up / program, f"{reason}\n".encode())

    def given_up(self) -> dict[str, str]:
        """Programs given up, each with the reason."""
        return (
            {file.name: file.read_text().strip() for file in self._given_up.iterdir()}
            if self._given_up.is_dir()
            else {}
        )

    def last_error(self, program: str) -> str:
        """The last line of its log that names an error, else its last line."""
        file = self._logs / f"{program}.log"
        if not file.exists():
            return "its log is empty"
        with file.open("rb") as log:
            log.seek(max(0, file.stat().st_size - LOG_BYTES))
            lines = log.read().decode(errors="replace").strip().splitlines()
        errors = [line for line in lines if _ERROR.search(line)]
        return ([*lines[-1:], *errors[-1:]] or ["its log is empty"])[-1][:300]
