"""`airflow dags test` of every DAG against the running stack, with its own Airflow on SQLite.

The tests depend on each other, in order: history, features, model, deployment, streams.
"""

import json
import os
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from adnomaly.attacks import Attack
from adnomaly.features import FEATURES
from adnomaly.monitoring import reconciliation
from adnomaly.pipelines import run_streams
from adnomaly.settings import ROOT
from integration.lake_manifest import lake_objects_between
from stack.demo.attacks import form_value
from stack.demo.report import await_alert
from stack.progress import Progress
from stack.servers.airflow import prepare_test_home
from stack.shell import shell

pytestmark = pytest.mark.integration

DAYS = 22
EPS = 1.0
ATTACK_AFTER = timedelta(minutes=40)


@pytest.fixture(scope="module")
def history_end():
    return (datetime.now(UTC) - timedelta(hours=2)).replace(minute=0, second=0, microsecond=0)


@pytest.fixture(scope="module")
def dags_test(settings, only_deployer):
    """Runs a DAG with a form; fails with the end of its log unless it exits 0."""
    prepare_test_home(settings)
    environ = os.environ | shell(settings)

    def run(dag_id: str, options: Sequence[str] = (), **form: object) -> str:
        command = ["airflow", "dags", "test", *options, dag_id, "-c", json.dumps(form)]
        done = subprocess.run(
            command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
        )
        log = done.stdout + done.stderr
        assert done.returncode == 0, log[-6000:]
        return log

    return run


@pytest.fixture(scope="module")
def attack(history_end):
    """An attack in the span that the streams catch up on."""
    start = history_end + ATTACK_AFTER
    return Attack(
        kind="click_flood",
        geo="US",
        platform="web",
        start=start,
        end=start + timedelta(minutes=20),
        strength=5,
    )


def test_generate_history(dags_test, backends, history_end):
    dags_test("generate_history", days=DAYS, end=history_end.isoformat(), base_eps=EPS)
    assert (
        len(backends.lake.history_hours(history_end - timedelta(days=DAYS), history_end))
        == DAYS * 24
    )


def test_backfill_features(dags_test, backends, history_end):
    first, last = (history_end - timedelta(days=DAYS)).date(), history_end.date()
    dags_test(
        "backfill_features", first_day=str(first), last_day=str(last), until=history_end.isoformat()
    )
    days = set(backends.offline_features.days())
    assert {first + timedelta(days=i) for i in range((last - first).days + 1)} <= days


def test_train_detector(dags_test, backends):
    dags_test("train_detector")
    assert backends.registry.champion() is not None


def test_deploy_detector(dags_test, backends):
    dags_test("deploy_detector")
    served = backends.serving.served()
    assert served["model_version"] == backends.bundles.current()
    assert backends.model_history.live()[0]["model_version"] == served["model_version"]


def test_deploy_detector_with_approval(dags_test, backends):
    """A test has no approver: the approval task is marked as success."""
    log = dags_test("deploy_detector", ["--mark-success-pattern", "approve"], approval=True)
    assert "approve" in log
    assert backends.serving.ready()


def test_run_streams_starts_and_lists_the_programs(dags_test, backends, attack):
    dags_test(
        "run_streams",
        action="start",
        begin=(attack.start - ATTACK_AFTER).isoformat(),
        attacks=[form_value(attack)],
        base_eps=EPS,
    )
    programs = backends.supervisor.programs()
    assert {name: programs[name].state for name in run_streams.START_ORDER} == dict.fromkeys(
        run_streams.START_ORDER, "RUNNING"
    )
    assert backends.flink.window_job_state() == "RUNNING"
    pids = {name: programs[name].pid for name in run_streams.START_ORDER}
    dags_test("run_streams", action="start")
    assert {
        name: backends.supervisor.programs()[name].pid for name in run_streams.START_ORDER
    } == pids
    dags_test("run_streams", action="status")


def test_the_planted_attack_comes_out_as_an_alert(backends, attack):
    alert = await_alert(backends, attack, Progress())
    assert (alert.geo, alert.platform) == ("US", "web")
    assert "times the expected bounce rate" in alert.explanation["summary"]


def test_handle_alert(dags_test, backends, attack):
    dags_test("handle_alert")
    about = [
        i
        for i in backends.incidents.recent(attack.start)
        if (i.geo, i.platform) == (attack.geo, attack.platform)
    ]
    [incident] = [i for i in about if i.began < attack.end and i.last_seen > attack.start]
    assert incident.status == "open"
    assert 0 < incident.suspect_clicks <= incident.clicks
    assert incident.money_at_risk > 0
    assert {"campaign_id", "ad_id", "user_agent", "user_id_hash"} == set(
        backends.evidence.attribute_clicks(incident).touches
    )


def test_watch_streams(dags_test, backends):
    dags_test("watch_streams")
    assert backends.health.before(datetime.now(UTC))["gate"].total > 0


def test_the_reconciliation_balances(backends):
    """Every difference is in flight: no click is missing or doubled."""
    found = [reconciliation.equations(backends.collector.count()) for _ in range(5)]
    assert [
        (line.name, line.difference)
        for equations in found
        for line in equations
        if not line.balanced
    ] == []


def test_watch_model(dags_test, backends):
    dags_test("watch_model")
    health = backends.model_history.health(datetime.now(UTC))
    assert {h["subject"] for h in health} >= {"score", *(f.name for f in FEATURES)}
    assert all(h["most"] >= 0.25 for h in health)


def test_maintain_stores(dags_test, backends, history_end):
    days = (history_end - timedelta(days=DAYS), history_end)
    before = lake_objects_between(backends.postgres, *days)
    assert "would delete" in dags_test("maintain_stores", really=False)
    dags_test("maintain_stores", days=60)
    assert lake_objects_between(backends.postgres, *days) == before


def test_compare_windows(dags_test, backends, history_end):
    """Of a day before those into which other tests replay clicks: history, which is skipped."""
    day = history_end.date() - timedelta(days=2)
    log = dags_test("compare_windows", day=str(day))
    assert "state=skipped" in log
    result = backends.comparisons.newest()
    assert (result.day, result.outcome) == (day, "skipped")
    assert "generated history" in result.reason
    assert backends.comparisons.skipped_before(day + timedelta(days=1)) == 1


def test_run_streams_stops(dags_test, backends):
    dags_test("run_streams", action="stop")
    programs = backends.supervisor.programs()
    assert {programs[name].state for name in run_streams.START_ORDER} == {"STOPPED"}
