"""Retry while a server is unavailable: exponential backoff with jitter that can be stopped."""

import logging
import random
from collections.abc import Callable
from threading import Event
from typing import Final, TypeVar

from adnomaly.errors import Unavailable

FIRST_DELAY_S: Final = 0.1
MAX_DELAY_S: Final = 10.0

T = TypeVar("T")
Wait = Callable[[float], bool]
"""Waits a number of seconds; False to give up the retry."""

log = logging.getLogger("retry")


class Stopped(Exception):
    """A retry was given up because its `wait` returned False; the call did not succeed."""


def until(stop: Event) -> Wait:
    """A wait that ends early, and gives up, when `stop` is set."""
    return lambda seconds: not stop.wait(seconds)


def retry(
    call: Callable[[], T],
    *,
    wait: Wait,
    errors: tuple[type[Exception], ...] = (Unavailable,),
    first_delay_s: float = FIRST_DELAY_S,
    max_delay_s: float = MAX_DELAY_S,
    on_failure: Callable[[Exception], object] | None = None,
) -> T:
    """Call until it succeeds; returns its result.

    The delay doubles from the first to the maximum; each wait is 50 to 100 % of it.

    Args:
        wait: how to wait between calls: `until(stop)`, or staying a member of a consumer group.
        errors: errors worth another call; any other is raised at once.
        on_failure: called after each failure, for example to count it.

    Raises:
        Stopped: `wait` returned False.
    """
    delay_s = first_delay_s
    while True:
        try:
            return call()
        except errors as error:
            if on_failure:
                on_failure(error)
            seconds = delay_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
            log.warning("%s; retrying in %.1f s", _first_line(error), seconds)
            if not wait(seconds):
                raise Stopped(str(error)) from error
            delay_s = min(2 * delay_s, max_delay_s)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
