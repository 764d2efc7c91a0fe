"""`python -m stack demo`: one click's whole life, driven through Airflow's REST API as a person would drive it by hand.

History, backfill, training and deployment happen once; what is there already is used. Each demo plants one attack and
follows it from click to alert. It can be stopped at any time: the servers go on, and the next demo does too.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from adnomaly.attacks import Attack, read_truth
from adnomaly.clients.airflow import Airflow
from adnomaly.errors import AdnomalyError, JobFailed
from adnomaly.generator_state import GeneratorFiles
from adnomaly.settings import load_settings
from adnomaly.wiring import Backends, connect
from stack.demo import dag_runs as follow
from stack.demo.consoles import print_consoles
from stack.demo.report import await_alert, await_incident, print_verdict
from stack.progress import Progress

BASE_EPS: Final = 4
HISTORY_DAYS: Final = 21
CATCH_UP: Final = timedelta(hours=2)
"""The history ends so long ago, and the stream catches up from there."""

STALE: Final = timedelta(hours=6)
"""After a longer pause the history is written anew: the generator does not catch up further."""

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

TARGETS: Final = (
    ("click_flood", "DE", "web"),
    ("click_flood", "BR", "android"),
    ("click_flood", "IN", "ios"),
    ("click_flood", "US", "android"),
)
"""What is planted, in turn, so that two demos in a row do not touch the same entity."""

STRENGTH: Final = 2
MINUTE: Final = timedelta(minutes=1)
DAY: Final = timedelta(days=1)


class Demo:
    """The story, step by step. Every step looks first at what is there."""

    def __init__(self, backends: Backends, airflow: Airflow, progress: Progress) -> None:
        self._backends, self._airflow, self._progress = backends, airflow, progress
        self._files = GeneratorFiles(backends.home)

    def run(self) -> None:
        """All of it; ends with the alert and the way to the consoles."""
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
        with self._progress.step("the incident that people decide about"):
            page = await_incident(self._backends, attack, self._progress)
        print(f"decide about it: {page}", flush=True)

    def _await_dags(self) -> None:
        """Airflow reads the DAG files some seconds after it has come up."""
        with self._progress.step("Airflow reads the DAGs"):
            for _ in range(180):
                missing = [dag_id for dag_id in DAGS if not self._airflow.knows(dag_id)]
                if not missing:
                    return
                self._progress.waiting(
                    lambda missing=missing: f"   not read yet: {', '.join(missing)}"
                )
                time.sleep(1)
            raise JobFailed(
                f"Airflow does not know {', '.join(missing)}: {'; '.join(self._airflow.import_errors()) or 'see make logs'}"
            )

    def _history(self, now: datetime) -> datetime:
        """Weeks of clicks in the lake, to learn from; returns where they end and the stream begins."""
        self._settle("generate_history")
        end = self._files.read_history_end()
        if (
            end is not None
            and self._covers(end)
            and now - (self._files.read_progress().next or end) < STALE
        ):
            self._progress.say(f"== history: in the lake already, up to {end:%Y-%m-%d %H:%M}Z")
            return end
        end = (now - CATCH_UP).replace(minute=0, second=0, microsecond=0)
        with self._progress.step(
            f"history: {HISTORY_DAYS} days of clicks into the lake, up to {end:%Y-%m-%d %H:%M}Z"
        ):
            self._run(
                "generate_history",
                {"days": HISTORY_DAYS, "end": end.isoformat(), "base_eps": BASE_EPS},
            )
        return end

    def _covers(self, end: datetime) -> bool:
        """Whether the lake's manifest has every hour of the history, not just its end."""
        return (
            len(self._backends.lake.history_hours(end - HISTORY_DAYS * DAY, end))
            >= HISTORY_DAYS * 24
        )

    def _backfill(self, end: datetime, now: datetime) -> None:
        first, last = (end - HISTORY_DAYS * DAY).date(), end.date()
        wanted = {first + i * DAY for i in range((last - first).days + 1)}
        offline = self._backends.offline_features
        self._settle("backfill_features")
        if wanted <= set(offline.days()):
            self._progress.say(f"== features: {len(wanted)} days are there already")
            return
        with self._progress.step(
            f"features: Flink computes the windows of {first} to {last} in batch"
        ):
            conf = {"first_day": str(first), "last_day": str(last), "until": end.isoformat()}
            self._run("backfill_features", conf, logical_date=_scheduled(now))

    def _detector(self) -> None:
        self._settle("train_detector")
        self._settle("deploy_detector")
        if self._backends.bundles.current():
            self._progress.say("== detector: trained and deployed already")
            return
        with self._progress.step(
            "detector: train on 21 days, judge on planted attacks, check before promotion"
        ):
            run_id = self._run("train_detector", {})
        self._show_evaluation(run_id)
        with self._progress.step("detector: deploy on Ray Serve"):
            self._run("deploy_detector", {})

    def _show_evaluation(self, run_id: str) -> None:
        """What the training found, beside chance and simple rules: the table from the task's own log."""
        for task in self._airflow.tasks("train_detector", run_id):
            if task.task_id == "evaluate":
                print(
                    "\n".join(self._airflow.log_tail("train_detector", run_id, task, lines=1)),
                    flush=True,
                )
        if not self._airflow.returned("train_detector", run_id, "promote_if_better"):
            raise JobFailed(
                "the promotion check refused the detector; its reasons are in the log of promote_if_better and in MLflow"
            )

    def _streams(self, end: datetime) -> Attack:
        """Start the streams with one attack in what is still to be sent."""
        # A generator that runs already is soon at the present, wherever it is now.
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
                "attacks": [spelled(attack)],
                "base_eps": BASE_EPS,
            }
            self._run("run_streams", conf)
        return attack

    def _settle(self, dag_id: str) -> None:
        """What an interrupted demo, or an asset, has started counts, once it has ended."""
        follow.settle(self._airflow, self._progress, dag_id)

    def _run(
        self, dag_id: str, conf: Mapping[str, Any], *, logical_date: datetime | None = None
    ) -> str:
        return follow.run_dag(
            self._airflow, self._progress, dag_id, conf, logical_date=logical_date
        )


