"""The frame of an always-on process: settings, log, graceful stop on SIGTERM and Ctrl-C."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from filelock import FileLock, Timeout

from adnomaly.errors import AdnomalyError, JobFailed
from adnomaly.files import write_atomic
from adnomaly.home import Home
from adnomaly.retry import Stopped
from adnomaly.settings import Settings, load_settings

log = logging.getLogger("process")


@contextmanager
def single_instance(lock: Path, what: str) -> Iterator[None]:
    """Hold an exclusive lock while the body runs; the system releases it when the process ends.

    Args:
        what: what the process does, for the error of a second one, such as `sends clicks`.

    Raises:
        JobFailed: another process holds the lock.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    # A soft lock would outlive a killed process.
    held = FileLock(lock, blocking=False, fallback_to_soft=False)
    try:
        held.acquire()
    except Timeout:
        raise JobFailed(
            f"another process {what} already: stop it first (in Airflow: run_streams, action stop)"
        ) from None
    try:
        yield
    finally:
        held.release()


@lru_cache(maxsize=1)
def announce_ready() -> None:
    """Tell `make up` that this process does now what it is for: it reads, serves or sends.

    Only the first call has an effect, and none in a process that a person started.
    """
    settings = load_settings()
    if program := settings.adnomaly_program:
        write_atomic(Home.of(settings).ready(program), str(os.getpid()).encode())


def run_process(
    run: Callable[[Settings, threading.Event], None], *, ends_on: type[Exception] = AdnomalyError
) -> int:
    """Run until a signal sets the event; returns the exit code.

    Args:
        run: returns soon after the event is set.
        ends_on: a further error that is logged in one line instead of a traceback, as AdnomalyError
            is.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        settings = load_settings()
        logging.basicConfig(
            level=settings.log_level,
            stream=sys.stdout,
            format="%(asctime)s %(name)s %(message)s",
            datefmt="%Y-%m-%d %H:%M:%S",
        )
        logging.getLogger("httpx").setLevel(logging.WARNING)
        run(settings, stop)
    except (AdnomalyError, Stopped, ends_on) as error:
        if stop.is_set():
            return 0
        log.error("%s", error)
        return 1
    return 0
