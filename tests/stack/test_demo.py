"""Attacks planted by the demo, and their times."""

from datetime import UTC, date, datetime, timedelta

import pytest

from adnomaly.attacks import Attack
from adnomaly.generator_state import GeneratorFiles, SentSpans
from adnomaly.home import Home
from stack.demo import attacks, story
from stack.demo.report import Alert
from stack.progress import Progress as Lines

NOON = datetime(2026, 11, 12, 12, 0, 30, tzinfo=UTC)
HISTORY_END = datetime(2026, 11, 12, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def _attack(tmp_path, sent_until=None):
    files = GeneratorFiles(Home(tmp_path))
    if sent_until:
        files.write_progress(SentSpans(sent=((HISTORY_END, sent_until),)))
    return attacks.next_attack(files, HISTORY_END, NOON)


def test_first_attack_lies_in_the_catch_up(tmp_path):
    attack = _attack(tmp_path)
    assert (attack.start, attack.end) == (
        datetime(2026, 11, 12, 11, 20, tzinfo=UTC),
        datetime(2026, 11, 12, 11, 40, tzinfo=UTC),
    )


def test_an_attack_on_running_traffic_begins_soon_and_never_in_sent_traffic(tmp_path):
    attack = _attack(tmp_path, sent_until=NOON)
    assert NOON + 2 * MINUTE < attack.start <= NOON + 4 * MINUTE
    assert attack.end - attack.start == 10 * MINUTE


def test_an_attack_after_a_short_pause_lies_in_the_pause(tmp_path):
    attack = _attack(tmp_path, sent_until=NOON - 30 * MINUTE)
    assert NOON - 30 * MINUTE < attack.start < attack.end <= NOON


def test_two_demos_in_a_row_attack_different_entities(tmp_path):
    first = _attack(tmp_path)
    GeneratorFiles(Home(tmp_path)).plant([first], after=HISTORY_END)
    second = _attack(tmp_path, sent_until=NOON)
    assert (first.geo, first.platform) != (second.geo, second.platform)


def test_the_form_field_means_the_same_attack(tmp_path):
    attack = _attack(tmp_path)
    assert Attack.parse(attacks.form_value(attack), now=NOON) == attack


@pytest.mark.parametrize(("now", "day"), [((12, 0, 29), 10), ((12, 0, 30), 11), ((12, 23, 59), 11)])
def test_our_backfill_takes_the_date_that_the_schedule_would_run(now, day):
    moment = datetime(2026, 11, *now, tzinfo=UTC)
    assert story._scheduled(moment) == datetime(2026, 11, day, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(("hour", "last"), [(0, 11), (1, 12), (23, 12)])
def test_a_history_that_ends_at_midnight_has_no_window_of_the_next_day(hour, last):
    days = story.history_days(datetime(2026, 11, 12, hour, tzinfo=UTC))
    assert (days[0], days[-1]) == (date(2026, 10, 22), date(2026, 11, last))


def test_an_alert_belongs_to_an_attack_it_overlaps(tmp_path):
    attack = _attack(tmp_path)

    def alert(end, geo=attack.geo):
        return Alert(end - 5 * MINUTE, end, geo, attack.platform, 0.9, 0.5, "v", {})

    assert alert(attack.start + MINUTE).belongs_to(attack)
    assert alert(attack.end + 4 * MINUTE).belongs_to(attack)
    assert not alert(attack.start).belongs_to(attack)
    assert not alert(attack.end + 5 * MINUTE).belongs_to(attack)
    assert not alert(attack.start + MINUTE, geo="AU").belongs_to(attack)


def test_a_wait_is_reported_before_a_minute_is_silent(capsys):
    clock = [0.0]
    lines = Lines(lambda: clock[0])
    for second in range(61):
        clock[0] = float(second)
        lines.waiting(lambda: "waiting")
    said = [float(line.split()[0]) for line in capsys.readouterr().out.splitlines()]
    assert said == [10, 20, 30, 40, 50, 60]
