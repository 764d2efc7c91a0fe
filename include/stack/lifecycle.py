"""Up, down, status and reset of the whole stack."""

import shutil
import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Final

from filelock import FileLock, Timeout

from adnomaly.errors import Unavailable
from adnomaly.files import write_atomic
from adnomaly.home import Home
from adnomaly.settings import Settings
from adnomaly.streams import START_ORDER, with_role
from stack import secrets as secrets_file
from stack import supervisord
from stack.launch import clear
from stack.ports import holders
from stack.programs import PROGRAMS
from stack.progress import Progress
from stack.ready import CHECKS, wait_for
from stack.servers import PREPARATIONS, SERVERS, STORES
from stack.servers.base import Preparation

_SERVERS = {server.name: server for server in SERVERS}
_PREPARATIONS = {step.name: step for step in PREPARATIONS}


MAX_STREAM_START_S: Final = 180.0


class PortTaken(Exception):
    """Another process holds a port of this stack."""


class UnknownServer(Exception):
    """A name is not one of a server."""


def up(settings: Settings, progress: Progress, names: Sequence[str] = ()) -> None:
    """Start servers in parallel, each when its needs are ready, then the streams that ran before.

    Args:
        names: start only these servers with their needs, and no streams; all when empty.

    Raises:
        UnknownServer: a name is not one of a server.
        NewerVersion: a newer version has used this home; nothing was started.
        PortTaken: names port and holder; nothing was started.
        Unavailable: a server or stream is not ready in time; the message has the path of its log.
    """
    steps = _with_needs(names) if names else [*_SERVERS, *_PREPARATIONS]
    home = Home.of(settings)
    home.claim()
    secrets_file.ensure(home)
    if not supervisord.is_running(settings):
        if leftovers := clear(home.path):
            progress.say(f"ended {len(leftovers)} processes that an earlier run left behind")
        _check_ports(settings, steps)
    supervisord.ensure_running(settings)
    _bring_up(settings, progress, steps)
    if names:
        progress.say(f"up: {' '.join(step for step in steps if step in _SERVERS)}")
        return
    if wanted := [name for name in START_ORDER if (home.wanted_streams / name).exists()]:
        supervisord.start(settings, wanted)
        progress.say(f"streams that ran before: {' '.join(wanted)}")
        _await_streams(settings, progress, wanted)
    progress.say("the stack is up")


