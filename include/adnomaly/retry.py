"""Retrying while a server is unavailable: exponential backoff with jitter that can be stopped."""

import logging
import random
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from adnomaly.errors import Unavailable

FIRST_DELAY_S = 0.1
MAX_DELAY_S = 10.0

T = TypeVar("T")
Wait = Callable[[float], bool]
"""Waits some seconds; False when the retry must be given up."""

log = logging.getLogger("retry")


class Stopped(Exception):
    """A retry was given up because its `wait` said so; the call did not succeed."""


def until(stop: Event) -> Wait:
    """Wait, but not beyond the moment at which `stop` is set."""
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
    """Call until it succeeds; returns its result. Delays double from the first to the maximum, each with jitter.

    Args:
        wait: how to wait between calls, such as `until(stop)`, or staying a member of a consumer group meanwhile.
        errors: what is worth another call; anything else is raised at once.
        on_failure: called after each failure, such as to count it.

    Raises:
        Stopped: `wait` returned False.
    """
    delay = first_delay_s
    while True:
        try:
            return call()
        except errors as error:
            if on_failure:
                on_failure(error)
            seconds = delay * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, protects nothing
            log.warning("%s; retrying in %.1f s", str(error).splitlines()[0], seconds)
            if not wait(seconds):
                raise Stopped(str(error)) from error
            delay = min(2 * delay, max_delay_s)
