"""Collecting and flushing of the lake sink. With servers: integration/test_consumers.py."""

import json
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

import pytest

from adnomaly.errors import Unavailable
from adnomaly.failpoints import Failpoints
from adnomaly.sinks.base import Written
from adnomaly.sinks.offsets import Lease
from streaming.archive_clicks import LakeSink

LEASE, OTHER = Lease(0, 1, 10), Lease(1, 4, 0)


class Click:
    """A valid click, as consumed."""

    def __init__(self, offset: int, hour: int, partition: int = 0) -> None:
        self._partition, self._offset, self._hour = partition, offset, hour

    def topic(self) -> str:
        return "clickstream.valid"

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes:
        fields = {
            "event_id": str(UUID(int=self._offset)),
            "timestamp": f"2026-03-10T{self._hour:02d}:00:00.000000Z",
            "user_id_hash": "0" * 16,
            "ad_id": "ad_1",
            "campaign_id": "camp_1",
            "geo": "DE",
            "platform": "web",
            "user_agent": "test",
            "CPC": 0.1,
            "CTR": 0.1,
            "conversion": 0,
            "bounce_rate": 0.4,
        }
        return json.dumps(fields).encode()


class MemoryLake:
    """The lake, its manifest and the stored offsets; fails a number of uploads."""

    topic_id = "id"

    def __init__(self) -> None:
        self.failures = 0
        self.recorded: list[tuple[int, int, tuple[int, int], list[str]]] = []
        self.advanced: list[tuple[int, int, int, int]] = []

    def put(self, hour: datetime, table, *, topic_id, partition, offsets, epoch):
        if self.failures:
            self.failures -= 1
            raise Unavailable("S3")
        return partition, hour.hour, offsets, table["event_id"].to_pylist()

    def record(self, connection, objects) -> None:
        self.recorded += objects

    def advance(self, connection, lease, *, first, following, records) -> None:
        self.advanced.append((lease.partition, first, following, records))

    @contextmanager
    def connection(self):
        yield None


def sink(lake: MemoryLake, *, max_rows: int = 100, max_seconds: float = 60.0) -> LakeSink:
    return LakeSink(lake, lake, lake, Failpoints(""), max_rows=max_rows, max_seconds=max_seconds)


def spans(lake: MemoryLake) -> list[tuple[int, int, tuple[int, int], int]]:
    return [(partition, hour, span, len(ids)) for partition, hour, span, ids in lake.recorded]


def test_a_flush_is_due_by_age_also_without_new_clicks():
    lake = MemoryLake()
    archive = sink(lake)
    assert archive.write({LEASE: [Click(10, 8), Click(12, 7)]}) == Written()
    archive._max_seconds = 0.0
    assert archive.write({LEASE: []}) == Written(2, 2, {0: 13})
    assert spans(lake) == [(0, 7, (12, 12), 1), (0, 8, (10, 10), 1)]
    assert lake.advanced == [(0, 10, 13, 2)]
    assert archive.write({LEASE: []}) == Written()


def test_a_flush_is_due_by_size_and_by_a_new_hour():
    lake = MemoryLake()
    clicks = [Click(10, 7), Click(11, 7), Click(12, 7), Click(13, 8), Click(14, 7)]
    written = sink(lake, max_rows=2).write({LEASE: clicks})
    assert written == Written(3, 2, {0: 13})
    assert lake.advanced == [(0, 10, 12, 2), (0, 12, 13, 1)]


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_retried_batch_adds_only_the_rest(failures: int):
    lake = MemoryLake()
    archive = sink(lake, max_rows=2, max_seconds=0.0)
    batch = {
        LEASE: [Click(n, 7) for n in range(10, 15)],
        OTHER: [Click(n, 7, partition=1) for n in range(3)],
    }
    lake.failures = failures
    for _ in range(failures):
        with pytest.raises(Unavailable):
            archive.write(batch)
    assert archive.write(batch) == Written(8, 5, {0: 15, 1: 3})
    stored = [event_id for *_, ids in lake.recorded for event_id in ids]
    assert sorted(stored) == sorted(str(UUID(int=n)) for n in [*range(10, 15), *range(3)])


def test_clicks_of_a_lost_lease_are_dropped_and_read_again_under_the_next():
    lake = MemoryLake()
    archive = sink(lake)
    archive.write({LEASE: [Click(10, 7), Click(11, 7)]})
    archive.write({})
    again = Lease(0, 3, 10)
    archive._max_seconds = 0.0
    assert archive.write({again: [Click(10, 7), Click(11, 7)]}) == Written(2, 1, {0: 12})
    assert lake.advanced == [(0, 10, 12, 2)]
