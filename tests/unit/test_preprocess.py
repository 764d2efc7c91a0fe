"""Residuals: one row and many rows agree, hours and weekends are told apart, little history is said honestly."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest

from adnomaly.errors import NotEnoughHistory
from adnomaly.model.columns import Columns
from adnomaly.model.preprocess import CLIP, Baseline
from adnomaly.model.slots import slot_of, slots_of
from adnomaly.synthetic.windows import simulate_windows
from adnomaly.windows import time_text

MONDAY = datetime(2026, 11, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def windows(small_traffic):
    return simulate_windows(small_traffic, MONDAY, 10, 3)


@pytest.fixture(scope="module")
def baseline(windows) -> Baseline:
    return Baseline.fit(Columns.of(windows))


def row_of(window: dict) -> dict:
    return {**window, "timestamp": time_text(window["window_end"])}


def test_columns_keep_the_order_and_the_entity_of_each_row(windows):
    columns = Columns.of(windows)
    rows = windows.slice(1000, 50).to_pylist()
    assert [columns.entities[e] for e in columns.entity[1000:1050]] == [f"{r['geo']}|{r['platform']}" for r in rows]
    assert columns.end_s[1000:1050].tolist() == [int(r["window_end"].timestamp()) for r in rows]
    assert columns.raw[1000:1050, 2].tolist() == [r["event_count"] for r in rows]


def test_one_row_and_many_rows_have_the_same_residuals(windows, baseline):
    picked = np.random.default_rng(1).integers(0, windows.num_rows, 4000)
    # Around the weekend's midnights, where weekday and weekend mix, every window counts.
    midnight = np.flatnonzero([abs((e - (MONDAY + timedelta(days=5))).total_seconds()) < 900 for e in windows["window_end"].to_pylist()])
    some = windows.take(np.concatenate([picked, midnight]))
    many, known = baseline.residuals(Columns.of(some))
    one = [baseline.residual(row_of(window)) for window in some.to_pylist()]
    assert np.array_equal(np.array([r.z for r in one], np.float32), many)
    assert known.all() and all(r.known for r in one)


def test_normal_windows_have_residuals_of_about_one_deviation(windows, baseline):
    residuals, _ = baseline.residuals(Columns.of(windows))
    assert np.abs(np.median(residuals, axis=0)).max() < 0.05
    assert residuals.std(axis=0) == pytest.approx([1, 1, 1], abs=0.1)


def test_at_high_volume_the_daily_curve_is_followed_within_its_own_noise(small_traffic):
    """A window of thousands of clicks has so little noise that a crooked baseline shows."""
    busy = Columns.of(simulate_windows(replace(small_traffic, base_eps=400.0), MONDAY, 10, 3))
    residuals, _ = Baseline.fit(busy).residuals(busy)
    hour = busy.end_s % 86400 // 1200
    of_time = np.array([np.median(residuals[hour == h], axis=0) for h in range(72)])
    assert np.abs(of_time).max() < 0.5


def test_expected_values_are_in_the_features_own_units(windows, baseline):
    window = windows.slice(5000, 1).to_pylist()[0]
    residual = baseline.residual(row_of(window))
    ctr, bounce, count = residual.expected
    assert ctr == pytest.approx(window["ctr_avg"], rel=0.2)
    assert bounce == pytest.approx(window["bounce_rate_avg"], rel=0.2)
    assert count == pytest.approx(window["event_count"], rel=0.5)


@pytest.mark.parametrize(
    "missing",
    [{"geo": "ZZ"}, {"geo": None}, {"platform": None}, {"timestamp": None}, {"platform": "ios"}],
)
def test_without_a_known_entity_and_time_a_row_is_compared_with_all(windows, baseline, missing):
    window = row_of(windows.slice(5000, 1).to_pylist()[0])
    bare = {name: window[name] for name in ("ctr_avg", "bounce_rate_avg", "event_count")}
    assert baseline.residual(window | missing) == baseline.residual(bare)
    assert not baseline.residual(bare).known


def test_pooled_residuals_are_those_of_bare_rows(windows, baseline):
    some = windows.slice(7000, 200)
    bare = [baseline.residual({k: w[k] for k in ("ctr_avg", "bounce_rate_avg", "event_count")}).z for w in some.to_pylist()]
    assert np.array_equal(np.array(bare, np.float32), baseline.residuals(Columns.of(some), pooled=True)[0])


@pytest.mark.parametrize(
    "extreme",
    [{"event_count": 2**53 - 1}, {"ctr_avg": 0.0}, {"ctr_avg": 1.0, "bounce_rate_avg": 1.0, "event_count": 1}],
)
def test_extreme_rows_stay_finite_and_clipped(windows, baseline, extreme):
    for context in ({}, {"timestamp": None}):
        residual = baseline.residual(row_of(windows.slice(5000, 1).to_pylist()[0]) | extreme | context)
        assert max(abs(z) for z in residual.z) <= CLIP


def test_it_survives_json_to_the_last_bit(windows, baseline):
    again = Baseline.from_json(msgspec.json.decode(msgspec.json.encode(baseline.to_json())))
    columns = Columns.of(windows)
    assert np.array_equal(again.residuals(columns)[0], baseline.residuals(columns)[0])


@pytest.mark.parametrize(
    ("name", "value"),
    [("features", ["bounce_rate_avg", "ctr_avg", "event_count"]), ("pooled_scale", [1.0, 0.0, 1.0]), ("center", [[1.0]]), ("clip", 5.0)],
)
def test_a_baseline_of_something_else_is_refused(baseline, name, value):
    with pytest.raises(ValueError):
        Baseline.from_json(baseline.to_json() | {name: value})


def test_an_entity_without_weekends_is_known_on_weekdays_only(small_traffic):
    weekdays = Columns.of(simulate_windows(small_traffic, MONDAY, 4, 3))
    learnt = Baseline.fit(weekdays)
    saturday = simulate_windows(small_traffic, MONDAY + timedelta(days=5), 1, 3)
    assert learnt.residuals(weekdays)[1].all()
    assert not learnt.residuals(Columns.of(saturday))[1].any()
    assert not learnt.residual(row_of(saturday.slice(9, 1).to_pylist()[0])).known


def test_a_few_hours_of_history_are_not_enough(small_traffic):
    with pytest.raises(NotEnoughHistory, match="hours of the day"):
        Baseline.fit(Columns.of(simulate_windows(small_traffic, MONDAY, 0.5, 3)))


@pytest.mark.parametrize(
    ("moment", "weekend"),
    [
        ("2026-11-06T23:59:00Z", 0.0),
        ("2026-11-07T00:00:00Z", 0.0),  # ends with Friday
        ("2026-11-07T00:01:00Z", 0.2),
        ("2026-11-07T00:05:00Z", 1.0),
        ("2026-11-09T00:00:00Z", 1.0),  # ends with Sunday
        ("2026-11-09T00:03:00Z", 0.4),
        ("2026-11-09T00:05:00Z", 0.0),
    ],
)
def test_a_window_over_midnight_is_partly_of_the_weekend(moment, weekend):
    end_s = int(datetime.fromisoformat(moment).timestamp())
    assert slot_of(moment)[1] == pytest.approx(weekend)
    assert slots_of(np.array([end_s])).weekend[0] == pytest.approx(weekend)


def test_slots_of_text_and_of_numbers_agree_through_a_week():
    ends = int(MONDAY.timestamp()) + np.arange(0, 7 * 86400, 97)
    slots = slots_of(ends)
    texts = [slot_of(time_text(datetime.fromtimestamp(int(end), UTC))) for end in ends]
    assert np.array_equal(np.array(texts), np.column_stack([slots.step, slots.weekend, slots.share]))
