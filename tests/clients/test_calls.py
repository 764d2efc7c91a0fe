"""Which errors of Kafka a call waits out."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from adnomaly.clients.kafka import calls


class Broker:
    """Answers with these errors, then with 7."""

    def __init__(self, *errors: KafkaError) -> None:
        self._errors = list(errors)

    def ask(self) -> int:
        if self._errors:
            raise KafkaException(self._errors.pop(0))
        return 7


@pytest.fixture(autouse=True)
def _no_sleep(monkeypatch):
    monkeypatch.setattr(calls, "_sleep", lambda _: True)


@pytest.mark.parametrize("code", sorted(calls.TRANSIENT))
def test_a_broker_that_has_just_started_is_asked_again(code):
    assert calls.call(Broker(KafkaError(code), KafkaError(code)).ask) == 7


def test_what_the_client_calls_retriable_is_called_again():
    error = KafkaError(KafkaError._STATE, retriable=True)
    assert calls.call(Broker(error).ask) == 7


@pytest.mark.parametrize(
    "error",
    [
        KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED),
        KafkaError(KafkaError._FENCED, fatal=True),
        KafkaError(KafkaError._TIMED_OUT, fatal=True),
        KafkaError(KafkaError._TRANSPORT, txn_requires_abort=True),
    ],
    ids=str,
)
def test_other_errors_are_raised(error):
    with pytest.raises(KafkaException):
        calls.call(Broker(error).ask)
