"""The ports of a stack, and which process holds one."""

from collections.abc import Collection
from typing import Final

import psutil

from adnomaly.settings import Settings
from stack.servers import SERVERS

PORTS: Final = {port.name: port for server in SERVERS for port in server.ports}

BASE: Final = {name: port.number for name, port in PORTS.items()}
"""Every fixed port; a second stack adds PORT_OFFSET to each."""


def port(settings: Settings, name: str) -> int:
    return PORTS[name].of(settings)


def holders(numbers: Collection[int]) -> dict[int, str]:
    """Ports among `numbers` that a process listens on, with `pid 123 (redis-server *:6390)`.

    Only root can name a process of another account.
    """
    found: dict[int, str] = {}
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port in numbers:
            found[connection.laddr.port] = _describe(connection.pid)
    return found


def _describe(pid: int | None) -> str:
    try:
        return f"pid {pid} ({' '.join(psutil.Process(pid).cmdline())[:80]})" if pid else _UNKNOWN
    except psutil.Error:  # it has just ended
        return f"pid {pid}"


_UNKNOWN: Final = "a process of another account"
