"""The filters of `make tail` and `make tail-features`."""

import argparse

import pytest

from streaming import tail
from streaming.tail import Condition

WINDOW = {"geo": "DE", "platform": "web", "event_count": 51, "ctr_avg": 0.02, "note": "a=b"}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("event_count > 50", True),
        ("event_count>51", False),
        ("event_count >= 51", True),
        ("ctr_avg <= 2e-2", True),
        ("event_count != 51", False),
        ("event_count = 51.0", True),
        ("event_count = many", False),
        ("event_count != many", True),
        ("geo == DE", True),
        ("geo != 'US'", True),
        ("geo < EE", True),
        ("note = a=b", True),
        ("bounce_rate_avg > 0", False),
    ],
)
def test_a_condition_compares_numbers_as_numbers_and_the_rest_as_text(text, holds):
    assert Condition.parse(text).holds(WINDOW) is holds


@pytest.mark.parametrize("text", ["", "event_count", "> 50", "event_count ~ 5", "a b > 1"])
def test_another_form_is_refused_with_an_example(text):
    with pytest.raises(argparse.ArgumentTypeError, match="such as 'event_count > 50'"):
        Condition.parse(text)


class Sent:
    """A message as the client delivers it."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    def key(self):
        return b"DE|web"

    def value(self):
        return self._value

    def headers(self):
        return []


def test_only_messages_that_match_are_printed_and_counted(monkeypatch, capsys):
    values = [
        b'{"geo":"DE","n":1}',
        b'{"geo":"US","n":9}',
        b"no json",
        b"[1]",
        b'{"geo":"DE","n":7}',
    ]
    monkeypatch.setattr(tail, "follow", lambda *_: iter([None, *map(Sent, values)]))
    monkeypatch.setattr(tail, "load_settings", lambda: argparse.Namespace(kafka_bootstrap=""))
    monkeypatch.setattr(tail.sys, "argv", ["tail", "features", "--geo", "DE", "--where", "n > 5"])
    assert tail.main() == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["DE|web       geo=DE  n=7"]
