"""Operators for what outlives a task: programs under supervision, Flink SQL jobs, models on Ray Serve.

All of them begin something that is safe to begin twice, then wait in the triggerer without holding a worker. What they know of it is
in names that do not depend on the try, so that a task that was killed finds again what it began.
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import BaseOperator

from adnomaly.errors import JobFailed
from adnomaly.pipelines import deploy_detector
from adnomaly.wiring import connect
from adnomaly_airflow.links import FlinkJobLink, ServingLink, note
from adnomaly_airflow.triggers import BundleServed, FlinkJobEnds, ProgramsRun, Wait, WindowJobRuns


class _Waiting(BaseOperator):
    """Begins something, then defers until a trigger says that nothing is missing."""

    def __init__(self, *, patience: timedelta, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.patience = patience

    def execute(self, context: Any) -> Any:
        waiting = self.begin(context)
        # The trigger keeps the time itself: `airflow dags test` ignores the timeout of a deferral.
        self.defer(
            trigger=waiting((datetime.now(UTC) + self.patience).isoformat()), method_name="resume"
        )

    def resume(self, context: Any, event: dict[str, str]) -> Any:
        """The wait is over.

        Raises:
            JobFailed: what was waited for did not come true, or not in time.
        """
        if event["missing"]:
            raise JobFailed(f"{event['missing']} (waited at most {self.patience})")
        return self.end(context)

    def begin(self, context: Any) -> Callable[[str], Wait]:
        """Begin it, or find it begun; returns the trigger, given the moment until which to wait (ISO 8601)."""
        raise NotImplementedError

    def end(self, context: Any) -> Any:
        """It has come true; what this returns is the task's result."""
        return None


class StartPrograms(_Waiting):
    """Has supervisord start programs, and succeeds when each has run for `uptime`. Programs that run already stay untouched."""

    template_fields = ("programs",)

    def __init__(
        self,
        *,
        programs: Sequence[str],
        uptime: timedelta = timedelta(seconds=2),
        patience: timedelta = timedelta(minutes=2),
        **kwargs: Any,
    ) -> None:
        super().__init__(patience=patience, **kwargs)
        self.programs, self.uptime = programs, uptime

    def begin(self, context: Any) -> Callable[[str], Wait]:
        started = connect().supervisor.start(self.programs)
        self.log.info(
            "started %s; already there: %s",
            started,
            [name for name in self.programs if name not in started],
        )
        return lambda until: ProgramsRun(self.programs, int(self.uptime.total_seconds()), until)


class AwaitWindowJob(_Waiting):
    """Succeeds when Flink runs the window job, which the program `window_job` submits."""

    operator_extra_links = (FlinkJobLink(),)

    def __init__(self, *, patience: timedelta = timedelta(minutes=3), **kwargs: Any) -> None:
        super().__init__(patience=patience, **kwargs)

    def begin(self, context: Any) -> Callable[[str], Wait]:
        return WindowJobRuns

    def end(self, context: Any) -> None:
        note(context["ti"], FlinkJobLink.key, connect().flink.jobs()[0].id)


class FlinkSqlJob(_Waiting):
    """Runs Flink SQL as one job: submitted once, found again after a crash, ended when somebody ends the task.

    The job's id is made of DAG, run, task and the number of earlier attempts that failed, so a second try adopts what the first
    one submitted, whether it runs still or has finished meanwhile. A batch job is awaited to its end; a stream until it runs. A
    task that is marked failed or success while it waits cancels its batch job, and stops its stream with a savepoint.

    Args:
        script: makes the `adnomaly.clients.flink_sql.Script`, called with the task's context right before it is submitted.
        finish: called with the context when the job has ended well; its result is the task's.
    """

    operator_extra_links = (FlinkJobLink(),)

    def __init__(
        self,
        *,
        script: Callable[[Any], Any],
        finish: Callable[[Any], Any] | None = None,
        patience: timedelta = timedelta(minutes=30),
        **kwargs: Any,
    ) -> None:
        super().__init__(patience=patience, **kwargs)
        self.script, self.finish = script, finish

    def begin(self, context: Any) -> Callable[[str], Wait]:
        flink = connect().flink
        attempt, state = 0, flink.job_state(job_id := self._job_id(context, 0))
        while state in ("FAILED", "CANCELED"):
            attempt += 1
            state = flink.job_state(job_id := self._job_id(context, attempt))
        script = self.script(context) if state is None else None
        if script is not None:
            self.log.info("submitting job %s", job_id)
            flink.submit(script, job_id)
        else:
            self.log.info("job %s is %s: adopted", job_id, state)
        note(context["ti"], FlinkJobLink.key, job_id)
        streaming = script is not None and script.streaming
        return lambda until: FlinkJobEnds(job_id, streaming, until)

    def end(self, context: Any) -> Any:
        return self.finish(context) if self.finish else None

    @staticmethod
    def _job_id(context: Any, attempt: int) -> str:
        task = context["ti"]
        parts = task.dag_id, task.run_id, task.task_id, str(task.map_index), str(attempt)
        return hashlib.md5("|".join(parts).encode(), usedforsecurity=False).hexdigest()


class ServeRollout(_Waiting):
    """Has every replica of the scoring application serve a bundle, without a failed request; then it is the one to come back to.

    Succeeds with the version. A bundle that the replicas refuse fails the task, and what was served is served on.
    """

    template_fields = ("version",)
    operator_extra_links = (ServingLink(),)

    def __init__(
        self, *, version: str, patience: timedelta = timedelta(minutes=3), **kwargs: Any
    ) -> None:
        super().__init__(patience=patience, **kwargs)
        self.version = version

    def begin(self, context: Any) -> Callable[[str], Wait]:
        b = connect()
        b.serving.begin(b.bundles.path(self.version))
        return lambda until: BundleServed(self.version, until)

    def end(self, context: Any) -> str:
        deploy_detector.mark_current(connect().bundles, self.version)
        return self.version
