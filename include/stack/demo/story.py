"""`python -m stack demo`: the whole life of a click, driven through Airflow's REST API.

History, backfill, training and deployment run once and are reused. Each demo plants one attack and
follows it from click to alert. Stopping a demo stops no server; the next demo resumes.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from adnomaly.attacks import Attack
from adnomaly.clients.airflow import Airflow
from adnomaly.errors import AdnomalyError, JobFailed
from adnomaly.generator_state import GeneratorFiles
from adnomaly.pipelines.backfill_features import Span
from adnomaly.settings import load_settings
from adnomaly.wiring import Backends, connect
from stack.demo import dag_runs
from stack.demo.attacks import form_value, next_attack
from stack.demo.consoles import print_consoles
from stack.demo.report import await_alert, await_incident, print_verdict
from stack.progress import Progress

BASE_EPS: Final = 4
HISTORY_DAYS: Final = 21
CATCH_UP: Final = timedelta(hours=2)
"""Age of the end of the history; the stream catches up from there."""

STALE: Final = timedelta(hours=6)
"""After a longer pause the history is generated again; the generator does not catch up further."""

DAGS: Final = (
    "generate_history",
    "backfill_features",
    "train_detector",
    "deploy_detector",
    "run_streams",
    "watch_streams",
    "handle_alert",
    "watch_model",
    "maintain_stores",
    "compare_windows",
)

MAX_PARSE_S: Final = 180
DAY: Final = timedelta(days=1)


class Demo:
    """The steps of the demo. Each step is skipped when its result exists."""

    def __init__(self, backends: Backends, airflow: Airflow, progress: Progress) -> None:
        self._backends, self._airflow, self._progress = backends, airflow, progress
        self._files = GeneratorFiles(backends.home)

    def run(self) -> None:
        """Run every step; print the alert and the page of its incident."""
        self._await_dags()
        now = datetime.now(UTC)
        end = self._history(now)
        self._backfill(end, now)
        self._detector()
        attack = self._streams(end)
        with self._progress.step(f"waiting for the alert about {attack.geo} {attack.platform}"):
            alert = await_alert(self._backends, attack, self._progress)
        for dag_id in DAGS:
            self._airflow.set_paused(dag_id, False)
        print_verdict(self._backends, attack, alert, since=end, progress=self._progress)
        with self._progress.step("the incident, which waits for a decision"):
            page = await_incident(self._backends, attack, self._progress)
        print(f"decide it at: {page}", flush=True)

    def _await_dags(self) -> None:
        """Wait until Airflow has parsed the DAG files, some seconds after its start."""
        with self._progress.step("Airflow reads the DAGs"):
            deadline = time.monotonic() + MAX_PARSE_S
            while missing := ", ".join(d for d in DAGS if not self._airflow.knows(d)):
                if time.monotonic() > deadline:
                    errors = "; ".join(self._airflow.import_errors())
                    raise JobFailed(f"Airflow does not know {missing}: {errors or 'see make logs'}")
                line = f"   not read yet: {missing}"
                self._progress.waiting(lambda: line)  # noqa: B023 - called at once
                time.sleep(1)

    def _history(self, now: datetime) -> datetime:
        """Generate weeks of clicks in the lake, for training; returns their end, exclusive."""
        self._wait_for_active_runs("generate_history")
        end = self._files.read_history().end
        if (
            end is not None
            and self._covers(end)
            and now - (self._files.read_progress().next or end) < STALE
        ):
            self._progress.say(f"== history: already in the lake, up to {end:%Y-%m-%d %H:%M}Z")
            return end
        end = (now - CATCH_UP).replace(minute=0, second=0, microsecond=0)
        with self._progress.step(
            f"history: {HISTORY_DAYS} days of clicks into the lake, up to {end:%Y-%m-%d %H:%M}Z"
        ):
            self._run(
                "generate_history",
                {"days": HISTORY_DAYS, "end": end.isoformat(), "base_eps": self._rate()},
            )
        return end

    def _rate(self) -> float:
        """Clicks per second: of the history that is there, for one model fits one rate."""
        return self._files.read_history().base_eps or BASE_EPS

    def _covers(self, end: datetime) -> bool:
        """Whether the lake's manifest has every hour of the history."""
        return (
            len(self._backends.lake.history_hours(end - HISTORY_DAYS * DAY, end))
            >= HISTORY_DAYS * 24
        )

    def _backfill(self, end: datetime, now: datetime) -> None:
        days = history_days(end)
        first, last = days[0], days[-1]
        offline = self._backends.offline_features
        self._wait_for_active_runs("backfill_features")
        if set(days) <= set(offline.days()):
            self._progress.say(f"== features: {len(days)} days are already computed")
            return
        with self._progress.step(
            f"features: Flink computes the windows from {first} to {last} in batch"
        ):
            conf = {"first_day": str(first), "last_day": str(last), "until": end.isoformat()}
            self._run("backfill_features", conf, logical_date=_scheduled(now))

    def _detector(self) -> None:
        self._wait_for_active_runs("train_detector")
        self._wait_for_active_runs("deploy_detector")
        if self._backends.bundles.current():
            self._progress.say("== detector: already trained and deployed")
            return
        with self._progress.step(
            "detector: train on 21 days, evaluate on planted attacks, check before promotion"
        ):
            run_id = self._run("train_detector", {})
        self._show_evaluation(run_id)
        with self._progress.step("detector: deploy on Ray Serve"):
            self._run("deploy_detector", {})

    def _show_evaluation(self, run_id: str) -> None:
        """Print the metrics of detector, chance and reference detectors from the task's log."""
        for task in self._airflow.tasks("train_detector", run_id):
            if task.task_id == "evaluate":
                print(
                    "\n".join(self._airflow.log_tail("train_detector", run_id, task, lines=1)),
                    flush=True,
                )
        if not self._airflow.returned("train_detector", run_id, "promote_if_better"):
            raise JobFailed(
                "the promotion check refused the detector; "
                "its reasons are in the log of promote_if_better and in MLflow"
            )

    def _streams(self, end: datetime) -> Attack:
        """Start the streams with one attack in the traffic that is still to be sent."""
        # A running generator reaches the present soon, wherever it is now.
        sending = self._backends.supervisor.programs()["generate_clicks"].state in (
            "STARTING",
            "RUNNING",
        )
        attack = next_attack(self._files, end, datetime.now(UTC), sending=sending)
        print(f"planted attack: {attack}", flush=True)
        with self._progress.step(
            f"streams: from {self._files.read_progress().next or end:%H:%M}Z to now, then live"
        ):
            conf = {
                "action": "start",
                "begin": end.isoformat(),
                "attacks": [form_value(attack)],
                "base_eps": self._rate(),
            }
            self._run("run_streams", conf)
        return attack

    def _wait_for_active_runs(self, dag_id: str) -> None:
        """Wait for runs started by an interrupted demo or an asset; reuse their results."""
        dag_runs.wait_for_active_runs(self._airflow, self._progress, dag_id)

    def _run(
        self, dag_id: str, conf: Mapping[str, Any], *, logical_date: datetime | None = None
    ) -> str:
        return dag_runs.run_dag(
            self._airflow, self._progress, dag_id, conf, logical_date=logical_date
        )


def history_days(end: datetime) -> list[date]:
    """The UTC days that have windows of the history, oldest first."""
    first = (end - HISTORY_DAYS * DAY).replace(hour=0, minute=0, second=0, microsecond=0)
    return Span(first, end).days


def _scheduled(now: datetime) -> datetime:
    """The logical date that the daily schedule would run first.

    Our run takes this date, so the schedule does not repeat it.
    """
    tick = now.replace(hour=0, minute=30, second=0, microsecond=0)
    return (tick if tick <= now else tick - DAY) - DAY


@contextmanager
def _short_errors() -> Iterator[None]:
    """End with a message instead of a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(
            "\nstopped watching; the servers keep running. "
            "`make demo` resumes, `make down` stops them"
        ) from None
    except AdnomalyError as error:
        raise SystemExit(f"\n{error}\n`make demo` resumes once that is fixed") from None


def main() -> None:
    """Exit with code 0 when the alert names the planted attack."""
    with _short_errors():
        settings, progress = load_settings(), Progress()
        airflow = Airflow(
            settings.airflow_url, "admin", settings.airflow_admin_password.get_secret_value()
        )
        Demo(connect(settings), airflow, progress).run()
        print_consoles(settings)
        progress.say("demo finished")
