"""Suspect clicks and their cost."""

import pytest

from adnomaly.incidents.evidence import VOLUME, ValueCounts, attribute_clicks


def evidence_of(groups, *, minutes=10, past=100, expected=None, before=1000, cpc=0.5):
    return attribute_clicks(
        {"user_id_hash": groups},
        minutes=minutes,
        past_minutes=past,
        expected_clicks=expected,
        cpc=cpc,
        before=before,
    )


def test_clicks_above_the_baseline_of_a_value_are_suspect():
    evidence = evidence_of([ValueCounts("bot", 60, 2.0, 100), ValueCounts("person", 11, 1.0, 100)])
    assert evidence.suspect_clicks == 50.0
    assert evidence.money_at_risk == 100.0
    assert evidence.basis == "user_id_hash"
    [bot, person] = evidence.touches["user_id_hash"]
    assert (bot.value, bot.excess, bot.usual_share, bot.share) == (
        "bot",
        50.0,
        0.1,
        pytest.approx(60 / 71),
    )
    assert person.excess == 0


def test_chance_is_not_suspect():
    assert (
        evidence_of([ValueCounts("a", 19, 1.0, 100), ValueCounts("new", 4, 1.0, 0)]).suspect_clicks
        == 0
    )


def test_without_history_only_the_volume_is_suspect():
    evidence = evidence_of([ValueCounts("a", 300, 0.5, 0)], past=0, before=0, expected=100.0)
    assert (evidence.basis, evidence.suspect_clicks, evidence.money_at_risk) == (
        VOLUME,
        200.0,
        100.0,
    )
    assert evidence.touches["user_id_hash"][0].usual_share is None


def test_never_more_suspect_clicks_than_clicks():
    assert evidence_of([ValueCounts("a", 30, 1.0, 0)], expected=1.0).suspect_clicks <= 30


def test_no_clicks_no_suspicion():
    assert evidence_of([]).suspect_clicks == 0
