"""When is a minute complete? With partitions that run ahead of each other, fall silent, and hold what is no window."""

from adnomaly.scoring.minute_buffer import GRACE_S, Buffered, MinuteBuffer


def window(minute: int, entity: str, partition: int = 0) -> Buffered[str]:
    return Buffered(f"{entity}{minute}", partition, 60 * minute, entity)


def ready(closing: MinuteBuffer[str], now: float) -> list[str]:
    return [held.item for held in closing.complete(now)]


def started() -> MinuteBuffer[str]:
    """Entities a and b in partition 0, c in partition 1; minute 1 is done."""
    closing: MinuteBuffer[str] = MinuteBuffer()
    closing.hold([window(1, "a"), window(1, "b"), window(1, "c", 1)], [0, 1], 0)
    assert ready(closing, GRACE_S - 1) == [], "at the beginning nobody knows who should be there"
    assert ready(closing, GRACE_S) == ["a1", "b1", "c1"]
    return closing


def test_a_minute_is_complete_once_everyone_of_the_last_hour_is_there():
    closing = started()
    closing.hold([window(2, "a"), window(2, "b")], [0, 1], 60)
    assert ready(closing, 60) == []
    closing.hold([window(2, "c", 1)], [0, 1], 61)
    assert ready(closing, 61) == ["a2", "b2", "c2"]
    assert len(closing) == 0


def test_a_missing_entity_is_waited_for_until_its_partition_is_past_the_minute_or_silent():
    closing = started()
    closing.hold([window(2, "a"), window(2, "b")], [0, 1], 60)
    assert ready(closing, 60 + GRACE_S - 1) == []
    assert ready(closing, 60 + GRACE_S) == ["a2", "b2"]
    closing.hold([window(3, "a"), window(3, "b")], [0, 1], 120)
    closing.hold([window(4, "c", 1)], [0, 1], 121)
    assert ready(closing, 121) == ["a3", "b3"], "c is past minute 3, so it has none"


def test_an_entity_that_has_not_been_there_for_an_hour_is_not_waited_for():
    closing = started()
    for minute in range(2, 70):
        closing.hold([window(minute, "a"), window(minute, "b")], [0, 1], 60 * minute)
        closing.complete(60 * minute + GRACE_S)
    closing.hold([window(70, "a"), window(70, "b")], [0, 1], 4200)
    assert ready(closing, 4200) == ["a70", "b70"]


def test_what_is_taken_is_the_beginning_of_each_partition():
    closing = started()
    closing.hold(
        [window(3, "a"), window(2, "b"), Buffered("dead", 0, None, None), window(2, "c", 1)],
        [0, 1],
        120,
    )
    assert ready(closing, 120 + GRACE_S) == ["a3", "b2", "dead", "c2"]
    closing.hold([window(5, "a"), Buffered("dead", 0, None, None), window(4, "c", 1)], [0, 1], 200)
    assert ready(closing, 200) == [], "minute 4 lacks b, minute 5 lacks b and c"
    closing.hold([Buffered("dead", 1, None, None)], [0, 1], 201)
    closing.hold([window(5, "b"), window(5, "c", 1)], [0, 1], 202)
    assert ready(closing, 202) == ["a5", "dead", "c4", "dead", "b5", "c5"]


def test_a_backlog_closes_minute_by_minute_as_far_as_both_partitions_are_read():
    closing: MinuteBuffer[str] = MinuteBuffer()
    closing.hold([window(m, e) for m in range(1, 100) for e in "ab"], [0, 1], 0)
    closing.hold([window(m, "c", 1) for m in range(1, 40)], [0, 1], 1)
    taken = ready(closing, 1)
    assert "c38" in taken
    assert "a39" not in taken or "c39" in taken
    assert "a41" not in taken


def test_windows_that_are_judged_at_once_lie_within_a_day():
    closing: MinuteBuffer[str] = MinuteBuffer()
    closing.hold([window(1, "a"), window(5000, "a")], [0], 0)
    assert ready(closing, GRACE_S) == ["a1"]
    assert ready(closing, GRACE_S) == ["a5000"]
