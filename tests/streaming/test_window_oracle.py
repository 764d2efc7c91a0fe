"""The oracle itself, on cases small enough to be seen through."""

from datetime import UTC, datetime, timedelta

import pytest

import window_oracle as oracle
from adnomaly.windows import SIZE, SLIDE
from window_oracle import Sent

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def click(seconds: float, *, ctr: float = 0.02, geo: str = "DE") -> Sent:
    return Sent(f"{seconds}-{ctr}-{geo}", NOON + seconds * SECOND, geo, "web", ctr, 0.4)


def test_a_click_is_in_five_windows():
    found = oracle.windows([click(0)])
    assert sorted(found) == [(oracle.minute(NOON) + n, "DE", "web") for n in (1, 2, 3, 4, 5)]


def test_a_moment_lies_in_five_windows_start_included_end_excluded():
    windows = oracle.windows_of(NOON)
    assert len(windows) == SIZE // SLIDE == 5
    assert windows[0] == (NOON - timedelta(minutes=4), NOON + timedelta(minutes=1))
    assert windows[-1] == (NOON, NOON + timedelta(minutes=5))
    assert all(start <= NOON < end for start, end in windows)
    assert oracle.windows_of(NOON - timedelta(microseconds=1))[-1] == (
        NOON - timedelta(minutes=1),
        NOON + timedelta(minutes=4),
    )


@pytest.mark.parametrize("microseconds", [0, 1, 59_999_999, 60_000_000])
def test_windows_are_those_of_the_definition(microseconds):
    at = NOON + timedelta(microseconds=microseconds)
    newest = at.replace(second=0, microsecond=0)
    starts = [newest - n * SLIDE for n in reversed(range(SIZE // SLIDE))]
    assert oracle.windows_of(at) == [(start, start + SIZE) for start in starts]


def test_averages_are_of_the_clicks_in_the_window():
    found = oracle.windows([click(10, ctr=0.1), click(70, ctr=0.3), click(70, ctr=0.5, geo="US")])
    first, second = (found[oracle.minute(NOON) + n, "DE", "web"] for n in (1, 2))
    assert (first.ctr_avg, first.event_count) == (0.1, 1)
    assert (second.ctr_avg, second.event_count) == (pytest.approx(0.2), 2)


def test_missed_windows_are_the_oldest_ones():
    late = click(10)
    found = oracle.without([late, click(130)], {late.event_id: 2})
    counts = {
        end - oracle.minute(NOON): window.event_count for (end, _, _), window in found.items()
    }
    assert counts == {3: 2, 4: 2, 5: 2, 6: 1, 7: 1}


@pytest.mark.parametrize(
    ("watermark", "count"),
    [(59.998, 0), (59.999, 1), (60, 1), (119.999, 2), (299.998, 4), (299.999, 5), (9999, 5)],
)
def test_a_window_is_closed_by_its_last_millisecond(watermark, count):
    assert oracle.missed(NOON + 30 * SECOND, NOON + watermark * SECOND) == count


def test_users_and_campaigns_are_of_the_clicks_in_the_window():
    clicks = [
        click(1)._replace(user=user, campaign=campaign)
        for user, campaign in (("a", "x"), ("a", "y"), ("b", "x"), ("c", "x"))
    ]
    window = oracle.windows(clicks)[oracle.minute(NOON) + 1, "DE", "web"]
    assert (window.unique_user_ratio, window.campaign_top_share) == (0.75, 0.75)


def test_differences_are_named():
    true = oracle.windows([click(0), click(0, geo="US")])
    said = {key: window for key, window in true.items() if key[1] == "DE"}
    key = min(said)
    said[key] = said[key]._replace(ctr_avg=said[key].ctr_avg + 2e-9)
    lines = oracle.differences(said, true)
    assert len(lines) == 6
    assert sum("missing" in line for line in lines) == 5
    assert oracle.differences(true, true) == []
