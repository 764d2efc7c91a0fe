"""Completion of a minute: partitions ahead of each other, silent partitions, invalid messages."""

from adnomaly.scoring.minute_buffer import GRACE_S, Buffered, MinuteBuffer


def window(minute: int, entity: str, partition: int = 0) -> Buffered[str]:
    return Buffered(f"{entity}{minute}", partition, 60 * minute, entity)


def ready(buffer: MinuteBuffer[str], now: float) -> list[str]:
    return [entry.item for entry in buffer.complete(now)]


def started() -> MinuteBuffer[str]:
    """Entities a and b in partition 0, c in partition 1; minute 1 is done."""
    buffer: MinuteBuffer[str] = MinuteBuffer()
    buffer.hold([window(1, "a"), window(1, "b"), window(1, "c", 1)], [0, 1], 0)
    assert ready(buffer, GRACE_S - 1) == [], "at the beginning nobody knows who should be there"
    assert ready(buffer, GRACE_S) == ["a1", "b1", "c1"]
    return buffer


def test_a_minute_is_complete_once_everyone_of_the_last_hour_is_there():
    buffer = started()
    buffer.hold([window(2, "a"), window(2, "b")], [0, 1], 60)
    assert ready(buffer, 60) == []
    buffer.hold([window(2, "c", 1)], [0, 1], 61)
    assert ready(buffer, 61) == ["a2", "b2", "c2"]
    assert len(buffer) == 0


def test_a_missing_entity_is_waited_for_until_its_partition_is_past_the_minute_or_silent():
    buffer = started()
    buffer.hold([window(2, "a"), window(2, "b")], [0, 1], 60)
    assert ready(buffer, 60 + GRACE_S - 1) == []
    assert ready(buffer, 60 + GRACE_S) == ["a2", "b2"]
    buffer.hold([window(3, "a"), window(3, "b")], [0, 1], 120)
    buffer.hold([window(4, "c", 1)], [0, 1], 121)
    assert ready(buffer, 121) == ["a3", "b3"], "c is past minute 3, so it has none"


def test_an_entity_that_has_not_been_there_for_an_hour_is_not_waited_for():
    buffer = started()
    for minute in range(2, 70):
        buffer.hold([window(minute, "a"), window(minute, "b")], [0, 1], 60 * minute)
        buffer.complete(60 * minute + GRACE_S)
    buffer.hold([window(70, "a"), window(70, "b")], [0, 1], 4200)
    assert ready(buffer, 4200) == ["a70", "b70"]


def test_complete_items_are_the_beginning_of_each_partition():
    buffer = started()
    buffer.hold(
        [window(3, "a"), window(2, "b"), Buffered("dead", 0, None, None), window(2, "c", 1)],
        [0, 1],
        120,
    )
    assert ready(buffer, 120 + GRACE_S) == ["a3", "b2", "dead", "c2"]
    buffer.hold([window(5, "a"), Buffered("dead", 0, None, None), window(4, "c", 1)], [0, 1], 200)
    assert ready(buffer, 200) == [], "minute 4 lacks b, minute 5 lacks b and c"
    buffer.hold([Buffered("dead", 1, None, None)], [0, 1], 201)
    buffer.hold([window(5, "b"), window(5, "c", 1)], [0, 1], 202)
    assert ready(buffer, 202) == ["a5", "dead", "c4", "dead", "b5", "c5"]


def test_a_backlog_closes_minute_by_minute_as_far_as_both_partitions_are_read():
    buffer: MinuteBuffer[str] = MinuteBuffer()
    buffer.hold([window(m, e) for m in range(1, 100) for e in "ab"], [0, 1], 0)
    buffer.hold([window(m, "c", 1) for m in range(1, 40)], [0, 1], 1)
    taken = ready(buffer, 1)
    assert "c38" in taken
    assert "a39" not in taken or "c39" in taken
    assert "a41" not in taken


def test_windows_that_are_scored_at_once_lie_within_a_day():
    buffer: MinuteBuffer[str] = MinuteBuffer()
    buffer.hold([window(1, "a"), window(5000, "a")], [0], 0)
    assert ready(buffer, GRACE_S) == ["a1"]
    assert ready(buffer, GRACE_S) == ["a5000"]
