"""The sink loop on a scripted consumer: retry, lost leases, commit.

With Kafka: integration/test_consumers.py.
"""

from collections.abc import Sequence
from threading import Event

import pytest

from adnomaly.errors import StoreFenced, Unavailable
from adnomaly.sinks.base import Batch, Written, run_sink
from adnomaly.sinks.offsets import Lease

FIRST, SECOND = Lease(0, 1, 0), Lease(1, 1, 0)


class Record:
    """A consumed message."""

    def __init__(self, partition: int, offset: int) -> None:
        self._place = "clicks", partition, offset

    def topic(self) -> str:
        return self._place[0]

    def partition(self) -> int:
        return self._place[1]

    def offset(self) -> int:
        return self._place[2]


class ScriptedConsumer:
    """Returns batches in order, then sets `stop`; loses the lease `loses` during the first wait."""

    def __init__(self, batches: Sequence[Batch], *, loses: Lease | None = None) -> None:
        self.stop = Event()
        self.leases = [FIRST, SECOND]
        self.committed: dict[int, int] = {}
        self.closed = False
        self._batches, self._loses = list(batches), loses

    def open(self) -> None:
        pass

    def read(self, max_messages: int) -> Batch:
        batch = self._batches.pop(0)
        if not self._batches:
            self.stop.set()
        return batch

    def held(self, batch: Batch) -> Batch:
        return {lease: batch.get(lease, ()) for lease in self.leases}

    def wait(self, seconds: float) -> bool:
        if self._loses in self.leases:
            self.leases.remove(self._loses)
        return True

    def commit(self, next_offsets) -> None:
        self.committed |= next_offsets

    def close(self) -> None:
        self.closed = True


class FailingSink:
    """Raises some errors first, then stores."""

    def __init__(self, *errors: Exception) -> None:
        self.batches: list[Batch] = []
        self._errors = list(errors)

    def write(self, batch: Batch) -> Written:
        self.batches.append(batch)
        if self._errors:
            raise self._errors.pop(0)
        return Written.all_of(batch, effects=0)


BATCH = {FIRST: [Record(0, 5), Record(0, 8)], SECOND: [Record(1, 3)]}


def test_a_written_batch_is_committed_and_an_empty_read_reaches_the_sink_too():
    consumer, sink = ScriptedConsumer([{}, BATCH]), FailingSink()
    run_sink(consumer, sink, consumer.stop, unit="rows")
    assert sink.batches == [{FIRST: (), SECOND: ()}, BATCH]
    assert consumer.committed == {0: 9, 1: 4}
    assert consumer.closed


def test_the_same_batch_is_written_again_without_lost_leases():
    consumer = ScriptedConsumer([BATCH], loses=SECOND)
    sink = FailingSink(Unavailable("PostgreSQL"), Unavailable("PostgreSQL"))
    run_sink(consumer, sink, consumer.stop, unit="rows")
    assert sink.batches == [BATCH, {FIRST: BATCH[FIRST]}, {FIRST: BATCH[FIRST]}]
    assert consumer.committed == {0: 9}


def test_a_fenced_sink_stops_and_commits_nothing():
    consumer = ScriptedConsumer([BATCH, {}])
    with pytest.raises(StoreFenced):
        run_sink(consumer, FailingSink(StoreFenced("taken over")), consumer.stop, unit="rows")
    assert (consumer.committed, consumer.closed) == ({}, True)


def test_a_stop_while_a_server_is_unavailable_ends_the_loop(monkeypatch):
    consumer = ScriptedConsumer([BATCH])
    monkeypatch.setattr(consumer, "wait", lambda seconds: False)
    run_sink(consumer, FailingSink(Unavailable("PostgreSQL")), consumer.stop, unit="rows")
    assert (consumer.committed, consumer.closed) == ({}, True)


def test_written_adds_up():
    total = Written(2, 1, {0: 3}) + Written(3, 2, {0: 6, 1: 1})
    assert total == Written(5, 3, {0: 6, 1: 1})
