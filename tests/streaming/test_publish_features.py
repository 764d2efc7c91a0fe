"""Which messages reach the stores. With servers: integration/test_publish_features.py."""

import json
from datetime import UTC, datetime

import pytest

from adnomaly.failpoints import Failpoints
from adnomaly.sinks.base import Written
from adnomaly.sinks.offsets import Lease
from adnomaly.windows import TrafficWindow
from streaming.publish_features import FeatureSink

LEASE = Lease(2, 1, 0)
WRITTEN_MS = 1_773_144_001_000
YEAR_10000_MS = 253_402_300_800_000
GOOD = {
    "window_start": "2026-03-10T11:55:00Z",
    "window_end": "2026-03-10T12:00:00Z",
    "geo": "DE",
    "platform": "web",
    "ctr_avg": 0.02,
    "bounce_rate_avg": 0.4,
    "event_count": 12,
}


class Record:
    """A message of the topic `features`."""

    def __init__(self, offset: int, value: bytes | None, written_ms: int = WRITTEN_MS) -> None:
        self._offset, self._value, self._written_ms = offset, value, written_ms

    def topic(self) -> str:
        return "features"

    def partition(self) -> int:
        return LEASE.partition

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes | None:
        return self._value

    def timestamp(self) -> tuple[int, int]:
        return 1, self._written_ms


class MemoryStores:
    """Both stores, and the order of calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.online: list[TrafficWindow] = []
        self.table: list[tuple[TrafficWindow, datetime]] = []

    def corrected(self, windows, computed_at) -> list[TrafficWindow]:
        self.calls.append("corrected")
        return []

    def write(self, windows) -> None:
        self.calls.append("write online")
        self.online += windows

    def correct(self, windows) -> None:
        self.calls.append("correct online")

    def save(self, windows, computed_at) -> None:
        self.calls.append("save")
        self.table += zip(windows, computed_at, strict=True)


def publish(*records: Record) -> tuple[MemoryStores, Written]:
    stores = MemoryStores()
    return stores, FeatureSink(stores, stores, Failpoints("")).write({LEASE: records})


def test_a_window_reaches_both_stores_online_first():
    stores, written = publish(Record(7, json.dumps(GOOD).encode()))
    assert stores.calls == ["corrected", "write online", "correct online", "save"]
    [(window, computed_at)] = stores.table
    assert stores.online == [window]
    assert (window.key, window.features["ctr_avg"]) == ("DE|web", 0.02)
    assert computed_at == datetime(2026, 3, 10, 12, 0, 1, tzinfo=UTC)
    assert written == Written(1, 0, {2: 8})


@pytest.mark.parametrize(
    ("changes", "written_ms"),
    [
        ({"ctr_avg": 7}, WRITTEN_MS),
        ({"event_count": 2**70}, WRITTEN_MS),
        ({"geo": "Germany"}, WRITTEN_MS),
        ({"window_end": "10000-01-01T00:00:00Z"}, WRITTEN_MS),
        ({"window_end": "9999-12-31T23:59:00-01:00"}, WRITTEN_MS),
        (
            {"window_start": "1969-12-31T23:50:00Z", "window_end": "1969-12-31T23:55:00Z"},
            WRITTEN_MS,
        ),
        ({}, YEAR_10000_MS),
        ({}, -1),
        ({}, 0),
    ],
)
def test_an_invalid_message_reaches_no_store_and_is_committed(changes, written_ms, caplog):
    bad = Record(7, json.dumps(GOOD | changes).encode(), written_ms)
    stores, written = publish(bad, Record(8, json.dumps(GOOD).encode()))
    assert len(stores.online) == len(stores.table) == 1
    assert written == Written(2, 0, {2: 9})
    assert caplog.text.count("invalid window at features/2@7: ") == 1


def test_an_empty_read_touches_no_store():
    stores, written = publish()
    assert (stores.calls, written) == ([], Written())
