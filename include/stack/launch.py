"""`python -m stack run <program>`, which supervisord starts: end leftovers, prepare, exec."""

import os
import pwd
import signal
import sys
import time
from pathlib import Path
from typing import Final

import psutil

from adnomaly import streams
from adnomaly.clients.restart_history import RestartHistory
from adnomaly.home import Home
from adnomaly.settings import ROOT, Settings
from stack.programs import PROGRAMS
from stack.ready import CHECKS, wait_for
from stack.servers.base import Server, common_env, is_open

MARK: Final = "ADNOMALY_PROGRAM"
"""Variable that all descendants of a program inherit, in any process group or session."""

MAX_EXIT_S: Final = 8.0
"""How long a leftover process may take to end after each signal, and its ports to become free."""


def run(settings: Settings, name: str) -> None:
    """Become the program `name`. Does not return.

    Raises:
        KeyError: there is no such program.
    """
    program, home = PROGRAMS[name], Home.of(settings)
    if name in streams.BY_NAME:
        home.wanted_streams.mkdir(exist_ok=True)
        (home.wanted_streams / name).touch()
        RestartHistory(home).record(name)
        home.ready(name).unlink(missing_ok=True)
    clear(home.path, name)
    if isinstance(program, Server):
        _prepare(settings, program)
    environ = os.environ | common_env(settings) | program.env(settings) | {MARK: name}
    command = program.command(settings)
    os.chdir(ROOT)
    if isinstance(program, Server) and program.account and os.geteuid() == 0:
        _become(program.account, environ)
    sys.stdout.flush()
    os.execvpe(command[0], command, environ)


def _prepare(settings: Settings, server: Server) -> None:
    _wait_for_ports(settings, server)
    for need in server.needs:
        if need in CHECKS:
            wait_for(settings, need)
    server.prepare(settings)


def clear(home: Path, name: str | None = None) -> list[int]:
    """End processes that an earlier run of a program left behind; returns their pids.

    Args:
        name: program; None for all programs of this home.
    """
    leftovers = [p for p in _marked(home, name) if p.pid not in (os.getpid(), os.getppid())]
    for number in (signal.SIGTERM, signal.SIGKILL):
        running = [process for process in leftovers if _runs(process)]
        for process in running:
            _send(process, number)
        deadline = time.monotonic() + MAX_EXIT_S
        while any(_runs(process) for process in running) and time.monotonic() < deadline:
            time.sleep(0.1)
    return [process.pid for process in leftovers]


def _marked(home: Path, name: str | None) -> list[psutil.Process]:
    """Processes whose environment names this home, and this program."""
    marked = []
    for process in psutil.process_iter():
        try:
            environ = process.environ()
        except (psutil.Error, OSError):  # ended, or of another account
            continue
        program = environ.get(MARK)
        if environ.get("ADNOMALY_HOME") == str(home) and program and name in (None, program):
            marked.append(process)
    return marked


def _runs(process: psutil.Process) -> bool:
    """Whether it still runs; a zombie has ended."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        pass


def _wait_for_ports(settings: Settings, server: Server) -> None:
    """Wait until a killed predecessor's ports are free."""
    numbers = [port.of(settings) for port in server.ports if port.reserved]
    deadline = time.monotonic() + MAX_EXIT_S
    while any(is_open(number) for number in numbers) and time.monotonic() < deadline:
        time.sleep(0.2)


def _become(account: str, environ: dict[str, str]) -> None:
    """Change to an account of the system; only root can."""
    entry = pwd.getpwnam(account)
    os.initgroups(account, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.chdir("/")
    environ |= {"HOME": entry.pw_dir, "USER": account, "LOGNAME": account}