def next_attack(
    files: GeneratorFiles, history_end: datetime, now: datetime, *, sending: bool = False
) -> Attack:
    """An attack on the next entity in turn: 40 to 20 minutes ago when that is still to be sent, else as soon as possible."""
    sent_until = max(
        files.read_progress().next or history_end, history_end, now if sending else history_end
    )
    soonest = (sent_until + 3 * MINUTE).replace(second=0, microsecond=0)
    start = max(soonest, (now - 40 * MINUTE).replace(second=0, microsecond=0))
    kind, geo, platform = TARGETS[len(read_truth(files.truth)) % len(TARGETS)]
    length = 20 * MINUTE if start + 20 * MINUTE <= now else 10 * MINUTE
    return Attack(
        kind=kind, geo=geo, platform=platform, start=start, end=start + length, strength=STRENGTH
    )


def spelled(attack: Attack) -> str:
    """The attack as a form field has it."""
    minutes = (attack.end - attack.start) // MINUTE
    return f"{attack.kind}:{attack.geo}:{attack.platform}:{attack.start:%Y-%m-%dT%H:%MZ}:{minutes}m:{attack.strength:g}"


def _scheduled(now: datetime) -> datetime:
    """The date that the daily schedule would run next when it is switched on: given to our run, it is not run twice."""
    tick = now.replace(hour=0, minute=30, second=0, microsecond=0)
    return (tick if tick <= now else tick - DAY) - DAY


@contextmanager
def _explained() -> Iterator[None]:
    """Ends in one plain sentence instead of a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(
            "\nstopped watching; the servers go on. `make demo` goes on from here, `make down` stops them"
        ) from None
    except AdnomalyError as error:
        raise SystemExit(
            f"\n{error}\n`make demo` goes on from here once that is repaired"
        ) from None


def main() -> None:
    """Exit code 0 when the alert names the planted attack."""
    with _explained():
        settings, progress = load_settings(), Progress()
        airflow = Airflow(
            settings.airflow_url, "admin", settings.airflow_admin_password.get_secret_value()
        )
        Demo(connect(settings), airflow, progress).run()
        print_consoles(settings)
        progress.say("demo finished")
