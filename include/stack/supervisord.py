"""supervisord: its configuration, its start and end, and starting and stopping programs."""

import os
import signal
import subprocess
import sys
import time
import xmlrpc.client
from typing import Any

from supervisor.xmlrpc import Faults

from adnomaly.clients.supervisord import Supervisor
from adnomaly.errors import Unavailable
from adnomaly.home import Home
from adnomaly.settings import Settings
from stack.programs import PROGRAMS
from stack.servers.base import Program, common_env

MAX_START_S = 20.0
MAX_SHUTDOWN_S = 90.0

_HEAD = """\
[supervisord]
nodaemon=false
logfile={logs}/supervisord.log
pidfile={run}/supervisord.pid
identifier=adnomaly
directory={root}
minfds=4096
[unix_http_server]
file={socket}
chmod=0700
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{socket}
"""

_PROGRAM = """
[program:{name}]
command={python} -m stack run {name}
directory={root}
autostart=false
autorestart=true
startsecs=3
startretries=100000
stopwaitsecs={stop_s}
stopsignal={signal}
stopasgroup={group}
killasgroup=true
redirect_stderr=true
stdout_logfile={log}
stdout_logfile_maxbytes=20MB
stdout_logfile_backups=2
"""


def write_config(settings: Settings) -> None:
    """Write supervisord.conf. No program starts by itself; `up` decides the order."""
    home = Home.of(settings)
    for folder in (home.run, home.logs, home.supervisor_socket.parent):
        folder.mkdir(parents=True, exist_ok=True, mode=0o755 if folder == home.logs else 0o711)
    head = _HEAD.format(
        logs=home.logs, run=home.run, root=home.venv.parent, socket=home.supervisor_socket
    )
    sections = [_section(home, program) for program in PROGRAMS.values()]
    home.supervisor_conf.write_text("".join([head, *sections]).replace("%", "%%"))


def _section(home: Home, program: Program) -> str:
    return _PROGRAM.format(
        name=program.name,
        python=sys.executable,
        root=home.venv.parent,
        log=home.log(program.name),
        signal=program.stop_signal,
        group="true" if program.stop_signal == "TERM" else "false",
        stop_s=program.stop_s,
    )


def is_running(settings: Settings) -> bool:
    """Whether supervisord runs, also while it ends its programs."""
    try:
        _client(settings).call("getState")
    except Unavailable:
        return False
    except xmlrpc.client.Fault as fault:
        if fault.faultCode != Faults.SHUTDOWN_STATE:
            raise
    return True


def ensure_running(settings: Settings) -> None:
    """Start supervisord, or let a running one reload its configuration.

    A reload restarts no program whose configuration is unchanged.

    Raises:
        Unavailable: it does not answer within 20 s.
    """
    write_config(settings)
    if is_running(settings):
        _client(settings).reload()
    else:
        _start_daemon(settings)


def _start_daemon(settings: Settings) -> None:
    home = Home.of(settings)
    home.supervisor_socket.unlink(missing_ok=True)
    inherited = {name: value for name, value in os.environ.items() if name != "ADNOMALY_PROGRAM"}
    with home.log("supervisord.start").open("w") as log:
        subprocess.run(
            [str(home.venv / "bin" / "supervisord"), "-c", str(home.supervisor_conf)],
            env=inherited | common_env(settings),
            cwd=home.venv.parent,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
            start_new_session=True,
        )
    deadline = time.monotonic() + MAX_START_S
    while not is_running(settings):
        if time.monotonic() > deadline:
            raise Unavailable(f"supervisord does not answer; see {home.logs}/supervisord.log")
        time.sleep(0.2)


def states(settings: Settings) -> dict[str, dict[str, Any]]:
    """supervisord's information about each program, by name."""
    return {info["name"]: info for info in _client(settings).call("getAllProcessInfo")}


def start(settings: Settings, names: list[str]) -> None:
    """Start programs that do not run, without waiting."""
    current = states(settings)
    for name in names:
        if current[name]["statename"] not in ("RUNNING", "STARTING"):
            _client(settings).accepted("startProcess", name, unless=Faults.ALREADY_STARTED)


def stop(settings: Settings, names: list[str]) -> None:
    """Stop programs at the same time, and wait until all have ended."""
    current = states(settings)
    running = [n for n in names if current[n]["statename"] not in ("STOPPED", "EXITED", "FATAL")]
    for name in running:
        # Somebody else, or its own end, may have been faster.
        _client(settings).accepted("stopProcess", name, unless=Faults.NOT_RUNNING)
    while any(
        info["statename"] in ("STOPPING", "RUNNING", "STARTING")
        for name, info in states(settings).items()
        if name in running
    ):
        time.sleep(0.2)


def shut_down(settings: Settings) -> None:
    """End supervisord; kill it after 90 s."""
    pid_file = Home.of(settings).run / "supervisord.pid"
    _client(settings).shutdown()
    deadline = time.monotonic() + MAX_SHUTDOWN_S
    while is_running(settings):
        if time.monotonic() > deadline and pid_file.exists():
            os.kill(int(pid_file.read_text()), signal.SIGKILL)
        time.sleep(0.2)


def _client(settings: Settings) -> Supervisor:
    return Supervisor(Home.of(settings))
