"""Calls of a client while the broker is unavailable, or starts."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

from confluent_kafka import KafkaError, KafkaException

from adnomaly.retry import retry

T = TypeVar("T")

TRANSIENT: Final = frozenset(
    {
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError._WAIT_COORD,
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
    }
)
"""Codes of a broker that is away or has just started. Only calls of a transaction have the flag
`retriable`; those of a consumer have these codes.
"""


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
        if _passes(error.args[0]):
            raise _Retriable(f"Kafka: {error.args[0].str()}") from error
        raise


def _passes(error: KafkaError) -> bool:
    """Whether the same call can succeed later."""
    if error.fatal() or error.txn_requires_abort():
        return False
    return bool(error.retriable()) or error.code() in TRANSIENT


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return True
