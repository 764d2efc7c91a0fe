"""Stream against batch: equal, explained and failing differences."""

from datetime import UTC, date, datetime, timedelta

import pytest

from adnomaly.errors import WindowsDiffer
from adnomaly.pipelines.compare_windows import compare, run, without_history
from adnomaly.windows import SIZE, TrafficWindow

DAY = date(2026, 3, 1)
MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)


def window(minute: int, count: int = 100, ctr: float = 0.02, geo: str = "DE") -> TrafficWindow:
    end = MIDNIGHT + timedelta(minutes=minute)
    values = {"ctr_avg": ctr, "bounce_rate_avg": 0.36, "event_count": count}
    return TrafficWindow(
        window_start=end - SIZE, window_end=end, geo=geo, platform="web", features=values
    )


def kinds(stream, batch, newest=MIDNIGHT + timedelta(days=2)):
    return [
        (d.kind, (d.window_end - MIDNIGHT) // timedelta(minutes=1))
        for d in compare(stream, batch, newest=newest)
    ]


def test_equal_windows_do_not_differ():
    assert kinds([window(5), window(6)], [window(6), window(5)]) == []


def test_the_order_of_a_sum_is_no_difference_and_more_is():
    assert kinds([window(5, ctr=0.02)], [window(5, ctr=0.02 + 1e-12)]) == []
    assert kinds([window(5, ctr=0.02)], [window(5, ctr=0.02 + 1e-8)]) == [("differs", 5)]


def test_missing_and_extra():
    assert kinds([window(5), window(7)], [window(5), window(6)]) == [("missing", 6), ("extra", 7)]


def test_more_clicks_in_the_batch_are_late_clicks_when_they_add_up():
    late = compare(
        [window(5, 100, 0.02)], [window(5, 102, (0.02 * 100 + 0.5 + 0.01) / 102)], newest=MIDNIGHT
    )
    # Two clicks cannot lift the mean of a hundred from 0.02 to 0.05: they would need a CTR above 1.
    impossible = [window(5, 102, 0.05)]
    assert [(d.kind, d.late_clicks, d.explained) for d in late[:1]] == [("late", 2, True)]
    assert kinds([window(5, 100, 0.02)], impossible) == [("differs", 5)]


def test_fewer_clicks_in_the_batch_are_no_late_clicks():
    assert kinds([window(5, 101)], [window(5, 100)]) == [("differs", 5)]


def test_windows_that_no_later_click_closed_are_open():
    batch = [window(m) for m in range(5, 101)]
    stream = batch[:-7]
    newest = stream[-1].window_end
    assert kinds(stream, batch, newest) == [("missing", 94), *(("open", m) for m in range(95, 101))]
    assert {k for k, _ in kinds(stream, batch)} == {"missing"}


def test_history_hours_and_the_time_before_the_stream_are_left_out():
    windows = [window(m) for m in (10, 14, 15, 60, 61, 64, 65, 124, 125, 126)]
    since, history = MIDNIGHT + timedelta(minutes=10), {MIDNIGHT + timedelta(hours=1)}
    ends = [
        (w.window_end - MIDNIGHT) // timedelta(minutes=1)
        for w in without_history(windows, history, since=since)
    ]
    assert ends == [15, 60, 125, 126]


class Side:
    """One side of the comparison, in memory."""

    def __init__(self, windows, history=()):
        self.all, self.history = windows, set(history)

    def windows(self, start, end):
        return [w for w in self.all if start < w.window_end <= end]

    def span(self):
        return (
            (min(w.window_end for w in self.all), max(w.window_end for w in self.all))
            if self.all
            else None
        )

    def days(self):
        return [DAY]

    def sync(self):
        return []

    def history_hours(self, start, end):
        return self.history


def test_a_day_that_agrees_says_how_much_was_compared():
    both = Side([window(m) for m in range(1, 1441)])
    assert run(DAY, both, both, both) == {"compared": 1435}


def test_a_stream_without_windows_is_not_compared():
    assert run(DAY, Side([]), Side([window(5)]), Side([])) == {"compared": 0}


def test_the_failure_lists_every_window():
    batch = Side([window(m) for m in range(1, 1441)])
    stream = Side([w for w in batch.all if w.window_end.minute != 30])
    with pytest.raises(WindowsDiffer, match="24 windows differ") as failure:
        run(DAY, stream, batch, batch)
    assert str(failure.value).count("missing") == 24
    assert "2026-03-01T07:30:00Z DE|web" in str(failure.value)


def test_a_few_late_clicks_pass_and_many_do_not():
    batch = Side([window(m) for m in range(1, 1441)])
    few = Side([window(m, 99 if m % 100 == 0 else 100) for m in range(1, 1441)])
    assert run(DAY, few, batch, batch) == {"compared": 1435, "late": 14}
    many = Side([window(m, 90) for m in range(1, 1441)])
    with pytest.raises(WindowsDiffer, match="14350 late clicks"):
        run(DAY, many, batch, batch)


def test_without_offline_windows_it_asks_for_the_backfill():
    with pytest.raises(WindowsDiffer, match="backfill_features"):
        run(DAY + timedelta(days=1), Side([window(5)]), Side([]), Side([]))
