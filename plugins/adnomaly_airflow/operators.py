"""Operators for always-on processes: ask for them, then wait in the triggerer until they really run."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import BaseOperator

from adnomaly.errors import JobFailed
from adnomaly.wiring import connect
from adnomaly_airflow.triggers import ProgramsRun, Wait, WindowJobRuns


class _Waiting(BaseOperator):
    """Starts something, then defers until a trigger says that nothing is missing."""

    def __init__(self, *, patience: timedelta, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.patience = patience

    def execute(self, context: Any) -> None:
        self.begin()
        # The trigger keeps the time itself: `airflow dags test` ignores the timeout of a deferral.
        self.defer(trigger=self.trigger((datetime.now(UTC) + self.patience).isoformat()), method_name="resume")

    def resume(self, context: Any, event: dict[str, str]) -> None:
        """The wait is over.

        Raises:
            JobFailed: what was waited for did not come true in time.
        """
        if event["missing"]:
            raise JobFailed(f"after {self.patience}: {event['missing']}. Its log: make logs")

    def begin(self) -> None:
        """Nothing to start."""

    def trigger(self, until: str) -> Wait:
        raise NotImplementedError


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

    def begin(self) -> None:
        started = connect().supervisor.start(self.programs)
        self.log.info("started %s; already there: %s", started, [name for name in self.programs if name not in started])

    def trigger(self, until: str) -> Wait:
        return ProgramsRun(self.programs, int(self.uptime.total_seconds()), until)


class AwaitWindowJob(_Waiting):
    """Succeeds when Flink runs the window job, which the program `window_job` submits."""

    def __init__(self, *, patience: timedelta = timedelta(minutes=3), **kwargs: Any) -> None:
        super().__init__(patience=patience, **kwargs)

    def trigger(self, until: str) -> Wait:
        return WindowJobRuns(until)
