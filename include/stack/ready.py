"""Readiness of servers by name."""

import time
from typing import Final

from adnomaly.errors import Unavailable
from adnomaly.home import Home
from adnomaly.settings import Settings
from stack.servers import SERVERS

CHECKS: Final = {server.name: server.ready for server in SERVERS}

MAX_START_S = 300.0
POLL_S = 0.3


def wait_for(settings: Settings, name: str, *, patience_s: float = MAX_START_S) -> float:
    """Wait until a server works; returns the seconds it took.

    Raises:
        Unavailable: not ready within `patience_s`; the message has the problem and the log's path.
    """
    start = time.monotonic()
    while problem := CHECKS[name](settings):
        if time.monotonic() - start > patience_s:
            raise Unavailable(
                f"{name} is not ready after {patience_s:.0f} s: {problem}; "
                f"see {Home.of(settings).log(name)}"
            )
        time.sleep(POLL_S)
    return time.monotonic() - start
