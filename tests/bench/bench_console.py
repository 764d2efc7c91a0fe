"""Cost of the page Adnomaly: its queries, its time to draw, its share of a core.

    make bench-console

Requires a running stack. Uses its own database and API server, and removes them at the end. The
database holds 14 days of a million clicks each, and 200 incidents. Each query runs as the page
runs it, then under EXPLAIN ANALYZE: time in the server, and scans of the large tables.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psutil
import psycopg

from adnomaly.clients.postgres import Postgres
from adnomaly.incidents.decisions import worst_first
from adnomaly.settings import ROOT, Settings, load_settings
from adnomaly.wiring import Backends
from stack import supervisord
from stack.docs.browser import chromium, log_in, open_console
from stack.ports import port
from stack.servers.airflow import live_env
from stack.servers.base import common_env

DATABASE = "bench_console"
DAYS, PER_DAY, INCIDENTS = 14, 1_000_000, 200
REST_S = 30.0
PORT = 8989

_CLICKS = f"""
INSERT INTO clickstream_events (event_id, "timestamp", user_id_hash, ad_id, campaign_id, geo, platform, user_agent, cpc, ctr, conversion, bounce_rate)
SELECT gen_random_uuid(), now() - make_interval(secs => {DAYS * 86400} - n * {DAYS * 86400 / (DAYS * PER_DAY)}),
    md5((n * 7919 % 400000)::text), 'ad_' || n * 31 % 600, 'camp_' || n * 17 % 90,
    (ARRAY['US','US','US','IN','IN','BR','DE','FR','UK','CA'])[(1 + n * 13 % 10)::int], (ARRAY['web','android','ios'])[(1 + n * 11 % 3)::int],
    'Mozilla/5.0 (agent ' || n * 3 % 40 || ')', 0.3, 0.02, 0, 0.4
FROM generate_series(1::bigint, {DAYS * PER_DAY}) AS n
"""
_WINDOWS = f"""
INSERT INTO {{table}} (window_start, window_end, geo, platform, event_count, ctr_avg, bounce_rate_avg, {{names}})
SELECT t - interval '5 minutes', t, geo, platform, 120, 0.02, 0.4, {{values}}
FROM generate_series(date_trunc('minute', now()) - interval '{DAYS} days', date_trunc('minute', now()), interval '1 minute') AS t,
    unnest(ARRAY['US','IN','BR','DE','FR','UK','CA','JP','IT','AU']) AS geo, unnest(ARRAY['web','android','ios']) AS platform
"""
_EXPLANATION = json.dumps(
    {"summary": "US web: twice the expected clicks (120 instead of 60)"}
    | {
        part: dict.fromkeys(("event_count", "ctr_avg", "bounce_rate_avg"), 1.0)
        for part in ("expected", "z", "share", "low", "high")
    }
)
_INCIDENTS = f"""
INSERT INTO incidents (incident_id, kind, geo, platform, began, last_seen, windows, peak_score, model_version, summary, clicks, suspect_clicks,
    money_at_risk)
SELECT 'US|web@' || n, 'anomaly', 'US', 'web', now() - n * interval '{DAYS * 24 * 60 // INCIDENTS} minutes' - interval '20 minutes',
    now() - n * interval '{DAYS * 24 * 60 // INCIDENTS} minutes', 15, 0.5 + n / 1000.0, 'm1', 'US web: twice the expected clicks', 900, 400, n
FROM generate_series(1, {INCIDENTS}) AS n
"""
_HEALTH = f"""
INSERT INTO stream_health (at, stage, state, reason, total)
SELECT t, stage, CASE WHEN extract(minute FROM t) = 7 THEN 'amber' ELSE 'green' END, 'well', 1
FROM generate_series(now() - interval '{DAYS} days', now(), interval '1 minute') AS t, unnest(ARRAY['gate','table','lake','windows','scorer']) AS stage
"""


class Recorded(Postgres):
    """Records each query with its values."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.queries: list[tuple[Any, Any]] = []

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection]:
        with super().connection() as connection:
            execute = connection.execute

            def recorded(query: Any, values: Any = None, **options: Any) -> psycopg.Cursor:
                self.queries.append((query, values))
                return execute(query, values, **options)

            connection.execute = recorded  # type: ignore[method-assign]
            yield connection


