"""Record timestamps of consumed messages."""

from datetime import UTC, datetime

import pytest

from adnomaly.clients.kafka.message import record_time


class Stamped:
    """A message with a record timestamp, in milliseconds."""

    def __init__(self, timestamp_ms: int) -> None:
        self._timestamp_ms = timestamp_ms

    def timestamp(self) -> tuple[int, int]:
        return 1, self._timestamp_ms


def test_a_record_timestamp_is_utc():
    assert record_time(Stamped(1_795_600_000_500)) == datetime(
        2026, 11, 25, 9, 46, 40, 500_000, tzinfo=UTC
    )


@pytest.mark.parametrize("timestamp_ms", [-1, 0, 253_402_300_800_000])
def test_a_record_timestamp_outside_the_years_1970_to_9999_is_refused(timestamp_ms):
    with pytest.raises(ValueError, match="record timestamp: must be in the years 1970 to 9999"):
        record_time(Stamped(timestamp_ms))
