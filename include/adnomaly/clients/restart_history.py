"""When each program was started, and which are not started any more because that did not help: files below `run/`."""

import re
import time
from typing import Final

from adnomaly.home import Home

LOG_BYTES: Final = 20_000
KEPT: Final = 100
_ERROR: Final = re.compile(r"\b\w*(Error|Exception)\b|\berror: ")


class RestartHistory:
    """Whoever becomes a program notes it here; a start that somebody asked for begins the count anew."""

    def __init__(self, home: Home) -> None:
        self._starts, self._given_up, self._logs = (
            home.starts,
            home.given_up,
            home.logs,
        )

    def record(self, program: str) -> None:
        """The program starts now."""
        self._starts.mkdir(parents=True, exist_ok=True)
        file = self._starts / program
        earlier = file.read_text().splitlines()[-KEPT:] if file.exists() else []
        file.write_text("\n".join([*earlier, f"{time.time():.3f}"]) + "\n")

    def since(self, program: str, moment_s: float) -> int:
        """How often it was started since a moment (Unix seconds)."""
        file = self._starts / program
        return (
            sum(float(line) >= moment_s for line in file.read_text().splitlines())
            if file.exists()
            else 0
        )

    def reset(self, program: str) -> None:
        """Somebody wants it to run: count anew, and try again what was given up."""
        for folder in (self._starts, self._given_up):
            (folder / program).unlink(missing_ok=True)

    def give_up(self, program: str, reason: str) -> None:
        """Nothing starts it any more until somebody does."""
        self._given_up.mkdir(parents=True, exist_ok=True)
        (self._given_up / program).write_text(reason + "\n")

    def given_up(self) -> dict[str, str]:
        """Each program that was given up, and why."""
        return (
            {file.name: file.read_text().strip() for file in self._given_up.iterdir()}
            if self._given_up.is_dir()
            else {}
        )

    def last_error(self, program: str) -> str:
        """The last line of its log that names an error, or else the last one."""
        file = self._logs / f"{program}.log"
        if not file.exists():
            return "its log is empty"
        with file.open("rb") as log:
            log.seek(max(0, file.stat().st_size - LOG_BYTES))
            lines = log.read().decode(errors="replace").strip().splitlines()
        errors = [line for line in lines if _ERROR.search(line)]
        return ([*lines[-1:], *errors[-1:]] or ["its log is empty"])[-1][:300]
