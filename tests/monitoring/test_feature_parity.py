"""The verdicts of `make feast-test`."""

from datetime import UTC, datetime, timedelta

import pytest

from adnomaly.monitoring.feature_parity import as_text, compare_entity, run
from adnomaly.windows import SIZE, TrafficWindow

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def window(minute: int, count: int = 10, geo: str = "DE") -> TrafficWindow:
    end = NOON + timedelta(minutes=minute)
    values = {"ctr_avg": 0.02, "bounce_rate_avg": 0.36, "event_count": count}
    return TrafficWindow(
        window_start=end - SIZE, window_end=end, geo=geo, platform="web", features=values
    )


@pytest.mark.parametrize(
    ("online", "offline", "streamed", "verdict", "ok"),
    [
        (window(5), window(5), None, "equals offline", True),
        (window(5), window(5, 11), window(5), "differs from offline", False),
        (window(5), window(6), window(5), "older than offline", False),
        (window(7), window(6), window(7), "equals the stream", True),
        (window(7), None, window(7, 9), "differs from the stream", False),
        (window(7), window(6), None, "stored nowhere else", False),
        (None, window(6), None, "not online", False),
    ],
)
def test_verdicts(online, offline, streamed, verdict, ok):
    assert compare_entity(online, offline, streamed)[1:] == (verdict, ok)


class Stores:
    """Online, offline and stream of three entities."""

    def sync(self):
        return []

    def newest(self, start, end):
        return [window(0), window(0, geo="US")]

    def windows(self, start, end):
        return [window(4, geo="US"), window(4, geo="FR")]

    def read(self, entities):
        known = {"DE": window(0), "US": window(4, geo="US"), "FR": None}
        return [known[geo] for geo, _ in entities]


def test_every_known_entity_is_checked_once():
    stores = Stores()
    checks = run(stores, stores, stores, now=NOON + timedelta(minutes=5))
    assert {c.entity: c.verdict for c in checks} == {
        "DE|web": "equals offline",
        "FR|web": "not online",
        "US|web": "equals the stream",
    }
    assert as_text(checks).endswith("3 entities, 1 mismatches")
