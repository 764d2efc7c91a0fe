"""SIGKILL of Airflow's components during runs: every run succeeds, and its effects happen once.

And of streams: `watch_streams` restarts a crashed one, and gives up one that crashes repeatedly.
"""

import hashlib
import os
import re
import signal
import time
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import psutil
import pytest

from adnomaly.attacks import read_ground_truth
from adnomaly.clients.airflow import Airflow
from adnomaly.errors import Unavailable
from adnomaly.generator_state import GeneratorFiles
from adnomaly.home import Home
from adnomaly.pipelines import run_streams
from adnomaly.settings import Settings
from adnomaly.wiring import Backends
from stack import supervisord
from stack.ready import wait_for

pytestmark = [pytest.mark.integration, pytest.mark.kills]

DAYS = 15
RECOVERY_S = 120
PARTS = ("scheduler", "triggerer", "dag-processor", "api-server")


@pytest.fixture(scope="module")
def airflow(settings: Settings) -> Airflow:
    return Airflow(
        settings.airflow_url, "admin", settings.airflow_admin_password.get_secret_value()
    )


@pytest.fixture(scope="module")
def history(airflow: Airflow, backends: Backends) -> date:
    """Days of clicks in the lake, and of features; returns the day after the last one."""
    end = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if len(backends.lake.history_hours(end - timedelta(days=DAYS), end)) < DAYS * 24:
        run = Run(
            airflow, "generate_history", {"days": DAYS, "end": end.isoformat(), "base_eps": 1}
        )
        run.ends_well()
    return end.date()


def unpause(airflow: Airflow, dag_id: str) -> None:
    """Unpause a DAG, and wait for the runs that its schedule or an asset triggers."""
    retry_unavailable(lambda: airflow.set_paused(dag_id, False))
    time.sleep(3)
    while retry_unavailable(lambda: airflow.active_run(dag_id)):
        time.sleep(1)


class Run:
    """One run of a DAG on the live Airflow."""

    def __init__(self, airflow: Airflow, dag_id: str, form: dict[str, object]) -> None:
        self._airflow, self.dag_id = airflow, dag_id
        unpause(airflow, dag_id)
        self.run_id = retry_unavailable(lambda: airflow.trigger(dag_id, form))

    def states(self) -> dict[str, str | None]:
        return {
            t.task_id: t.state
            for t in retry_unavailable(lambda: self._airflow.tasks(self.dag_id, self.run_id))
        }

    def _state(self, run_id: str) -> str:
        return self._airflow.run_state(self.dag_id, run_id)

    def reaches(self, task: str, states: set[str], patience_s: float = 400) -> None:
        """Wait until a task is in one of these states."""
        deadline = time.monotonic() + patience_s
        while (state := self.states().get(task)) not in states:
            assert state not in ("failed", "upstream_failed", "success"), (
                f"{self.dag_id}.{task} is {state}"
            )
            assert time.monotonic() < deadline, f"{self.dag_id}.{task} is {state}, not {states}"
            time.sleep(0.3)

    def ends_well(self, patience_s: float = 600) -> None:
        deadline = time.monotonic() + patience_s
        while (state := retry_unavailable(lambda: self._state(self.run_id))) not in (
            "success",
            "failed",
        ):
            assert time.monotonic() < deadline, f"{self.dag_id} is {state}: {self.states()}"
            time.sleep(1)
        assert state == "success", self.states()

    def goes_on(self, task: str, before: tuple[str | None, int]) -> float:
        """Seconds until a task that was interrupted has moved on: another state, or another try."""
        began = time.monotonic()
        while self.attempt(task) == before:
            assert time.monotonic() - began < RECOVERY_S, (
                f"{self.dag_id}.{task} is still {before} after {RECOVERY_S} s"
            )
            time.sleep(0.5)
        return time.monotonic() - began

    def attempt(self, task: str) -> tuple[str | None, int]:
        return next(
            (t.state, t.try_number)
            for t in retry_unavailable(lambda: self._airflow.tasks(self.dag_id, self.run_id))
            if t.task_id == task
        )

    @property
    def folder(self) -> str:
        """Name of the run's work folder, which its registration carries."""
        return re.sub(r"[^A-Za-z0-9._-]+", "_", self.run_id)


def retry_unavailable(call):
    """Result of a call, retried while Airflow is unavailable."""
    deadline = time.monotonic() + RECOVERY_S
    while True:
        try:
            return call()
        except Unavailable:
            assert time.monotonic() < deadline, "the API server is not back"
            time.sleep(0.5)


def kill(settings: Settings, name: str) -> None:
    """SIGKILL of a component with everything below it, tasks that run included."""
    main = psutil.Process(supervisord.states(settings)[name]["pid"])
    for process in [main, *main.children(recursive=True)]:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def is_back(settings: Settings, name: str) -> None:
    time.sleep(2)
    wait_for(settings, "api-server", patience_s=RECOVERY_S)
    wait_for(settings, name, patience_s=RECOVERY_S)


