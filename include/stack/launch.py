"""`python -m stack run <program>`: what supervisord starts. Clears what a killed predecessor left behind, then becomes the program."""

import os
import pwd
import signal
import sys
import time
from pathlib import Path

from adnomaly.clients.restart_history import RestartHistory
from adnomaly.home import Home
from adnomaly.settings import ROOT, Settings
from stack import environment
from stack.ports import BASE, is_open, port
from stack.programs import PROGRAMS, STREAMS, Program
from stack.ready import wait_for

MARK = "ADNOMALY_PROGRAM"
"""Inherited by every descendant of a program, whatever process group or session it moves to."""

MAX_GOODBYE_S = 8.0


def run(settings: Settings, name: str) -> None:
    """Become the program `name`. Does not return.

    Raises:
        KeyError: there is no such program.
    """
    program = PROGRAMS[name]
    if program in STREAMS:
        wanted = Home.of(settings).wanted_streams
        wanted.mkdir(exist_ok=True)
        (wanted / name).touch()
        RestartHistory(Home.of(settings)).record(name)
    clear(Home.of(settings).path, name)
    _wait_for_ports(settings, program)
    for need in program.needs:
        wait_for(settings, need)
    program.prepare(settings)
    environ = os.environ | environment.common(settings) | program.env(settings) | {MARK: name}
    command = program.command(settings)
    os.chdir(ROOT)
    if program.account and os.geteuid() == 0:
        _become(program.account, environ)
    sys.stdout.flush()
    os.execvpe(command[0], command, environ)


def clear(home: Path, name: str | None = None) -> list[int]:
    """End what is left of an earlier run of a program of this home (of all of them without a name); returns the pids."""
    left = [pid for pid in _marked(home, name) if pid not in (os.getpid(), os.getppid())]
    for number, patience in (
        (signal.SIGTERM, MAX_GOODBYE_S),
        (signal.SIGKILL, MAX_GOODBYE_S),
    ):
        alive = [pid for pid in left if Path(f"/proc/{pid}").exists() and not _is_zombie(pid)]
        for pid in alive:
            _signal(pid, number)
        deadline = time.monotonic() + patience
        while (
            any(Path(f"/proc/{pid}").exists() and not _is_zombie(pid) for pid in alive)
            and time.monotonic() < deadline
        ):
            time.sleep(0.1)
    return left


def _marked(home: Path, name: str | None) -> list[int]:
    """Processes whose environment names this home, and this program."""
    mark = f"{MARK}={name}".encode() if name else f"{MARK}=".encode()
    where = f"ADNOMALY_HOME={home}".encode()
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            variables = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if where in variables and (
            mark in variables if name else any(v.startswith(mark) for v in variables)
        ):
            found.append(int(process.name))
    return found


def _wait_for_ports(settings: Settings, program: Program) -> None:
    """A killed predecessor's port is free again a moment after it is gone."""
    deadline = time.monotonic() + MAX_GOODBYE_S
    while (
        any(is_open(port(settings, name)) for name in program.ports if name in BASE)
        and time.monotonic() < deadline
    ):
        time.sleep(0.2)


def _become(account: str, environ: dict[str, str]) -> None:
    entry = pwd.getpwnam(account)
    os.initgroups(account, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.chdir("/")
    environ |= {"HOME": entry.pw_dir, "USER": account, "LOGNAME": account}


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
