"""Deferrable operators for programs of supervisord, Flink SQL jobs and Ray Serve deployments.

Each starts something idempotently, then waits in the triggerer without a worker slot. Its names do
not depend on the try, so a retry after a kill finds what the first try started.
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from adnomaly.errors import JobFailed
from adnomaly.pipelines import deploy_detector
from adnomaly.wiring import connect
from adnomaly_airflow.links import FlinkJobLink, ServingLink, set_link
from adnomaly_airflow.triggers import BundleServed, FlinkJobEnds, ProgramsRun, Wait, WindowJobRuns

if TYPE_CHECKING:
    from adnomaly.clients.flink_sql import Script


class _Waiting(BaseOperator):
    """Starts something, then defers until nothing is missing."""

    def __init__(self, *, patience: timedelta, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.patience = patience

    def execute(self, context: Any) -> Any:
        waiting = self.begin(context)
        # The trigger checks the time: `airflow dags test` ignores the timeout of a deferral.
        self.defer(
            trigger=waiting((datetime.now(UTC) + self.patience).isoformat()), method_name="resume"
        )

    def resume(self, context: Any, event: dict[str, str]) -> Any:
        """End the task after the wait.

        Raises:
            JobFailed: the wait failed or timed out.
        """
        if event["missing"]:
            raise JobFailed(f"{event['missing']} (waited at most {self.patience})")
        return self.end(context)

    def begin(self, context: Any) -> Callable[[str], Wait]:
        """Start, or find what was started; returns the trigger by its `until` (ISO 8601)."""
        raise NotImplementedError

    def end(self, context: Any) -> Any:
        """The result of the task after a successful wait."""
        return None


class StartPrograms(_Waiting):
    """Starts programs, and succeeds when each has run for `uptime`. Running programs stay."""

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
            "started %s; already running: %s",
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
        set_link(context["ti"], FlinkJobLink.key, connect().flink.jobs()[0].id)


class FlinkSqlJob(_Waiting):
    """Runs Flink SQL as one batch job, submitted once.

    The job id is a hash of DAG, run, task and the number of failed attempts, so a retry adopts the
    job of the first try, running or finished. A task that is marked while it waits cancels its job.

    Args:
        script: returns the script for the task's context, called before submission.
        finish: called with the context after success; its result is that of the task.
    """

    operator_extra_links = (FlinkJobLink(),)

    def __init__(
        self,
        *,
        script: Callable[[Any], "Script"],
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
        if state is None:
            script = self.script(context)
            if script.streaming:
                raise JobFailed(
                    f"{script.name} is a stream and does not end; run it with window_job"
                )
            self.log.info("submitting job %s", job_id)
            flink.submit(script, job_id)
        else:
            self.log.info("job %s is %s: adopted", job_id, state)
        set_link(context["ti"], FlinkJobLink.key, job_id)
        return lambda until: FlinkJobEnds(job_id, until)

    def end(self, context: Any) -> Any:
        return self.finish(context) if self.finish else None

    @staticmethod
    def _job_id(context: Any, attempt: int) -> str:
        task = context["ti"]
        parts = task.dag_id, task.run_id, task.task_id, str(task.map_index), str(attempt)
        return hashlib.md5("|".join(parts).encode(), usedforsecurity=False).hexdigest()


class ServeRollout(_Waiting):
    """Deploys a bundle on every replica without a failed request, then marks it current.

    The result is the version. If the replicas refuse the bundle, the task fails and the old
    bundle stays.
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
