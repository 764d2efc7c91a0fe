"""Stream against batch: equal, explained and failing differences."""

import re
from datetime import UTC, date, datetime, timedelta

import pytest

from adnomaly.errors import NothingCompared, WindowsDiffer
from adnomaly.pipelines.compare_windows import compare, run, without_history
from adnomaly.stores.comparisons import DayComparison
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


class Results:
    """Results by day, as the table keeps them."""

    def __init__(self, *skipped):
        self.saved = {day: DayComparison(day, "skipped", 0, "", MIDNIGHT) for day in skipped}

    def save(self, comparison):
        self.saved[comparison.day] = comparison

    def skipped_before(self, day):
        return len([d for d in self.saved if d < day])


def compare_day(stream, batch, lake, day=DAY, results=None):
    results = Results() if results is None else results
    summary = run(day, stream, batch, lake, results, now=MIDNIGHT)
    assert results.saved[day].outcome == "equal"
    assert results.saved[day].compared == summary["compared"]
    return summary


WHOLE_DAY = Side([window(m) for m in range(1, 1441)])
ALL_HOURS = [MIDNIGHT + timedelta(hours=n) for n in range(-1, 24)]


def test_a_day_that_agrees_says_how_much_was_compared():
    assert compare_day(WHOLE_DAY, WHOLE_DAY, WHOLE_DAY) == {"compared": 1435}


@pytest.mark.parametrize(
    ("stream", "batch", "history", "reason"),
    [
        (Side([]), Side([window(5)]), (), "closed no window yet"),
        (Side([window(5)]), Side([]), ALL_HOURS, "of generated history"),
        (Side([window(1500)]), Side([window(5)]), (), "before the stream's first"),
        (Side([window(1500)]), Side([]), (), "neither stream nor batch"),
    ],
)
def test_a_day_of_which_nothing_was_compared_says_why(stream, batch, history, reason):
    results = Results()
    with pytest.raises(NothingCompared, match=reason):
        run(DAY, stream, batch, Side([], history), results, now=MIDNIGHT)
    assert results.saved[DAY].outcome == "skipped"
    assert re.search(reason, results.saved[DAY].reason)


def test_the_third_skipped_day_in_a_row_is_a_failure():
    results = Results(DAY - timedelta(days=2), DAY - timedelta(days=1))
    with pytest.raises(WindowsDiffer, match="nothing was compared for 3 days: the stream has"):
        run(DAY, Side([]), Side([]), Side([]), results, now=MIDNIGHT)


def test_windows_on_both_sides_of_which_none_could_be_compared_are_a_failure():
    with pytest.raises(WindowsDiffer, match="though the stream has 1,440 and the batch 1,440"):
        compare_day(WHOLE_DAY, WHOLE_DAY, Side([], ALL_HOURS))


def test_the_failure_lists_every_window():
    stream, results = Side([w for w in WHOLE_DAY.all if w.window_end.minute != 30]), Results()
    with pytest.raises(WindowsDiffer, match="24 windows differ") as failure:
        compare_day(stream, WHOLE_DAY, WHOLE_DAY, results=results)
    assert str(failure.value).count("missing") == 24
    assert "2026-03-01T07:30:00Z DE|web" in str(failure.value)
    assert results.saved[DAY].outcome == "differs"
    assert results.saved[DAY].reason.startswith("2026-03-01: 24 windows differ")


def test_a_few_late_clicks_pass_and_many_do_not():
    few = Side([window(m, 99 if m % 100 == 0 else 100) for m in range(1, 1441)])
    assert compare_day(few, WHOLE_DAY, WHOLE_DAY) == {"compared": 1435, "late": 14}
    many = Side([window(m, 90) for m in range(1, 1441)])
    with pytest.raises(WindowsDiffer, match="14350 late clicks"):
        compare_day(many, WHOLE_DAY, WHOLE_DAY)


def test_without_offline_windows_it_asks_for_the_backfill():
    day = DAY + timedelta(days=1)
    with pytest.raises(WindowsDiffer, match="backfill_features"):
        compare_day(Side([window(5), window(1500)]), Side([]), Side([]), day=day)
