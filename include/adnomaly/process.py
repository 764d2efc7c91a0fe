"""The shell of an always-on process: settings, a log on standard output, and an end when it is asked to (SIGTERM, Ctrl-C)."""

import logging
import signal
import sys
import threading
from collections.abc import Callable

from adnomaly.errors import AdnomalyError
from adnomaly.settings import Settings, load_settings

log = logging.getLogger("process")


def run_process(run: Callable[[Settings, threading.Event], None], *, ends_on: type[Exception] = AdnomalyError) -> int:
    """Run until the event is set by a signal; returns the exit code.

    Args:
        run: returns soon after the event is set.
        ends_on: beside AdnomalyError, what ends the process in one line of the log instead of a traceback.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        settings = load_settings()
        logging.basicConfig(
            level=settings.log_level, stream=sys.stdout, format="%(asctime)s %(name)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"
        )
        logging.getLogger("httpx").setLevel(logging.WARNING)
        run(settings, stop)
    except (AdnomalyError, ends_on) as error:
        if stop.is_set():
            return 0
        log.error("%s", error)
        return 1
    return 0