@pytest.mark.parametrize("name", PARTS)
def test_run_streams_starts_everything_once(settings, backends, airflow, name):
    backends.supervisor.stop(run_streams.START_ORDER[::-1])
    attack = f"click_flood:CA:ios:+{60 + PARTS.index(name)}m:10m"
    run = Run(airflow, "run_streams", {"action": "start", "attacks": [attack], "base_eps": 1})
    run.reaches(
        "prepare" if name in ("scheduler", "api-server") else "start_consumers",
        # `prepare` takes a second, too short to be sure to see it run.
        {"scheduled", "queued", "running", "deferred"},
    )
    kill(settings, name)
    is_back(settings, name)
    run.ends_well()
    programs = backends.supervisor.programs()
    wanted = {*run_streams.CONSUMERS, *run_streams.GENERATOR}
    assert {n: programs[n].state for n in wanted} == dict.fromkeys(wanted, "RUNNING")
    assert backends.flink.window_job_state() == "RUNNING"
    assert len([job for job in backends.flink.jobs() if job.alive]) == 1
    planned = GeneratorFiles(Home.of(settings)).read_plan().attacks
    assert Counter((a.geo, a.platform, a.start) for a in planned).most_common(1)[0][1] == 1
    truth = read_ground_truth(GeneratorFiles(Home.of(settings)).truth)
    assert len(truth) == len(set(truth))


def test_backfill_features_computes_once(settings, backends, airflow, history):
    """All four, one after the other, while one job computes all days, and before and after it."""
    backends.supervisor.stop(run_streams.START_ORDER[::-1])
    first, last = history - timedelta(days=DAYS), history - timedelta(days=1)
    unpause(airflow, "backfill_features")
    run = Run(airflow, "backfill_features", {"first_day": str(first), "last_day": str(last)})
    for name, task, states in (
        ("api-server", "compute_windows", {"running"}),
        ("triggerer", "compute_windows", {"running", "deferred"}),
        ("scheduler", "compute_windows", {"running", "deferred"}),
        ("dag-processor", "write_days", {"scheduled", "queued", "running"}),
    ):
        run.reaches(task, states)
        kill(settings, name)
        is_back(settings, name)
    run.ends_well()
    ids = [
        hashlib.md5(
            f"backfill_features|{run.run_id}|compute_windows|-1|{attempt}".encode()
        ).hexdigest()
        for attempt in range(3)
    ]
    assert [backends.flink.job_state(job) for job in ids] == ["FINISHED", None, None]
    assert ids[0] in airflow.links(run.dag_id, run.run_id, "compute_windows")["Flink job"]
    assert airflow.links(run.dag_id, run.run_id, "write_days")["S3 prefix"].endswith(
        f"/buckets/{settings.minio_bucket}/features"
    )
    assert set(backends.offline_features.days()) >= {first + timedelta(days=i) for i in range(DAYS)}
    again = Run(airflow, "backfill_features", {"first_day": str(last), "last_day": str(last)})
    again.ends_well()
    digests = [
        airflow.returned("backfill_features", r.run_id, "write_days")[str(last)]
        for r in (run, again)
    ]
    assert digests[0] == digests[1]


def test_train_detector_registers_once(settings, backends, airflow, history):
    """All four, one after the other, at different steps of one run."""
    unpause(airflow, "train_detector")
    run = Run(airflow, "train_detector", {"train_days": DAYS})
    for name, task in (
        ("scheduler", "fit"),
        ("api-server", "evaluate"),
        ("triggerer", "seal"),
        ("scheduler", "promote_if_better"),
    ):
        run.reaches(task, {"running"})
        time.sleep(1)
        before = run.attempt(task)
        kill(settings, name)
        is_back(settings, name)
        if name == "scheduler":
            print(f"{task} goes on {run.goes_on(task, before):.0f} s after its scheduler was back")
    run.ends_well()
    from mlflow import MlflowClient

    found = MlflowClient(settings.mlflow_tracking_uri).search_model_versions(
        "name = 'adnomaly-detector'"
    )
    [version] = [v for v in found if v.tags.get("source") == run.folder]
    assert airflow.links(run.dag_id, run.run_id, "register")["MLflow run"].endswith(version.run_id)


def test_a_killed_stream_is_restarted(settings, backends):
    backends.supervisor.start(["store_clicks"])
    time.sleep(5)
    before = backends.supervisor.programs()["store_clicks"].pid
    os.kill(before, signal.SIGKILL)
    began = time.monotonic()
    while (now := backends.supervisor.programs()["store_clicks"]).pid in (
        0,
        before,
    ) or not now.running:
        assert time.monotonic() - began < 90
        time.sleep(0.2)
    backends.supervisor.stop(["store_clicks"])


def test_a_stream_that_crashes_repeatedly_is_reported_and_given_up(settings, backends, airflow):
    """Killed whenever it runs, until `watch_streams`, which runs every minute, has had enough."""
    airflow.set_paused("watch_streams", False)
    backends.supervisor.start(["archive_clicks"])
    deadline, killed = time.monotonic() + 240, 0
    while "archive_clicks" not in backends.supervisor.starts.given_up():
        assert time.monotonic() < deadline, f"killed {killed} times, and still started again"
        program = backends.supervisor.programs()["archive_clicks"]
        if program.running and program.pid:
            os.kill(program.pid, signal.SIGKILL)
            killed += 1
        time.sleep(2)
    assert killed >= 5
    while not (found := _operations(backends, "lake")):
        assert time.monotonic() < deadline, "nobody was told"
        time.sleep(1)
    assert "given up" in found[0]
    assert backends.supervisor.programs()["archive_clicks"].state == "STOPPED"
    backends.supervisor.start(["archive_clicks"])
    assert backends.supervisor.starts.given_up() == {}
    while _operations(backends, "lake"):
        assert time.monotonic() < deadline + 120, "it is not over although it runs again"
        time.sleep(2)
    backends.supervisor.stop(["archive_clicks"])


def _operations(backends: Backends, stage: str) -> list[str]:
    """Reasons of the open operational incidents of a stage."""
    recent = backends.incidents.recent(datetime.now(UTC) - timedelta(hours=1))
    return [
        i.summary
        for i in recent
        if i.incident_id.startswith(f"operations:{stage}@") and i.status == "open"
    ]
