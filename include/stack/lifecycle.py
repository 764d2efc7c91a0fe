"""Up, down, status, reset: the life of the whole stack."""

import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from adnomaly.errors import Unavailable
from adnomaly.home import Home
from adnomaly.settings import Settings
from adnomaly.streams import with_role
from stack import prepare, supervisord
from stack import secrets as secrets_file
from stack.launch import clear
from stack.ports import holder, port
from stack.programs import PROGRAMS, SERVERS, STREAMS
from stack.progress import Progress
from stack.ready import CHECKS, wait_for

PREPARATIONS: dict[str, tuple[tuple[str, ...], Callable[[Settings], None]]] = {
    "databases": (("postgres",), prepare.databases),
    "topics": (("kafka",), prepare.topics),
    "airflow metadata": (("databases",), prepare.airflow_live),
    "feature definitions": (("databases", "redis"), prepare.features),
}
"""name -> what must be ready before, and the step itself."""

AFTER = {
    "mlflow": ("databases",),
    **{
        name: ("airflow metadata",)
        for name in ("api-server", "scheduler", "dag-processor", "triggerer")
    },
}
"""Servers that must not start before a preparation is done."""


class PortTaken(Exception):
    """Another process holds a port of ours."""


def up(settings: Settings, progress: Progress) -> None:
    """Bring every server up, in parallel where they do not need each other, and the streams that ran before.

    Raises:
        PortTaken: naming port and holder; nothing was started then.
        Unavailable: a server did not get ready; the message names its log.
    """
    paths = Home.of(settings)
    secrets_file.ensure(paths)
    if not supervisord.is_running(settings):
        if left := clear(paths.path):
            progress.say(f"cleared {len(left)} processes of a stack that was killed")
        _check_ports(settings)
    supervisord.ensure_running(settings)
    _bring_up(settings, progress)
    if wanted := [s.name for s in STREAMS if (paths.wanted_streams / s.name).exists()]:
        supervisord.start(settings, wanted)
        progress.say(f"streams as they were: {' '.join(wanted)}")
    progress.say("the stack is up")


def down(settings: Settings, progress: Progress) -> None:
    """Stop streams, then servers, then supervisord; the data stays, and `up` brings the streams back."""
    if not supervisord.is_running(settings):
        clear(Home.of(settings).path)
        progress.say("the stack is down")
        return
    # Sources before what reads them, and everything before the stores it writes to.
    for group in (
        list(with_role("generator")),
        [s.name for s in STREAMS if s.name not in with_role("generator")],
        [s.name for s in SERVERS if s.name not in _STORES],
        _STORES,
    ):
        progress.say(f"stopping {' '.join(group)}")
        supervisord.stop(settings, group)
    supervisord.shut_down(settings)
    clear(Home.of(settings).path)
    progress.say("the stack is down; its data stays (make reset erases it)")


def reset(settings: Settings, progress: Progress) -> None:
    """Stop everything and erase all data, secrets too; the virtual environment and the jars stay."""
    down(settings, progress)
    paths = Home.of(settings)
    data = paths.postgres_data
    for outside in (data, paths.temporary):
        shutil.rmtree(outside, ignore_errors=True)
    for child in paths.path.iterdir() if paths.path.exists() else ():
        if child != paths.jars and child.name != "setup":
            shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
    progress.say(f"erased {paths.path}")


def status(settings: Settings) -> list[tuple[str, str, str]]:
    """(program, state, what it says) of everything; ready servers say so themselves."""
    if not supervisord.is_running(settings):
        return [("supervisord", "STOPPED", "run `make up`")]
    rows = []
    for name, info in supervisord.states(settings).items():
        state, detail = info["statename"], info["description"]
        if state == "RUNNING" and name in CHECKS and (problem := CHECKS[name](settings)):
            state, detail = "NOT READY", problem
        rows.append((name, state, detail))
    return sorted(rows, key=lambda row: list(PROGRAMS).index(row[0]))


_STORES = ["kafka", "postgres", "redis", "s3"]


def _bring_up(settings: Settings, progress: Progress) -> None:
    """Every server and preparation in a thread of its own, each waiting for what it needs."""
    steps = [*(s.name for s in SERVERS), *PREPARATIONS]
    done = {name: threading.Event() for name in steps}
    failed: list[BaseException] = []
    began = time.monotonic()

    def step(name: str) -> None:
        try:
            for need in AFTER.get(name, ()) if name not in PREPARATIONS else PREPARATIONS[name][0]:
                while not done[need].wait(0.2):
                    if failed:
                        return
            if name in PREPARATIONS:
                PREPARATIONS[name][1](settings)
            else:
                supervisord.start(settings, [name])
                wait_for(settings, name)
            progress.say(f"{name} ready after {time.monotonic() - began:.0f} s")
            done[name].set()
        except BaseException as error:  # handed to the caller below
            failed.append(error)

    with ThreadPoolExecutor(len(steps)) as pool:
        futures = [pool.submit(step, name) for name in steps]
        while not all(future.done() for future in futures):
            progress.waiting(
                lambda: "waiting for " + ", ".join(n for n in steps if not done[n].is_set())
            )
            time.sleep(0.2)
    if failed:
        raise failed[0]


def _check_ports(settings: Settings) -> None:
    taken = [
        (name, number, who)
        for server in SERVERS
        for name in server.ports
        if (who := holder(number := port(settings, name)))
    ]
    if taken:
        lines = "; ".join(f"port {number} ({name}) is held by {who}" for name, number, who in taken)
        raise PortTaken(f"{lines}. Stop it, or move this stack with PORT_OFFSET=100 in .env")


__all__ = ["PortTaken", "Unavailable", "down", "reset", "status", "up"]
