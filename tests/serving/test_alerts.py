"""The alert and its reason."""

from datetime import UTC, datetime, timedelta

from adnomaly.alerts import ScoredWindow, explain
from adnomaly.windows import SIZE, TrafficWindow

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
FEATURES = {"ctr_avg": 0.0221, "bounce_rate_avg": 0.9, "event_count": 412}
EXPECTED = {"ctr_avg": 0.0223, "bounce_rate_avg": 0.36, "event_count": 180.4}
Z = {"ctr_avg": -0.4, "bounce_rate_avg": 27.0, "event_count": 9.13}


def a_window(end: datetime = NOON, geo: str = "DE") -> TrafficWindow:
    return TrafficWindow(window_start=end - SIZE, window_end=end, geo=geo, platform="ios", features=FEATURES)


def scored(window: TrafficWindow, version: str = "v1") -> ScoredWindow:
    reason = explain(window, EXPECTED, Z, baseline="entity")
    numbers = {"anomaly_score": 0.7, "threshold": 0.6, "is_anomaly": True}
    return ScoredWindow(window=window, **numbers, baseline="entity", model_version=version, explanation=reason)


def test_the_most_unusual_feature_comes_first():
    reason = explain(a_window(), EXPECTED, Z, baseline="entity")
    assert reason.summary == (
        "DE ios: bounce_rate_avg 0.9 instead of 0.36 (z +27.0), event_count 412 instead of 180 (z +9.1), ctr_avg 0.0221 instead of 0.0223 (z -0.4)"
    )


def test_an_unknown_entity_is_said():
    assert "no baseline yet" in explain(a_window(), EXPECTED, Z, baseline="global").summary


def test_the_same_window_and_model_is_the_same_alert():
    assert scored(a_window()).alert_id == scored(a_window()).alert_id
    others = [scored(a_window(geo="FR")), scored(a_window(NOON + timedelta(minutes=1))), scored(a_window(), "v2")]
    assert len({scored(a_window()).alert_id, *(other.alert_id for other in others)}) == 4


def test_the_message_holds_the_window_and_the_reason():
    alert = scored(a_window()).alert()
    assert alert["window_start"] == "2026-11-22T11:55:00Z"
    assert alert["event_count"] == 412
    assert set(alert["explanation"]) == {"summary", "expected", "z"}
