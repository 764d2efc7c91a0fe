"""The daily backfill on memory twins: spans, splitting, and the output of each step."""

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from adnomaly.errors import InvalidSetting, NotEnoughHistory
from adnomaly.pipelines import backfill_features as pipeline
from adnomaly.stores.window_arrow import as_windows, window_schema, window_table
from adnomaly.windows import SIZE, TrafficWindow

DAY = date(2026, 3, 1)
MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)
LATER = datetime(2026, 3, 9, 12, tzinfo=UTC)


def window(minute: int, geo: str = "DE", count: int = 10) -> TrafficWindow:
    end = MIDNIGHT + timedelta(minutes=minute)
    values = {"ctr_avg": 0.02, "bounce_rate_avg": 0.36, "event_count": count}
    return TrafficWindow(
        window_start=end - SIZE, window_end=end, geo=geo, platform="web", features=values
    )


class MemoryStore:
    """Flink, the offline files and the online store in memory."""

    def __init__(self, windows: list[TrafficWindow]) -> None:
        self.lake, self.runs, self.files, self.online = windows, [], {}, {}
        self.left: dict[str, pa.Table] = {}

    def run(self, start, end, *, output):
        self.runs.append((start, end))
        # A batch over whole objects of the lake may give windows beyond the span, in any order.
        self.left[output.removeprefix("s3://memory/")] = window_table(self.lake[::-1])

    def url(self, prefix):
        return f"s3://memory/{prefix}"

    def collect(self, prefix):
        return self.left.get(prefix, window_schema().empty_table())

    def discard(self, prefix):
        self.left.pop(prefix, None)

    def days(self):
        return sorted(self.files)

    def write_day(self, day, windows):
        self.files[day] = as_windows(windows)
        return f"{windows.num_rows} rows"

    def sync(self):
        return []

    def newest(self, start, end):
        inside = [w for day in self.files.values() for w in day if start < w.window_end <= end]
        return list({w.key: w for w in sorted(inside, key=lambda w: w.window_end)}.values())

    def apply(self):
        pass

    def materialize(self, start, end):
        for w in self.newest(start, end):
            if w.key not in self.online or self.online[w.key].window_end < w.window_end:
                self.online[w.key] = w

    def correct(self, windows):
        better = [
            w
            for w in windows
            if self.online[w.key].window_end == w.window_end and self.online[w.key] != w
        ]
        self.online |= {w.key: w for w in better}
        return better


def test_a_span_is_whole_days_up_to_now_or_until():
    two = pipeline.span_of(DAY, DAY + timedelta(days=1), now=LATER)
    assert (two.start, two.end) == (MIDNIGHT, MIDNIGHT + timedelta(days=2))
    assert two.days == [DAY, DAY + timedelta(days=1)]
    until = pipeline.span_of(DAY, DAY, now=LATER, until=MIDNIGHT + timedelta(hours=14))
    assert (until.end, until.days) == (MIDNIGHT + timedelta(hours=14), [DAY])
    today = pipeline.span_of(DAY, DAY, now=MIDNIGHT + timedelta(minutes=61, seconds=59))
    assert today.end == MIDNIGHT + timedelta(minutes=56), (
        "the newest clicks may not be in the lake yet"
    )


def test_nothing_to_compute_is_an_error():
    with pytest.raises(InvalidSetting, match="nothing to compute"):
        pipeline.span_of(DAY, DAY, now=MIDNIGHT)


def test_midnight_belongs_to_the_day_before_and_windows_outside_are_left_out():
    windows = [window(m) for m in (0, 1, 1440, 1441, 2880, 2881)]
    span = pipeline.span_of(DAY, DAY + timedelta(days=1), now=LATER)
    parts = {
        day: as_windows(table) for day, table in pipeline.split_days(window_table(windows), span)
    }
    assert parts == {DAY: windows[1:3], DAY + timedelta(days=1): windows[3:5]}


def test_one_batch_run_for_a_range_of_days():
    store = MemoryStore([window(m, geo) for m in range(-3, 2000, 7) for geo in ("DE", "US")])
    span = pipeline.span_of(DAY, DAY + timedelta(days=1), now=LATER)
    assert pipeline.run(store, store, store, span) == {
        "2026-03-01": f"{2 * 206} rows",
        "2026-03-02": f"{2 * 80} rows",
    }
    assert store.runs == [(span.start, span.end)]
    assert store.left == {}
    assert set(store.online) == {"DE|web", "US|web"}


def test_a_day_without_clicks_gets_no_file_and_no_window():
    store = MemoryStore([window(5), window(3000)])
    span = pipeline.span_of(DAY, DAY + timedelta(days=2), now=LATER)
    assert list(pipeline.run(store, store, store, span)) == ["2026-03-01", "2026-03-03"]


def test_writing_again_without_computing_is_refused_and_keeps_the_files():
    store = MemoryStore([window(5)])
    span = pipeline.span_of(DAY, DAY, now=LATER)
    pipeline.run(store, store, store, span)
    with pytest.raises(NotEnoughHistory, match="compute again"):
        pipeline.write_days(store, span, span.prefix)
    assert store.files == {DAY: [window(5)]}


def test_live_windows_stay_and_late_clicks_correct():
    store = MemoryStore([window(5, "DE", 12), window(5, "US", 12)])
    store.online = {"DE|web": window(5, "DE", 10), "US|web": window(6, "US", 10)}
    pipeline.run(store, store, store, pipeline.span_of(DAY, DAY, now=LATER))
    assert store.online == {"DE|web": window(5, "DE", 12), "US|web": window(6, "US", 10)}
