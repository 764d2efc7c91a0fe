"""Retrying while a server is unavailable."""

import logging
from threading import Event

import pytest

from adnomaly.errors import Unavailable
from adnomaly.retry import Stopped, retry, until


class Flaky:
    """Fails a number of times, then returns its number of calls."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.calls, self._failures = 0, failures
        self._error = error or Unavailable("the server does not answer\nsecond line")

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self._failures:
            raise self._error
        return self.calls


def test_a_call_that_succeeds_is_not_repeated():
    waits = []
    assert retry(Flaky(0), wait=lambda s: not waits.append(s)) == 1
    assert waits == []


def test_delays_double_up_to_the_maximum_each_with_jitter():
    waits = []
    result = retry(Flaky(6), wait=lambda s: not waits.append(s), first_delay_s=1.0, max_delay_s=5.0)
    assert result == 7
    for seconds, delay in zip(waits, (1, 2, 4, 5, 5, 5), strict=True):
        assert delay / 2 <= seconds <= delay


def test_another_error_is_raised_at_once():
    call = Flaky(1, KeyError("no such object"))
    with pytest.raises(KeyError):
        retry(call, wait=lambda _: True)
    assert call.calls == 1
    assert retry(Flaky(1, KeyError("x")), wait=lambda _: True, errors=(KeyError,)) == 2


def test_a_refused_wait_gives_up_with_the_cause():
    call = Flaky(9)
    with pytest.raises(Stopped, match="the server does not answer") as stopped:
        retry(call, wait=lambda _: call.calls < 3)
    assert call.calls == 3
    assert isinstance(stopped.value.__cause__, Unavailable)


def test_stop_ends_a_wait_at_once():
    stop = Event()
    stop.set()
    call = Flaky(9)
    with pytest.raises(Stopped):
        retry(call, wait=until(stop), first_delay_s=60.0)
    assert call.calls == 1
    assert until(Event())(0.0)


def test_each_failure_is_counted_and_logged_in_one_line(caplog):
    caplog.set_level(logging.WARNING)
    failures = []
    retry(Flaky(2), wait=lambda _: True, on_failure=failures.append)
    assert [type(error) for error in failures] == [Unavailable] * 2
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith("the server does not answer; retrying in ")


def test_an_error_without_text_is_named(caplog):
    retry(Flaky(1, Unavailable()), wait=lambda _: True)
    assert caplog.messages[0].startswith("Unavailable; retrying in ")
