"""The hard scenario: local clocks, noise, holidays, benign surges; equal for every query."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from adnomaly.attack_kinds import ATTACKS, HELD_OUT, KINDS, KNOWN
from adnomaly.settings import SECRETS, Settings
from adnomaly.synthetic.click_source import ClickSource
from adnomaly.synthetic.traffic import HARD, Traffic, minute_of
from adnomaly.synthetic.variation import DAY, NOISE, surges_between, variation

MONDAY = datetime(2026, 11, 16, tzinfo=UTC)
FIRST = minute_of(MONDAY)


def make(**changes) -> Traffic:
    settings = Settings(_env_file=None, **{name.lower(): "x" * 32 for name in SECRETS})
    return Traffic.from_settings(settings, **({"base_eps": 20.0} | HARD | changes))


def test_a_minute_is_the_same_in_every_span():
    traffic, hours = make(), np.arange(FIRST - 90, FIRST + 90)
    for name in ("rates", "ctr_means", "bounce_means", "pool", "leader"):
        whole = getattr(traffic, name)(hours)
        parts = [getattr(make(), name)(part) for part in np.array_split(hours, 7)]
        assert np.array_equal(whole, np.concatenate(parts)), name


def test_clicks_are_the_same_in_blocks_of_any_length():
    whole = ClickSource(make()).clicks(FIRST, 30)
    minutes = [ClickSource(make()).clicks(FIRST + i, 1) for i in (0, 17, 29)]
    for i, part in zip((0, 17, 29), minutes, strict=True):
        mine = whole.take(whole.time_us // 60_000_000 == FIRST + i)
        assert np.array_equal(mine.user, part.user)
        assert np.array_equal(mine.ad, part.ad)
        assert np.array_equal(mine.ctr, part.ctr)


def test_every_geo_peaks_at_the_same_hour_of_its_own_clock():
    day = FIRST + np.arange(DAY)
    rates = make(world_roughness=0.0, promotions_per_day=0.0, weekend_mult=1.0).rates(day)
    peak = {geo: rates[:, i * 3].argmax() / 60 for i, geo in enumerate(make().geos)}
    assert peak["US"] == pytest.approx(20, abs=0.02)
    assert peak["JP"] == pytest.approx((20 - 14) % 24, abs=0.02)
    assert peak["IN"] == pytest.approx((20 - 10.5) % 24, abs=0.02)


def test_noise_has_the_sizes_that_are_stated():
    span = FIRST + np.arange(60 * DAY)
    found = variation(3, span, 30, 1.0)
    for name in ("volume", "ctr", "bounce"):
        stated = np.sqrt(sum(getattr(noise, name) ** 2 for noise in NOISE))
        assert getattr(found, name).std() == pytest.approx(stated, rel=0.15), name
    hour_later = np.corrcoef(found.volume[:-60, 0], found.volume[60:, 0])[0, 1]
    assert 0.6 < hour_later < 0.97
    assert not np.any(variation(3, span[:100], 30, 0.0).volume)


def test_benign_surges_belong_to_the_day_they_begin_and_lift_volume_alone():
    traffic, week = make(), np.arange(FIRST, FIRST + 7 * DAY)
    surges = traffic.benign_surges(FIRST, FIRST + 7 * DAY)
    assert 5 < len(surges) < 30
    assert [p for p in surges if p.start < FIRST + 100] == traffic.benign_surges(FIRST, FIRST + 100)
    quiet = make(promotions_per_day=0.0)
    lift = traffic.rates(week) / quiet.rates(week)
    p = next(p for p in surges if p.start >= FIRST and p.end <= FIRST + 7 * DAY)
    assert lift[p.start - FIRST : p.end - FIRST, p.entity].min() >= 1.25 - 1e-9
    assert np.array_equal(traffic.ctr_means(week), quiet.ctr_means(week))
    assert surges_between(1, 0, DAY, 30, 0.0) == []


def test_a_holiday_is_quiet_where_it_is_one():
    july = minute_of(datetime(2026, 7, 4, 12, tzinfo=UTC)) + np.arange(60)
    with_holidays, without = make(), make(holiday_mult=1.0)
    ratio = (with_holidays.rates(july) / without.rates(july)).mean(axis=0)
    assert ratio[:3] == pytest.approx(0.7)  # US
    assert ratio[3:] == pytest.approx(1.0)


def test_three_kinds_are_held_out_and_every_kind_names_its_source():
    assert len(ATTACKS) >= 9
    assert len(HELD_OUT) == 3
    assert set(KNOWN) | set(HELD_OUT) == set(ATTACKS)
    assert all(kind.source for kind in KINDS.values() if not kind.benign)
    assert all(kind.benign == (name == "promotion") for name, kind in KINDS.items())


def test_time_goes_on_across_years():
    rates = [
        make().rates(np.array([minute_of(MONDAY + timedelta(days=n))])) for n in (-2000, 0, 2000)
    ]
    assert all(np.isfinite(r).all() and (r > 0).all() for r in rates)
