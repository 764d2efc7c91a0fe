"""Flink: the window SQL submitted as a stream or run in batch, and the few words of its REST API that we need."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import uuid4

import httpx
import msgspec

from adnomaly.clients.flink_sql import Script, batch_script
from adnomaly.errors import JobFailed, Unavailable
from adnomaly.features import FEATURES, Feature
from adnomaly.settings import ROOT

if TYPE_CHECKING:
    from adnomaly.stores.lake import Lake

PROGRAM: Final = ROOT / "streaming" / "window_program.py"
WINDOW_JOB: Final = "adnomaly-windows"
BATCH_JOB: Final = "adnomaly-window-batch"
RUNNING: Final = "RUNNING"
ENDED: Final = frozenset({"FAILED", "CANCELED", "FINISHED"})
CALL_SECONDS: Final = 10.0
SUBMIT_SECONDS: Final = 180.0
BATCH_SECONDS: Final = 1800.0
BATCH_PARTS: Final = 2
"""Parts of a batch span that are computed beside each other, one slot each."""


class Job(NamedTuple):
    """One job as the JobManager has it. `started` is milliseconds since the epoch."""

    id: str
    name: str
    state: str
    started: int

    @property
    def alive(self) -> bool:
        """Whether it runs or may run again; a job that is being cancelled still is."""
        return self.state not in ENDED


class Flink:
    """One session cluster. Every method raises `Unavailable` while the JobManager does not answer."""

    def __init__(
        self,
        url: str,
        *,
        flink_home: Path,
        checkpoints: Path,
        lake: "Lake | None" = None,
        lake_url: str = "",
        features: Sequence[Feature] = FEATURES,
    ) -> None:
        self._url, self._home, self.checkpoints, self.features = (
            url,
            flink_home,
            checkpoints,
            features,
        )
        self._lake, self._lake_url = lake, lake_url

    def jobs(self, name: str = WINDOW_JOB) -> list[Job]:
        """The jobs of this name that the JobManager remembers, newest first."""
        found = self._get("/jobs/overview")["jobs"]
        jobs = [
            Job(job["jid"], job["name"], job["state"], job["start-time"])
            for job in found
            if job["name"] == name
        ]
        return sorted(jobs, key=lambda job: -job.started)

    def window_job_state(self, name: str = WINDOW_JOB) -> str | None:
        """State of the job that is alive, else of the newest one; None when the JobManager knows none.

        RUNNING means that every task of it runs: a job whose TaskManager is gone says RESTARTING or CREATED.
        """
        jobs = self.jobs(name)
        shown = next((job for job in jobs if job.alive), jobs[0] if jobs else None)
        if shown is None or shown.state != RUNNING:
            return shown.state if shown else None
        tasks = {vertex["status"] for vertex in self._get(f"/jobs/{shown.id}")["vertices"]}
        return RUNNING if tasks == {RUNNING} else "CREATED"

    def job_state(self, job_id: str) -> str | None:
        """State of one job; None when the JobManager does not know it (a restarted one has forgotten all)."""
        return next(
            (job["state"] for job in self._get("/jobs/overview")["jobs"] if job["jid"] == job_id),
            None,
        )

    def submit(self, script: Script, job_id: str, *, checkpoint: Path | None = None) -> None:
        """Start a job under an id of our choice, a stream going on from a checkpoint where there is one; returns when it is accepted.

        Raises:
            JobFailed: Flink's client refused; the message ends with its own words.
        """
        resume = ["-s", f"file://{checkpoint}"] if checkpoint else []
        self._run(resume, script, job_id, seconds=SUBMIT_SECONDS)

    def cancel(self, job_id: str, *, patience_s: float = 60.0) -> None:
        """Cancel a job and wait for its end; its last checkpoint stays.

        Raises:
            JobFailed: it has not ended in time.
        """
        self._call("PATCH", f"/jobs/{job_id}", params={"mode": "cancel"})
        deadline = time.monotonic() + patience_s
        while self._get(f"/jobs/{job_id}")["state"] not in ENDED:
            if time.monotonic() > deadline:
                raise JobFailed(
                    f"job {job_id} does not end: cancelled {patience_s:.0f} s ago; restart the TaskManager"
                )
            time.sleep(0.3)

    def stop(self, job_id: str, *, patience_s: float = 120.0) -> Path:
        """End a stream with a savepoint, from which `submit` can go on without reading anything twice; returns the savepoint.

        Raises:
            JobFailed: Flink could not take one; the job runs on then.
        """
        body = {"targetDirectory": f"file://{self._home.parent / 'savepoints'}", "drain": False}
        request = self._call("POST", f"/jobs/{job_id}/stop", json=body).json()["request-id"]
        deadline = time.monotonic() + patience_s
        while (answer := self._get(f"/jobs/{job_id}/savepoints/{request}"))["status"][
            "id"
        ] != "COMPLETED":
            if time.monotonic() > deadline:
                raise JobFailed(
                    f"job {job_id} has no savepoint after {patience_s:.0f} s: look at its checkpoints in Flink's UI"
                )
            time.sleep(0.3)
        operation = answer["operation"]
        if "location" not in operation:
            raise JobFailed(
                f"job {job_id} could not be stopped with a savepoint: {operation['failure-cause']['stack-trace'].splitlines()[0]}"
            )
        return Path(operation["location"].removeprefix("file:"))

    def root_cause(self, job_id: str) -> str:
        """First line of what a job failed of; empty when it did not."""
        entries = (
            self._get(f"/jobs/{job_id}/exceptions").get("exceptionHistory", {}).get("entries", [])
        )
        return entries[0]["stacktrace"].splitlines()[0] if entries else ""

    def late_clicks(self, name: str = WINDOW_JOB) -> int | None:
        """Clicks that missed a window, counted by the running job since it (or its TaskManager) last started.

        None when no job runs. The topic of late clicks has all of them, each with the number of windows it missed.
        """
        job = next((job for job in self.jobs(name) if job.state == RUNNING), None)
        if job is None:
            return None
        for vertex in self._get(f"/jobs/{job.id}")["vertices"]:
            metrics = f"/jobs/{job.id}/vertices/{vertex['id']}/subtasks/metrics"
            names = [metric["id"] for metric in self._get(metrics)]
            # What comes to the writer of late clicks is late.
            for metric in names:
                if metric.startswith("late") and metric.endswith("Writer.numRecordsIn"):
                    return int(self._get(f"{metrics}?get={metric}&agg=sum")[0]["sum"])
        return 0

    def newest_checkpoint(
        self, job_ids: Sequence[str], *, refused: Collection[str] = ()
    ) -> Path | None:
        """The newest complete checkpoint among those that these jobs left behind, apart from refused ones."""
        found = [
            file.parent
            for job_id in job_ids
            for file in (self.checkpoints / job_id).glob("chk-*/_metadata")
        ]
        usable = [folder for folder in found if str(folder) not in refused]
        return max(usable, key=lambda folder: (folder / "_metadata").stat().st_mtime, default=None)

    def discard_checkpoints(self, job_ids: Sequence[str]) -> None:
        """Delete what jobs left behind that nothing will go on from."""
        for job_id in job_ids:
            shutil.rmtree(self.checkpoints / job_id, ignore_errors=True)

    def window_batch(
        self, start: datetime, end: datetime, *, output: str, name: str = BATCH_JOB
    ) -> Script:
        """The job that leaves the windows with start < window_end <= end as Parquet below the URL `output`.

        It reads whole hours of the lake. So nothing may lie there that the manifest does not name, as long as it runs: what killed
        writers left is removed now, and nothing is rewritten before `Lake.let_go(output)`, or an hour has passed.
        """
        self._lake.hold(output)
        self._lake.remove_orphans(start, end)
        outputs = [f"{output.rstrip('/')}/{part}" for part in range(BATCH_PARTS)]
        return batch_script(
            name, start, end, lake=self._lake_url, outputs=outputs, features=self.features
        )

    def run_window_batch(
        self, start: datetime, end: datetime, *, output: str, name: str = BATCH_JOB
    ) -> None:
        """Run `window_batch`; returns when the windows are complete.

        Raises:
            JobFailed: with the first line of the cause.
        """
        script, job_id = self.window_batch(start, end, output=output, name=name), uuid4().hex
        self.submit(script, job_id)
        deadline = time.monotonic() + BATCH_SECONDS
        try:
            while (state := self.job_state(job_id)) not in ENDED:
                if state is None or time.monotonic() > deadline:
                    raise JobFailed(
                        f"windows of {start} to {end}: job {job_id} is {state or 'forgotten'}"
                    )
                time.sleep(0.5)
            if state != "FINISHED":
                raise JobFailed(f"windows of {start} to {end}: {self.root_cause(job_id) or state}")
        finally:
            self._lake.let_go(output)

    def _run(self, options: Sequence[str], script: Script, *arguments: str, seconds: float) -> None:
        """Run a script through Flink's client."""
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            file.write(msgspec.json.encode(script))
            file.flush()
            python = ["-pyexec", sys.executable, "-pyclientexec", sys.executable]
            self._client(
                ["run", "-d", *python, *options, "-py", str(PROGRAM), file.name, *arguments],
                seconds=seconds,
            )

    def _client(self, arguments: Sequence[str], *, seconds: float) -> None:
        """Run Flink's command line client."""
        home, folder = self._home, self._home.parent
        own = {
            "FLINK_HOME": str(home),
            "FLINK_CONF_DIR": str(folder / "conf"),
            "FLINK_LOG_DIR": str(folder / "log"),
        }
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | own
        command = [str(home / "bin" / "flink"), *arguments]
        try:
            # In a session of its own: whoever stops this program lets a submission that has begun come to its end.
            done = subprocess.run(
                command,
                env=environ,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise JobFailed(f"Flink's client did not end within {seconds:.0f} s") from None
        if done.returncode:
            text = done.stdout + done.stderr
            causes = [
                line.strip()
                for line in text.splitlines()
                if "Caused by" in line or "Exception" in line
            ]
            raise JobFailed(causes[-1] if causes else text[-500:])

    def _get(self, path: str) -> Any:
        return self._call("GET", path).json()

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = httpx.request(method, f"{self._url}{path}", timeout=CALL_SECONDS, **options)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise Unavailable(f"Flink {method} {path}: {error}") from error
        return answer