def fill(settings: Settings) -> None:
    """The database of the bench; its key and indexes are made after the rows."""
    with psycopg.connect(settings.postgres_url("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {DATABASE}")
    Postgres(settings.postgres_url(DATABASE)).migrate()
    names = "anomaly_score, threshold, is_anomaly, model_version, explanation"
    values = f"0.3, 0.5, false, 'm1', '{_EXPLANATION}'::jsonb"
    steps = {
        f"{DAYS * PER_DAY:,} clicks": [
            "ALTER TABLE clickstream_events DROP CONSTRAINT clickstream_events_pkey",
            _CLICKS,
        ],
        "their key": ["ALTER TABLE clickstream_events ADD PRIMARY KEY (event_id)"],
        "windows and scores": [
            _WINDOWS.format(table="feature_aggregates", names="computed_at", values="now()"),
            _WINDOWS.format(table="anomaly_results", names=names, values=values),
        ],
        "incidents and health": [
            _INCIDENTS,
            _HEALTH,
            "INSERT INTO ledger SELECT 'windowed', 1, extract(epoch FROM now() - interval '40 minutes')::bigint",
        ],
        "statistics": ["VACUUM ANALYZE"],
    }
    with psycopg.connect(settings.postgres_url(DATABASE), autocommit=True) as connection:
        for name, queries in steps.items():
            began = time.monotonic()
            for query in queries:
                connection.execute(query)
            print(f"  {name}: {time.monotonic() - began:.0f} s", flush=True)


def questions(b: Backends) -> dict[str, Callable[[], object]]:
    """Queries of the page to PostgreSQL, by name."""
    now = datetime.now(UTC)
    worst = worst_first(b.incidents.recent(now - timedelta(days=DAYS)), now)[0]
    hour = timedelta(hours=1)
    return {
        "now: newest windows, sinks": b.collector._stored,
        "now: ledger": b.collector.count,
        "now: what fell": lambda: b.health.changes(now - timedelta(days=1)),
        "now: rates before": lambda: b.health.before(now),
        "incidents: list": lambda: b.incidents.recent(now - timedelta(days=DAYS)),
        "incident: itself": lambda: b.incidents.get(worst.incident_id),
        "incident: evidence": lambda: b.incidents.evidence(worst.incident_id),
        "incident: course": lambda: b.evidence.scored_windows(worst, hour, hour),
        "incident: examples": lambda: b.evidence.examples(worst),
        "incident: history": lambda: b.incidents.history(worst.incident_id),
        "model: live": b.model_history.live,
        "model: volume": lambda: b.model_history.volume(now - timedelta(days=DAYS)),
        "model: health": lambda: b.model_history.health(now),
        "handle_alert: evidence": lambda: b.evidence.attribute_clicks(worst),
    }


def explained(connection: psycopg.Connection, query: Any, values: Any) -> tuple[float, str]:
    """Milliseconds in the server, the median of five, and the scans of the plan."""
    text = query.as_string(connection) if hasattr(query, "as_string") else query
    plans = [
        connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", values).fetchone()[0][0]
        for _ in range(5)
    ]
    plan = sorted(plans, key=lambda p: p["Execution Time"] + p["Planning Time"])[2]
    scans: dict[str, None] = {}

    def walk(node: dict[str, Any]) -> None:
        if "Relation Name" in node:
            scans[f"{node['Node Type']} {node['Relation Name']}"] = None
        for child in node.get("Plans", []):
            walk(child)

    walk(plan["Plan"])
    return plan["Execution Time"] + plan["Planning Time"], ", ".join(scans)


def bench_queries(settings: Settings) -> None:
    bench = settings.model_copy(update={"db_name": DATABASE})
    b = Backends(bench)
    b.__dict__["postgres"] = postgres = Recorded(bench.postgres_url())
    print(f"\n{'question':<28}{'asked, ms':>10}{'slowest query, ms':>19}  how it reads")
    for name, question in questions(b).items():
        spans = []
        for _ in range(5):
            postgres.queries.clear()
            began = time.perf_counter()
            question()
            spans.append(1000 * (time.perf_counter() - began))
        with psycopg.connect(bench.postgres_url()) as connection:
            found = [explained(connection, *query) for query in postgres.queries]
        slowest = max(found, default=(0.0, ""))
        print(
            f"{name:<28}{statistics.median(spans):>10.0f}{slowest[0]:>19.1f}  {slowest[1]}",
            flush=True,
        )


@contextmanager
def api_server(settings: Settings) -> Iterator[tuple[Settings, psutil.Process]]:
    """An API server of its own whose page reads the database of the bench."""
    number = PORT + settings.port_offset
    own = common_env(settings) | live_env(settings)
    own |= {
        "DB_NAME": DATABASE,
        "AIRFLOW__API__PORT": str(number),
        "AIRFLOW__API__BASE_URL": f"http://localhost:{number}",
    }
    process = subprocess.Popen(
        ["airflow", "api-server"],
        env=os.environ | own,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    bench = settings.model_copy(update={"airflow_url": f"http://localhost:{number}"})
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                httpx.get(f"{bench.airflow_url}/api/v2/version", timeout=2).raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.5)
        yield bench, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def bench_paints(bench: Settings) -> None:
    views = {
        "now": "",
        "incidents": "incidents",
        "incident": "incidents?id=US%7Cweb%40100",
        "model": "model",
    }
    print(
        f"\n{'view':<12}{'cold, s':>9}{'again, s':>10}   from the click to the drawn page, with the browser's empty cache and with a filled one"
    )
    for name, path in views.items():
        with chromium() as browser:
            log_in(browser, bench)
            spans = []
            for _ in range(4):
                open_console(browser, bench, path, framed=False)
                spans.append(
                    browser.execute_script(
                        "return performance.getEntriesByType('measure').at(-1).duration"
                    )
                    / 1000
                )
            print(f"{name:<12}{spans[0]:>9.2f}{statistics.median(spans[1:]):>10.2f}", flush=True)


def share(process: psutil.Process) -> float:
    """Of one core, over half a minute, with everything below the process."""

    def used() -> float:
        return sum(sum(p.cpu_times()[:2]) for p in [process, *process.children(recursive=True)])

    before, began = used(), time.monotonic()
    time.sleep(REST_S)
    return (used() - before) / (time.monotonic() - began)


def bench_rest(bench: Settings, process: psutil.Process) -> None:
    time.sleep(5)
    print(f"\nAPI server at rest, no page open: {share(process):.1%} of a core")
    with chromium() as browser:
        log_in(browser, bench)
        open_console(browser, bench, framed=False)
        print(
            f"with the page Now open, asked every 3 s: {share(process):.1%} of a core", flush=True
        )


def main() -> None:
    settings = load_settings()
    if not supervisord.is_running(settings):
        sys.exit("error: the stack is not up: make demo")
    print(
        f"{DAYS} days of {PER_DAY:,} clicks, {INCIDENTS} incidents, port {port(settings, 'postgres')}",
        flush=True,
    )
    try:
        fill(settings)
        bench_queries(settings)
        with api_server(settings) as (bench, process):
            bench_paints(bench)
            bench_rest(bench, process)
    finally:
        with psycopg.connect(settings.postgres_url("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")


if __name__ == "__main__":
    main()
