"""The alert and its identity."""

from datetime import UTC, datetime, timedelta

import msgspec

from adnomaly.alerts import ScoredWindow, Silence, WindowExplanation
from adnomaly.windows import SIZE, TrafficWindow

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
FEATURES = {"ctr_avg": 0.0221, "bounce_rate_avg": 0.9, "event_count": 412}


def scored(end: datetime = NOON, geo: str = "DE", version: str = "v1") -> ScoredWindow:
    window = TrafficWindow(
        window_start=end - SIZE, window_end=end, geo=geo, platform="ios", features=FEATURES
    )
    reason = WindowExplanation(
        "DE ios: twice", {"event_count": 206.0}, {"event_count": 9.1}, {"event_count": 1.0}
    )
    numbers = {"anomaly_score": 0.7, "threshold": 0.5, "incident_id": "DE|ios@2026-11-22T12:00:00Z"}
    return ScoredWindow(window=window, **numbers, model_version=version, explanation=reason)


def silence(
    kind: str = "silence", geo: str | None = "DE", platform: str | None = "ios", version: str = "v1"
) -> Silence:
    since = int(NOON.timestamp())
    return Silence(
        kind=kind,
        incident_id=f"{kind}:{geo}@noon",
        geo=geo,
        platform=platform,
        since_s=since,
        model_version=version,
    )


def test_the_same_window_and_model_is_the_same_alert():
    assert scored().alert_id == scored().alert_id
    others = [scored(geo="FR"), scored(NOON + timedelta(minutes=1)), scored(version="v2")]
    assert len({scored().alert_id, *(other.alert_id for other in others)}) == 4


def test_the_message_holds_the_window_the_incident_and_the_reason():
    alert = scored().alert()
    assert (alert["kind"], alert["window_start"], alert["event_count"]) == (
        "anomaly",
        "2026-11-22T11:55:00Z",
        412,
    )
    assert alert["incident_id"] == "DE|ios@2026-11-22T12:00:00Z"
    assert set(alert["explanation"]) == {"summary", "expected", "z", "share", "low", "high"}


def test_a_window_without_an_incident_is_no_anomaly():
    assert scored().is_anomaly
    assert not msgspec.structs.replace(scored(), incident_id=None).is_anomaly


def test_a_silence_says_who_and_since_when():
    alert = silence().alert()
    assert (
        alert["explanation"]["summary"]
        == "DE ios: no clicks since 2026-11-22T12:00:00Z, or next to none"
    )
    assert silence().key == "DE|ios"
    assert (
        alert["alert_id"]
        == silence().alert()["alert_id"]
        != silence(version="v2").alert()["alert_id"]
    )


def test_an_outage_is_of_the_platform():
    outage = silence("platform outage", None, None)
    assert outage.key == "platform"
    assert outage.alert()["explanation"]["summary"].startswith(
        "the platform: many entities at once"
    )
