"""Validation and effect of decisions, and the end of snoozes."""

from datetime import UTC, datetime, timedelta

import pytest

from adnomaly.errors import InvalidDecision
from adnomaly.incidents.decisions import MAX_COMMENT, Decision, Incident, after, worst_first

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def incident(name="DE|web@x", **changed):
    columns = {
        "kind": "anomaly",
        "geo": "DE",
        "platform": "web",
        "began": NOON - timedelta(hours=1),
        "last_seen": NOON,
        "windows": 7,
        "peak_score": 0.6,
        "model_version": "m",
        "summary": "DE web: twice the expected clicks",
        "clicks": 100,
        "suspect_clicks": 50.0,
        "money_at_risk": 10.0,
        "status": "open",
        "fraud_kind": None,
        "snoozed_until": None,
        "snoozed_score": None,
        "snoozed_money": None,
        "revision": 0,
    }
    return Incident(incident_id=name, **columns | changed)


def asleep(**changed):
    return incident(
        **{
            "status": "snoozed",
            "snoozed_until": NOON + DAY,
            "snoozed_score": 0.6,
            "snoozed_money": 10.0,
        }
        | changed
    )


@pytest.mark.parametrize(
    ("decision", "field"),
    [
        ({"action": "snooze"}, "until"),
        ({"action": "snooze", "until": NOON + 7 * DAY + timedelta(seconds=1)}, "until"),
        ({"action": "snooze", "until": NOON}, "until"),
        ({"action": "snooze", "until": datetime(2026, 11, 25)}, "until"),
        ({"action": "acknowledge", "until": NOON + DAY}, "until"),
        ({"action": "confirm"}, "fraud_kind"),
        ({"action": "confirm", "fraud_kind": "weather"}, "fraud_kind"),
        ({"action": "false_alarm", "fraud_kind": "click_flood"}, "fraud_kind"),
        ({"action": "comment", "comment": "  "}, "comment"),
        ({"action": "acknowledge", "comment": "x" * (MAX_COMMENT + 1)}, "comment"),
        ({"action": "acknowledge", "comment": "a\0b"}, "comment"),
    ],
)
def test_an_invalid_decision_names_its_field(decision, field):
    with pytest.raises(InvalidDecision, match=f"^{field}: "):
        Decision(revision=0, **decision).validated(NOON)


def test_a_snooze_of_seven_days_is_valid():
    assert (
        Decision(action="snooze", revision=0, until=NOON + 7 * DAY).validated(NOON).until
        == NOON + 7 * DAY
    )


def test_a_decision_changes_the_status_and_counts():
    assert after(
        incident(revision=3), Decision(action="confirm", revision=3, fraud_kind="bot_farm")
    ) == {
        "revision": 4,
        "status": "confirmed",
        "fraud_kind": "bot_farm",
        "snoozed_until": None,
        "snoozed_score": None,
        "snoozed_money": None,
    }


def test_a_comment_leaves_the_status_alone():
    assert after(incident(), Decision(action="comment", revision=0, comment="hm")) == {
        "revision": 1
    }


def test_a_snooze_records_score_and_money():
    changed = after(incident(), Decision(action="snooze", revision=0, until=NOON + DAY))
    assert (changed["status"], changed["snoozed_score"], changed["snoozed_money"]) == (
        "snoozed",
        0.6,
        10.0,
    )


def test_an_expired_snooze_is_open():
    assert asleep().status_at(NOON) == "snoozed"
    assert asleep().status_at(NOON + DAY) == "open"


@pytest.mark.parametrize(
    ("grown", "worse"),
    [
        ({}, False),
        ({"peak_score": 0.74}, False),
        ({"peak_score": 0.76}, True),
        ({"money_at_risk": 29.0}, False),
        ({"money_at_risk": 30.0}, True),
    ],
)
def test_only_a_much_worse_incident_ends_its_snooze(grown, worse):
    assert asleep(**grown).is_much_worse() is worse


def test_an_incident_without_a_snooze_is_never_much_worse():
    assert not incident(peak_score=0.99, money_at_risk=1e6).is_much_worse()


def test_open_incidents_come_first_then_the_money_at_risk():
    cheap, dear, done, outage = (
        incident("cheap", money_at_risk=1.0),
        incident("dear", money_at_risk=5.0),
        incident("done", status="confirmed", money_at_risk=99.0),
        incident("ours", kind="operations", geo=None, platform=None, money_at_risk=0.0),
    )
    assert [i.incident_id for i in worst_first([done, cheap, outage, dear], NOON)] == [
        "ours",
        "dear",
        "cheap",
        "done",
    ]
