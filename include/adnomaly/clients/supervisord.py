"""supervisord, the parent of every always-on process: start, stop and query over XML-RPC on its
unix socket.
"""

import http.client
import xmlrpc.client
from collections.abc import Sequence
from typing import Any, NamedTuple

from supervisor.xmlrpc import Faults, SupervisorTransport

from adnomaly.clients.restart_history import RestartHistory
from adnomaly.errors import Unavailable
from adnomaly.home import Home

_NO_SUCH_PROGRAM = "supervisord knows no program {name!r}: `make up` writes its configuration"


class ProgramState(NamedTuple):
    """State of one program. `uptime_s` counts from its last start by supervisord's clock; 0 when it
    does not run.
    """

    name: str
    state: str
    uptime_s: int
    pid: int
    detail: str

    @property
    def running(self) -> bool:
        return self.state == "RUNNING"


class Supervisor:
    """The supervisord of one ADNOMALY_HOME. Every call opens its own connection, so threads may
    share it.

    Raises:
        Unavailable: supervisord does not answer; `make up` starts it.
    """

    def __init__(self, home: Home) -> None:
        self._home, self.starts = home, RestartHistory(home)

    def programs(self) -> dict[str, ProgramState]:
        """Every program by name, in supervisord's order."""
        infos = self._call("getAllProcessInfo")
        return {info["name"]: _state(info) for info in infos}

    def start(self, names: Sequence[str], *, again: bool = False) -> list[str]:
        """Start programs without waiting; returns those that were not running. Idempotent.

        A program that exits at once counts as started: supervisord retries, and its state shows the
        result.

        Args:
            again: restart after a crash, which is counted; otherwise the count of restarts is
                reset.
        """
        if not again:
            for name in names:
                self.starts.reset(name)
        return [
            name
            for name in names
            if self.accepted("startProcess", name, unless=Faults.ALREADY_STARTED)
        ]

    def stop(self, names: Sequence[str]) -> list[str]:
        """Stop programs one after another, in this order; returns those that were running.

        `make up` does not start them again.
        """
        for name in names:
            (self._home.wanted_streams / name).unlink(missing_ok=True)
        return [
            name
            for name in names
            if self.accepted("stopProcess", name, unless=Faults.NOT_RUNNING, wait=True)
        ]

    def call(self, method: str, *arguments: object) -> Any:
        """One method of supervisord's XML-RPC API.

        Raises:
            xmlrpc.client.Fault: supervisord refused the call.
        """
        return self._call(method, *arguments)

    def accepted(self, method: str, name: str, *, unless: int, wait: bool = False) -> bool:
        """Whether the request changed anything; the fault `unless` means that it did not.

        Args:
            wait: until the program runs or has ended.

        Raises:
            Unavailable: supervisord refused it, for another reason.
        """
        try:
            self._call(method, name, wait)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == unless:
                return False
            if fault.faultCode in (Faults.SPAWN_ERROR, Faults.ABNORMAL_TERMINATION):
                return True
            if fault.faultCode == Faults.BAD_NAME:
                raise Unavailable(_NO_SUCH_PROGRAM.format(name=name)) from None
            raise Unavailable(f"{method} {name}: {fault.faultString}") from None
        return True

    def reload(self) -> None:
        """Reload the configuration; programs whose configuration is unchanged keep running."""
        added, changed, removed = self._call("reloadConfig")[0]
        for name in (*changed, *removed):
            self._call("stopProcessGroup", name)
            self._call("removeProcessGroup", name)
        for name in (*added, *changed):
            self._call("addProcessGroup", name)

    def shutdown(self) -> None:
        """Ask supervisord to stop every program and end, without waiting. Idempotent."""
        try:
            self._call("shutdown")
        except xmlrpc.client.Fault as fault:
            # Asked before, or by the transport, which repeats a call whose answer was lost.
            if fault.faultCode != Faults.SHUTDOWN_STATE:
                raise

    def _call(self, method: str, *arguments: object) -> Any:
        socket = self._home.supervisor_socket
        transport = SupervisorTransport("", "", serverurl=f"unix://{socket}")
        try:
            with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as server:
                return getattr(server.supervisor, method)(*arguments)
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
            raise Unavailable(
                f"supervisord does not answer on {socket} ({error}): `make up` starts it"
            ) from error


def _state(info: dict[str, Any]) -> ProgramState:
    uptime = max(0, info["now"] - info["start"]) if info["statename"] == "RUNNING" else 0
    return ProgramState(
        info["name"],
        info["statename"],
        uptime,
        info["pid"],
        info["spawnerr"] or info["description"],
    )
