"""supervisord: its configuration, its start, and the words we have for it."""

import http.client
import os
import signal
import subprocess
import sys
import time
import xmlrpc.client
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import Faults, SupervisorTransport

from adnomaly.errors import Unavailable
from adnomaly.home import Home
from adnomaly.settings import Settings
from stack import environment
from stack.programs import PROGRAMS, SERVERS

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

_STOP_SIGNALS = {
    "postgres": "INT",
    "api-server": "INT",
    "scheduler": "INT",
    "dag-processor": "INT",
    "triggerer": "INT",
}
"""PostgreSQL's fast shutdown; Airflow's components stop their children on Ctrl-C alone."""


_STOP_SECONDS = {"ray": 8}
"""Ray waits for its processes far longer than they need; nothing of ours is lost when they are killed."""


def write_config(settings: Settings) -> None:
    """supervisord.conf of this stack; every program is started by name, so that `up` decides the order."""
    paths = Home.of(settings)
    for folder in (paths.run, paths.logs, paths.supervisor_socket.parent):
        folder.mkdir(parents=True, exist_ok=True, mode=0o755 if folder == paths.logs else 0o711)
    paths.run.joinpath("socket").write_text(f"{paths.supervisor_socket}\n")
    root = paths.venv.parent
    head = (
        f"[supervisord]\nnodaemon=false\nlogfile={paths.logs}/supervisord.log\npidfile={paths.run}/supervisord.pid\nidentifier=adnomaly\n"
        f"directory={root}\nminfds=4096\n"
        f"[unix_http_server]\nfile={paths.supervisor_socket}\nchmod=0700\n"
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        f"[supervisorctl]\nserverurl=unix://{paths.supervisor_socket}\n"
    )
    servers = {server.name for server in SERVERS}
    programs = [
        _PROGRAM.format(
            name=name,
            python=sys.executable,
            root=root,
            log=paths.log(name),
            signal=_STOP_SIGNALS.get(name, "TERM"),
            group="false" if name in _STOP_SIGNALS else "true",
            stop_s=_STOP_SECONDS.get(name, 30 if name in servers else 60),
        )
        for name in PROGRAMS
    ]
    paths.supervisor_conf.write_text((head + "".join(programs)).replace("%", "%%"))


def is_running(settings: Settings) -> bool:
    try:
        call(settings, "getState")
    except Unavailable:
        return False
    return True


def ensure_running(settings: Settings) -> None:
    """Start supervisord, or let a running one take up a changed configuration without touching what runs.

    Raises:
        Unavailable: it does not answer within 20 s.
    """
    write_config(settings)
    if is_running(settings):
        added, changed, removed = call(settings, "reloadConfig")[0]
        for name in (*changed, *removed):
            call(settings, "stopProcessGroup", name)
            call(settings, "removeProcessGroup", name)
        for name in (*added, *changed):
            call(settings, "addProcessGroup", name)
        return
    paths = Home.of(settings)
    paths.supervisor_socket.unlink(missing_ok=True)
    environ = {
        name: value for name, value in os.environ.items() if name != "ADNOMALY_PROGRAM"
    } | environment.common(settings)
    with paths.log("supervisord.start").open("w") as log:
        command = [str(paths.venv / "bin" / "supervisord"), "-c", str(paths.supervisor_conf)]
        subprocess.run(
            command,
            env=environ,
            cwd=paths.venv.parent,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
            start_new_session=True,
        )
    deadline = time.monotonic() + 20
    while not is_running(settings):
        if time.monotonic() > deadline:
            raise Unavailable(f"supervisord does not answer; see {paths.logs}/supervisord.log")
        time.sleep(0.2)


def states(settings: Settings) -> dict[str, dict[str, Any]]:
    """What supervisord says of each program, by name."""
    return {info["name"]: info for info in call(settings, "getAllProcessInfo")}


def start(settings: Settings, names: list[str]) -> None:
    """Start those that do not run, without waiting."""
    now = states(settings)
    for name in names:
        if now[name]["statename"] not in ("RUNNING", "STARTING"):
            try:
                call(settings, "startProcess", name, False)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode != Faults.ALREADY_STARTED:
                    raise


def stop(settings: Settings, names: list[str]) -> None:
    """Stop these at the same time, and wait until they have."""
    running = [
        name
        for name in names
        if states(settings)[name]["statename"] not in ("STOPPED", "EXITED", "FATAL")
    ]
    for name in running:
        call(settings, "stopProcess", name, False)
    while any(
        states(settings)[name]["statename"] in ("STOPPING", "RUNNING", "STARTING")
        for name in running
    ):
        time.sleep(0.2)


def shut_down(settings: Settings) -> None:
    """End supervisord itself."""
    pid_file = Home.of(settings).run / "supervisord.pid"
    call(settings, "shutdown")
    deadline = time.monotonic() + 90
    while is_running(settings):
        if time.monotonic() > deadline and pid_file.exists():
            os.kill(int(pid_file.read_text()), signal.SIGKILL)
        time.sleep(0.2)


def call(settings: Settings, method: str, *arguments: Any) -> Any:
    """One XML-RPC call.

    Raises:
        Unavailable: supervisord does not answer.
    """
    transport = SupervisorTransport(
        "", "", serverurl=f"unix://{Home.of(settings).supervisor_socket}"
    )
    try:
        return getattr(
            xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor, method
        )(*arguments)
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"supervisord does not answer ({error}); run `make up`") from error
    finally:
        transport.close()


def log_tail(path: Path, lines: int) -> str:
    return (
        "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""
    )
