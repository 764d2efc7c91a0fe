"""Waits that hold no worker slot: they run in the triggerer, and a restart of it loses nothing.

Everything a wait knows is in its arguments, with an absolute `until`; uptimes come from the clock of the watched side.
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
    """Asks `missing` until it says that nothing is, or until `until` (ISO 8601).

    Its event is `{"missing": text}`: empty when the wait came true, else what was still missing at the end.
    """

    arguments: ClassVar[tuple[str, ...]] = ("until",)

    def __init__(self, until: str) -> None:
        super().__init__()
        self.until = until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            name: getattr(self, name) for name in self.arguments
        }

    def missing(self) -> str:
        """What is not there yet, in words; empty when all is. Called in a thread. `Unavailable` counts as not there yet.

        Raises:
            JobFailed: waiting longer makes no sense.
        """
        raise NotImplementedError

    async def run(self) -> AsyncIterator[TriggerEvent]:
        end, missing = datetime.fromisoformat(self.until), "not asked yet"
        while True:
            try:
                missing = await asyncio.to_thread(self.missing)
            except Unavailable as error:
                missing = str(error)
            except (JobFailed, BundleRejected) as error:
                yield TriggerEvent({"missing": str(error)})
                return
            if not missing or datetime.now(UTC) >= end:
                yield TriggerEvent({"missing": missing})
                return
            await asyncio.sleep(POLL_SECONDS)


class ProgramsRun(Wait):
    """Until each program has run for `uptime_s` seconds without a restart."""

    arguments = ("programs", "uptime_s", "until")

    def __init__(self, programs: Sequence[str], uptime_s: int, until: str) -> None:
        super().__init__(until)
        self.programs, self.uptime_s = list(programs), uptime_s

    def missing(self) -> str:
        known = connect().supervisor.programs()
        if fatal := [
            name for name in self.programs if name in known and known[name].state == "FATAL"
        ]:
            raise JobFailed(f"{', '.join(fatal)} ended again and again at start")
        waiting = [
            known[name]
            for name in self.programs
            if name in known and known[name].uptime_s < self.uptime_s
        ]
        return "; ".join(f"{p.name} is {p.state} ({p.detail or 'no detail'})" for p in waiting)


class WindowJobRuns(Wait):
    """Until Flink runs the window job."""

    def missing(self) -> str:
        state = connect().flink.window_job_state()
        return "" if state == "RUNNING" else f"the window job is {state or 'not submitted'}"


class FlinkJobEnds(Wait):
    """Until a batch job has finished, or a stream runs. A task that is killed meanwhile takes its job along."""

    arguments = ("job_id", "streaming", "until")

    def __init__(self, job_id: str, streaming: bool, until: str) -> None:
        super().__init__(until)
        self.job_id, self.streaming = job_id, streaming

    def missing(self) -> str:
        flink = connect().flink
        state = flink.job_state(self.job_id)
        if state is None:
            raise JobFailed(
                f"Flink has forgotten job {self.job_id}: its JobManager was restarted. The next try submits it again"
            )
        if state in ("FAILED", "CANCELED"):
            raise JobFailed(f"job {self.job_id} is {state}: {flink.root_cause(self.job_id)}")
        return (
            ""
            if state == ("RUNNING" if self.streaming else "FINISHED")
            else f"job {self.job_id} is {state}"
        )

    async def on_kill(self) -> None:
        """Somebody has marked the task: cancel the batch, or stop the stream with a savepoint."""
        flink = connect().flink
        await asyncio.to_thread(flink.stop if self.streaming else flink.cancel, self.job_id)


class BundleServed(Wait):
    """Until every replica of the scoring application serves a version."""

    arguments = ("version", "until")

    def __init__(self, version: str, until: str) -> None:
        super().__init__(until)
        self.version = version

    def missing(self) -> str:
        return connect().serving.missing(self.version)
