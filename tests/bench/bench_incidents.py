"""Delay from the begin of an attack to its incident on the page, by step.

    make bench-incidents ARGS="--attacks 20"

Requires a running stack whose streams have caught up (make demo). Airflow plants attacks on
different entities in the live stream, one a minute. The bench polls the page's own route every
second as a logged-in user. An incident counts as shown once it is in the response.
"""

import argparse
import itertools
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import httpx

from adnomaly.attacks import Attack
from adnomaly.clients.airflow import Airflow
from adnomaly.settings import Settings, load_settings
from adnomaly.wiring import Backends, connect
from stack.demo import dag_runs as follow
from stack.demo.story import form_value
from stack.docs.browser import password_of
from stack.progress import Progress

LIMIT_S = 120.0
LENGTH = timedelta(minutes=6)
LEAD = timedelta(minutes=3)
PATIENCE = timedelta(minutes=10)
STRENGTH = 3.0

_PARTS = """
SELECT f.computed_at, r.scored_at, i.opened_at FROM anomaly_results r JOIN feature_aggregates f USING (geo, platform, window_end)
JOIN incidents i USING (incident_id) WHERE incident_id = %s ORDER BY window_end LIMIT 1
"""


class Found(NamedTuple):
    """Delay of each step for the first anomalous window of an attack, in seconds from its begin."""

    computed: float
    scored: float
    opened: float
    shown: float


def plan(settings: Settings, count: int) -> list[Attack]:
    """One attack a minute on different entities, the largest first.

    The smallest entities have too few clicks for an attack to be detected.
    """
    entities = sorted(
        itertools.product(settings.geos.items(), settings.platforms.items()),
        key=lambda e: -e[0][1] * e[1][1],
    )
    begin = (datetime.now(UTC) + LEAD).replace(second=0, microsecond=0)
    return [
        Attack(
            kind="click_flood",
            geo=geo,
            platform=platform,
            start=(at := begin + i * timedelta(minutes=1)),
            end=at + LENGTH,
            strength=STRENGTH,
        )
        for i, ((geo, _), (platform, _)) in enumerate(entities[:count])
    ]


class Page:
    """The page's list of incidents, requested as a browser does."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._http = httpx.Client(base_url=settings.airflow_url, timeout=20, trust_env=False)
        login = {"username": "viewer", "password": password_of(settings, "viewer")}
        self._http.headers["authorization"] = (
            f"Bearer {self._http.post('/auth/token', json=login).json()['access_token']}"
        )

    def incidents(self) -> list[dict]:
        return self._http.get("/adnomaly/api/incidents").raise_for_status().json()["incidents"]


def belongs(incident: dict, attack: Attack) -> bool:
    here = (incident["geo"], incident["platform"]) == (attack.geo, attack.platform)
    return (
        here and attack.start < datetime.fromisoformat(incident["last_seen"]) <= attack.end + LENGTH
    )


def watch(b: Backends, page: Page, attacks: list[Attack]) -> dict[Attack, Found]:
    """Wait for the incident of each; those that never come are missing."""
    found: dict[Attack, Found] = {}
    end = attacks[-1].start + PATIENCE
    while len(found) < len(attacks) and datetime.now(UTC) < end:
        listed, now = page.incidents(), datetime.now(UTC)
        for attack in attacks:
            seen = (
                [i for i in listed if belongs(i, attack)]
                if attack not in found and attack.start < now
                else []
            )
            if seen:
                with b.postgres.connection() as connection:
                    moments = connection.execute(_PARTS, (seen[0]["incident_id"],)).fetchone()
                found[attack] = Found(
                    *((moment - attack.start).total_seconds() for moment in (*moments, now))
                )
                print(f"  {attack}: {found[attack].shown:.0f} s", flush=True)
        time.sleep(1)
    return found


def report(attacks: list[Attack], found: dict[Attack, Found]) -> float:
    """Print the delays; returns the 95th percentile. A missed attack has an infinite delay."""
    print(f"\n{'seconds since the attack began':<34}{'median':>8}{'p95':>8}{'most':>8}")
    for i, name in enumerate(
        ("window computed by Flink", "scored", "incident opened by handle_alert", "on the page")
    ):
        spans = sorted(f[i] for f in found.values())
        print(
            f"{name:<34}{statistics.median(spans):>8.0f}{percentile(spans):>8.0f}{spans[-1]:>8.0f}"
        )
    shown = sorted([f.shown for f in found.values()] + [float("inf")] * (len(attacks) - len(found)))
    print(
        f"{len(found)} of {len(attacks)} attacks became incidents; p95 {percentile(shown):.0f} s, the promise is {LIMIT_S:.0f} s"
    )
    return percentile(shown)


def percentile(spans: list[float]) -> float:
    return spans[min(len(spans) - 1, int(0.95 * len(spans)))]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--attacks", type=int, default=12)
    arguments = parser.parse_args()
    settings = load_settings()
    b = connect(settings)
    if not b.supervisor.programs()["generate_clicks"].running:
        sys.exit("error: the streams do not run: make demo")
    attacks = plan(settings, arguments.attacks)
    airflow = Airflow(
        settings.airflow_url, "admin", settings.airflow_admin_password.get_secret_value()
    )
    follow.run_dag(
        airflow,
        Progress(),
        "run_streams",
        {"action": "start", "attacks": [form_value(a) for a in attacks]},
    )
    print(f"{len(attacks)} attacks from {attacks[0].start:%H:%M} UTC on, one a minute", flush=True)
    found = watch(b, Page(settings), attacks)
    sys.exit(not found or report(attacks, found) > LIMIT_S)


if __name__ == "__main__":
    main()
