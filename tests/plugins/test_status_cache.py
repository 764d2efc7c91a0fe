"""The cached status of the page *Now*."""

import json
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

from adnomaly_airflow.console import status_cache
from adnomaly_airflow.console.status_cache import StatusCache

from adnomaly.errors import Unavailable
from adnomaly.monitoring.reconciliation import CLICK_SINKS, ClickCounts, SinkCount
from adnomaly.monitoring.stages import PreviousCounts, ProcessState, Snapshot
from adnomaly.stores.comparisons import DayComparison
from adnomaly.streams import STAGES, columns

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
COUNTS = ClickCounts(9, 9, 0, 0, {s.stage: SinkCount(9, 0) for s in CLICK_SINKS}, 9, 0, 0, 0, 0)


class Servers:
    """A collector whose clock and totals advance, and stored health."""

    def __init__(self, *, stored=True):
        self.seconds, self.calls, self.stored = 0, 0, stored

    def collect(self):
        self.calls += 1
        at = NOON + timedelta(seconds=self.seconds)
        programs = {"kafka": ProcessState("BACKOFF", 0), "store_clicks": ProcessState("RUNNING", 9)}
        return Snapshot(at=at, programs=programs, totals={"table": 100 + 10 * self.seconds})

    def count(self):
        if not self.stored:
            raise Unavailable("PostgreSQL: refused")
        return COUNTS

    def before(self, now):
        if not self.stored:
            raise Unavailable("PostgreSQL: refused")
        return {"table": PreviousCounts(now - timedelta(seconds=50), 0)}

    def changes(self, since):
        return []

    def newest(self):
        if not self.stored:
            raise Unavailable("PostgreSQL: refused")
        return DayComparison(date(2026, 11, 23), "skipped", 0, "no window", NOON)


def cache_of(servers):
    return StatusCache(
        lambda: SimpleNamespace(collector=servers, health=servers, comparisons=servers)
    )


def status(cache):
    return json.loads(cache.newest())


def rate(cache):
    [table] = [s for s in status(cache)["stages"] if s["name"] == "table"]
    return table["rate"]


def test_requests_within_the_cache_time_share_one_status():
    servers = Servers()
    cache = cache_of(servers)
    assert cache.newest() == cache.newest()
    assert servers.calls == 1


def test_the_status_has_every_stage_and_its_column():
    found = status(cache_of(Servers()))
    assert [s["name"] for s in found["stages"]] == [s.stage for s in STAGES]
    assert [tuple(c) for c in found["columns"]] == list(columns())
    assert [e["balanced"] for e in found["ledger"]] == [True] * (2 + len(CLICK_SINKS))


def test_the_status_has_the_servers_below_the_streams():
    [kafka] = status(cache_of(Servers()))["servers"]
    assert kafka == {"name": "kafka", "state": "red", "process": "BACKOFF"}


def test_the_status_has_the_newest_comparison_of_stream_and_batch():
    found = status(cache_of(Servers()))["comparison"]
    assert (found["day"], found["outcome"], found["reason"]) == (
        "2026-11-23",
        "skipped",
        "no window",
    )


def test_a_rate_comes_from_the_stored_counts_then_from_earlier_snapshots(monkeypatch):
    monkeypatch.setattr(status_cache, "CACHE_SECONDS", -1)
    servers = Servers()
    cache = cache_of(servers)
    assert rate(cache) == 2.0
    servers.seconds = 60
    assert rate(cache) == 10.0


def test_an_unavailable_store_is_a_problem_and_not_an_error():
    found = status(cache_of(Servers(stored=False)))
    assert found["problems"] == ["PostgreSQL: refused"] * 3
    assert found["ledger"] == []
