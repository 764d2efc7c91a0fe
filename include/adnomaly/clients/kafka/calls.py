"""Calls of a transactional client while the broker is unavailable."""

import time
from collections.abc import Callable
from typing import TypeVar

from confluent_kafka import KafkaException

from adnomaly.retry import retry

T = TypeVar("T")


def call(method: Callable[[], T]) -> T:
    """Call until it succeeds; returns its result. The client resumes an interrupted call.

    Raises:
        KafkaException: an error that another call cannot mend.
    """
    return retry(lambda: _call(method), wait=_sleep, errors=(_Retriable,), max_delay_s=1.0)


class _Retriable(Exception):
    """The client asks for the same call again."""


def _call(method: Callable[[], T]) -> T:
    try:
        return method()
    except KafkaException as error:
        if error.args[0].retriable():
            raise _Retriable(f"Kafka: {error.args[0].str()}") from error
        raise


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return True
