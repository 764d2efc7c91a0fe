"""Triggers: waits in the triggerer that occupy no worker slot and survive its restart.

The whole state is in the arguments, with an absolute `until`. Uptimes come from the clock of the
watched server.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from adnomaly.errors import BundleRejected, JobFailed, Unavailable
from adnomaly.wiring import connect

POLL_SECONDS = 1.0


class Wait(BaseTrigger):
    """Polls `missing` until it returns an empty text, or until `until` (ISO 8601).

    The event is `{"missing": text}`: empty on success, else the reason at the end.
    """

    arguments: ClassVar[tuple[str, ...]] = ("until",)

    def __init__(self, until: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's class has no types
        self.until = until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            name: getattr(self, name) for name in self.arguments
        }

    def missing(self) -> str:
        """What is missing, in words; empty on success. Called in a thread.

        Raises:
            Unavailable: counts as missing.
            JobFailed: waiting longer is useless.
        """
        raise NotImplementedError

    async def run(self) -> AsyncIterator[TriggerEvent]:
        end, missing = datetime.fromisoformat(self.until), "not polled yet"
        while True:
            try:
                missing = await asyncio.to_thread(self.missing)
            except Unavailable as error:
                missing = str(error)
            except (JobFailed, BundleRejected) as error:
                yield _event(str(error))
                return
            if not missing or datetime.now(UTC) >= end:
                yield _event(missing)
                return
            await asyncio.sleep(POLL_SECONDS)


def _event(missing: str) -> TriggerEvent:
    return TriggerEvent({"missing": missing})  # type: ignore[no-untyped-call]  # as above


class ProgramsRun(Wait):
    """Until each program has run for `uptime_s` seconds without a restart."""

    arguments = ("programs", "uptime_s", "until")

    def __init__(self, programs: Sequence[str], uptime_s: int, until: str) -> None:
        super().__init__(until)
        self.programs, self.uptime_s = list(programs), uptime_s

    def missing(self) -> str:
        programs = connect().supervisor.programs()
        if fatal := [
            name for name in self.programs if name in programs and programs[name].state == "FATAL"
        ]:
            raise JobFailed(f"{', '.join(fatal)} crashed repeatedly at start")
        waiting = [
            programs[name]
            for name in self.programs
            if name in programs and programs[name].uptime_s < self.uptime_s
        ]
        return "; ".join(f"{p.name} is {p.state} ({p.detail or 'no detail'})" for p in waiting)


class WindowJobRuns(Wait):
    """Until Flink runs the window job."""

    def missing(self) -> str:
        state = connect().flink.window_job_state()
        return "" if state == "RUNNING" else f"the window job is {state or 'not submitted'}"


class FlinkJobEnds(Wait):
    """Until a batch job has finished. A task that is marked meanwhile cancels its job."""

    arguments = ("job_id", "until")

    def __init__(self, job_id: str, until: str) -> None:
        super().__init__(until)
        self.job_id = job_id

    def missing(self) -> str:
        flink = connect().flink
        state = flink.job_state(self.job_id)
        if state is None:
            raise JobFailed(
                f"Flink does not know job {self.job_id}: its JobManager was restarted."
                " The next try submits the job again"
            )
        if state in ("FAILED", "CANCELED"):
            raise JobFailed(f"job {self.job_id} is {state}: {flink.root_cause(self.job_id)}")
        return "" if state == "FINISHED" else f"job {self.job_id} is {state}"

    async def on_kill(self) -> None:
        """Cancel the job after somebody marked the task."""
        await asyncio.to_thread(connect().flink.cancel, self.job_id)


class BundleServed(Wait):
    """Until every replica of the scoring application serves a version."""

    arguments = ("version", "until")

    def __init__(self, version: str, until: str) -> None:
        super().__init__(until)
        self.version = version

    def missing(self) -> str:
        return connect().serving.missing(self.version)