def down(settings: Settings, progress: Progress) -> None:
    """Stop streams, servers and supervisord. The data stays, and `up` restarts the streams.

    A second call meanwhile waits for the first.
    """
    lock = FileLock(Home.of(settings).lock("down"), fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        progress.say("another process is stopping the stack: waiting for it")
        lock.acquire()
    try:
        _stop_all(settings, progress)
    finally:
        lock.release()


def _stop_all(settings: Settings, progress: Progress) -> None:
    home = Home.of(settings)
    if not supervisord.is_running(settings):
        clear(home.path)
        progress.say("the stack is down")
        return
    generator = with_role("generator")
    # Writers before their readers, and everything before the stores.
    for group in (
        list(generator),
        [name for name in START_ORDER if name not in generator],
        [name for name in _SERVERS if name not in STORES],
        list(STORES),
    ):
        progress.say(f"stopping {' '.join(group)}")
        supervisord.stop(settings, group)
    supervisord.shut_down(settings)
    clear(home.path)
    progress.say("the stack is down; its data stays (make reset erases it)")


def reset(settings: Settings, progress: Progress) -> None:
    """Stop everything and erase all data and secrets; virtual environment and jars stay."""
    down(settings, progress)
    home = Home.of(settings)
    for outside in (home.postgres_data, home.temporary):
        shutil.rmtree(outside, ignore_errors=True)
    for child in home.path.iterdir() if home.path.exists() else ():
        if child != home.jars and child.name != "setup":
            shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
    progress.say(f"erased {home.path}")


def status(settings: Settings) -> list[tuple[str, str, str]]:
    """(program, state, detail) of every program.

    The state is supervisord's, or NOT READY for a running server whose readiness check fails.
    """
    if not supervisord.is_running(settings):
        return [("supervisord", "STOPPED", "run `make up`")]
    states = supervisord.states(settings)

    def row(name: str) -> tuple[str, str, str]:
        state, detail = states[name]["statename"], states[name]["description"]
        if state == "RUNNING" and name in CHECKS and (problem := CHECKS[name](settings)):
            return name, "NOT READY", problem
        return name, state, detail

    with ThreadPoolExecutor(len(states)) as pool:
        return list(pool.map(row, sorted(states, key=list(PROGRAMS).index)))


def _needs(step: str) -> tuple[str, ...]:
    return _PREPARATIONS[step].needs if step in _PREPARATIONS else _SERVERS[step].needs


def _with_needs(names: Sequence[str]) -> list[str]:
    """These servers, with all that they need, and the preparations that need only these."""
    if unknown := [name for name in names if name not in _SERVERS]:
        raise UnknownServer(f"no server {', '.join(unknown)}; servers are {', '.join(_SERVERS)}")
    steps, pending = set[str](), list(names)
    while pending:
        step = pending.pop()
        if step not in steps:
            steps.add(step)
            pending += _needs(step)
            pending += _SERVERS[step].ready_through if step in _SERVERS else ()
    for step, preparation in _PREPARATIONS.items():
        if steps.issuperset(preparation.needs) and any(n in _SERVERS for n in preparation.needs):
            steps.add(step)
    return [step for step in (*_SERVERS, *_PREPARATIONS) if step in steps]


def _bring_up(settings: Settings, progress: Progress, steps: Sequence[str]) -> None:
    """Run each server and preparation in a thread of its own, which waits for its needs."""
    done = {name: threading.Event() for name in steps}
    errors: list[BaseException] = []
    start = time.monotonic()

    def run(name: str) -> None:
        try:
            for need in _awaited(name):
                while not done[need].wait(0.2):
                    if errors:
                        return
            if name in _PREPARATIONS:
                _run_preparation(settings, _PREPARATIONS[name])
            else:
                supervisord.start(settings, [name])
                wait_for(settings, name)
            progress.say(f"{name} ready after {time.monotonic() - start:.0f} s")
            done[name].set()
        except BaseException as error:  # raised by the caller below
            errors.append(error)

    with ThreadPoolExecutor(len(steps)) as pool:
        futures = [pool.submit(run, name) for name in steps]
        while not all(future.done() for future in futures):
            progress.waiting(
                lambda: "waiting for " + ", ".join(n for n in steps if not done[n].is_set())
            )
            time.sleep(0.2)
    if errors:
        raise errors[0]


def _run_preparation(settings: Settings, step: Preparation) -> None:
    """Run a step, unless it ran with the same inputs before."""
    stamp = Home.of(settings).prepared / step.name
    key = sha256(repr(step.inputs(settings)).encode()).hexdigest() if step.inputs else ""
    if key and stamp.exists() and stamp.read_text() == key:
        return
    step.run(settings)
    if key:
        write_atomic(stamp, key.encode())


def _await_streams(settings: Settings, progress: Progress, names: Sequence[str]) -> None:
    """Wait until each stream does what it is for: reads its topic, keeps its job, serves, sends."""
    home, deadline = Home.of(settings), time.monotonic() + MAX_STREAM_START_S
    while late := _late_streams(settings, names):
        if time.monotonic() > deadline:
            logs = ", ".join(str(home.log(name)) for name in late)
            raise Unavailable(
                f"not ready after {MAX_STREAM_START_S:.0f} s: {', '.join(late)}; see {logs}"
            )
        line = f"waiting for {', '.join(late)}"
        progress.waiting(lambda: line)  # noqa: B023 - called at once
        time.sleep(0.3)


def _late_streams(settings: Settings, names: Sequence[str]) -> list[str]:
    """The streams whose present process has not announced itself."""
    home, states = Home.of(settings), supervisord.states(settings)
    ready = {name: home.ready(name) for name in names}
    return [
        name
        for name, file in ready.items()
        if not file.exists() or file.read_text() != str(states[name]["pid"])
    ]


def _awaited(step: str) -> list[str]:
    """The needs that must be ready before a step begins.

    A server's own process waits for the servers it needs; only its preparations are awaited here.
    """
    return [need for need in _needs(step) if step in _PREPARATIONS or need in _PREPARATIONS]


def _check_ports(settings: Settings, steps: Collection[str]) -> None:
    ports = [p for s in SERVERS if s.name in steps for p in s.ports if p.reserved]
    held = holders({port.of(settings) for port in ports})
    if taken := [port for port in ports if port.of(settings) in held]:
        lines = "; ".join(
            f"port {port.of(settings)} ({port.name}) is held by {held[port.of(settings)]}"
            for port in taken
        )
        raise PortTaken(f"{lines}. Stop it, or move this stack with PORT_OFFSET=100 in .env")
