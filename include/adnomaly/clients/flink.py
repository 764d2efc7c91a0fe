"""Flink: submit SQL scripts through its client, follow and cancel jobs over its REST API."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

import httpx
import msgspec

from adnomaly.clients.flink_sql import Script
from adnomaly.errors import JobFailed, Unavailable
from adnomaly.features import FEATURES, Feature
from adnomaly.settings import ROOT

PROGRAM: Final = ROOT / "streaming" / "window_program.py"
WINDOW_JOB: Final = "adnomaly-windows"
RUNNING: Final = "RUNNING"
ENDED: Final = frozenset({"FAILED", "CANCELED", "FINISHED"})
CALL_SECONDS: Final = 10.0
SUBMIT_SECONDS: Final = 180.0
BATCH_SECONDS: Final = 1800.0
_CAUSE: Final = "Caused by: "


class Job(NamedTuple):
    """One job as the JobManager reports it. `started` is milliseconds since the epoch."""

    id: str
    name: str
    state: str
    started: int

    @property
    def alive(self) -> bool:
        """Whether it runs or may run again; a job being cancelled is alive."""
        return self.state not in ENDED


class Flink:
    """One session cluster. Methods raise `Unavailable` while the JobManager does not answer."""

    def __init__(
        self,
        url: str,
        *,
        flink_home: Path,
        checkpoints: Path,
        features: Sequence[Feature] = FEATURES,
    ) -> None:
        self._url, self._home = url, flink_home
        self.checkpoints, self.features = checkpoints, features

    def jobs(self, name: str = WINDOW_JOB) -> list[Job]:
        """The jobs of this name that the JobManager knows, newest first."""
        jobs = [
            Job(job["jid"], job["name"], job["state"], job["start-time"])
            for job in self._get("/jobs/overview")["jobs"]
            if job["name"] == name
        ]
        return sorted(jobs, key=lambda job: -job.started)

    def window_job_state(self, name: str = WINDOW_JOB) -> str | None:
        """State of the job that is alive, else of the newest; None when the JobManager knows none.

        RUNNING means that every task runs: a job without a TaskManager is RESTARTING or CREATED.
        """
        jobs = self.jobs(name)
        shown = next((job for job in jobs if job.alive), jobs[0] if jobs else None)
        if shown is None or shown.state != RUNNING:
            return shown.state if shown else None
        tasks = {vertex["status"] for vertex in self._get(f"/jobs/{shown.id}")["vertices"]}
        return RUNNING if tasks == {RUNNING} else "CREATED"

    def job_state(self, job_id: str) -> str | None:
        """State of one job; None when the JobManager does not know it, as after its restart."""
        return next(
            (job["state"] for job in self._get("/jobs/overview")["jobs"] if job["jid"] == job_id),
            None,
        )

    def submit(self, script: Script, job_id: str, *, checkpoint: Path | None = None) -> None:
        """Submit a job under a given id, optionally resumed from a checkpoint; returns when it is
        accepted.

        Raises:
            JobFailed: Flink's client refused; the message is its last error.
        """
        resume = ["-s", f"file://{checkpoint}"] if checkpoint else []
        self._run(resume, script, job_id, seconds=SUBMIT_SECONDS)

    def cancel(self, job_id: str, *, patience_s: float = 60.0) -> None:
        """Cancel a job and wait until it has ended; its last checkpoint stays.

        Raises:
            JobFailed: it has not ended within `patience_s`.
        """
        self._call("PATCH", f"/jobs/{job_id}", params={"mode": "cancel"})
        deadline = time.monotonic() + patience_s
        while self._get(f"/jobs/{job_id}")["state"] not in ENDED:
            if time.monotonic() > deadline:
                raise JobFailed(
                    f"job {job_id} has not ended {patience_s:.0f} s after its cancellation; restart the TaskManager"
                )
            time.sleep(0.3)

    def stop(self, job_id: str, *, patience_s: float = 120.0) -> Path:
        """End a stream with a savepoint, from which `submit` resumes exactly once; returns the
        savepoint.

        Raises:
            JobFailed: Flink could not take one; the job continues.
        """
        body = {"targetDirectory": f"file://{self._home.parent / 'savepoints'}", "drain": False}
        request = self._call("POST", f"/jobs/{job_id}/stop", json=body).json()["request-id"]
        deadline = time.monotonic() + patience_s
        while (answer := self._get(f"/jobs/{job_id}/savepoints/{request}"))["status"][
            "id"
        ] != "COMPLETED":
            if time.monotonic() > deadline:
                raise JobFailed(
                    f"job {job_id} has no savepoint after {patience_s:.0f} s: see its checkpoints in Flink's UI"
                )
            time.sleep(0.3)
        operation = answer["operation"]
        if "location" not in operation:
            raise JobFailed(
                f"job {job_id} could not be stopped with a savepoint: {operation['failure-cause']['stack-trace'].splitlines()[0]}"
            )
        return Path(operation["location"].removeprefix("file:"))

    def root_cause(self, job_id: str) -> str:
        """The innermost cause of the newest exception of a job; empty when it had none."""
        history = self._get(f"/jobs/{job_id}/exceptions").get("exceptionHistory", {})
        entries = history.get("entries", [])
        lines = str(entries[0]["stacktrace"]).splitlines() if entries else [""]
        causes = [line for line in lines if line.startswith(_CAUSE)]
        return [lines[0], *causes][-1].removeprefix(_CAUSE)

    def late_clicks(self, name: str = WINDOW_JOB) -> int | None:
        """Late clicks counted by the running job since it or its TaskManager started; None when no
        job runs.

        The topic `clickstream.late` has all of them, each with the number of windows it missed.
        """
        job = next((job for job in self.jobs(name) if job.state == RUNNING), None)
        if job is None:
            return None
        for vertex in self._get(f"/jobs/{job.id}")["vertices"]:
            metrics = f"/jobs/{job.id}/vertices/{vertex['id']}/subtasks/metrics"
            names = [metric["id"] for metric in self._get(metrics)]
            # Every record of the writer of late clicks is late.
            for metric in names:
                if metric.startswith("late") and metric.endswith("Writer.numRecordsIn"):
                    return int(self._get(f"{metrics}?get={metric}&agg=sum")[0]["sum"])
        return 0

    def newest_checkpoint(
        self, job_ids: Sequence[str], *, refused: Collection[str] = ()
    ) -> Path | None:
        """The newest complete checkpoint of these jobs, except refused ones."""
        complete = [
            file.parent
            for job_id in job_ids
            for file in (self.checkpoints / job_id).glob("chk-*/_metadata")
        ]
        usable = [folder for folder in complete if str(folder) not in refused]
        return max(usable, key=lambda folder: (folder / "_metadata").stat().st_mtime, default=None)

    def discard_checkpoints(self, job_ids: Sequence[str]) -> None:
        """Delete the checkpoints of these jobs."""
        for job_id in job_ids:
            shutil.rmtree(self.checkpoints / job_id, ignore_errors=True)

    def run_batch(self, script: Script) -> None:
        """Submit a batch job and wait until it has finished.

        Raises:
            JobFailed: with the innermost cause.
        """
        job_id = uuid4().hex
        self.submit(script, job_id)
        deadline = time.monotonic() + BATCH_SECONDS
        while (state := self.job_state(job_id)) not in ENDED:
            if state is None or time.monotonic() > deadline:
                raise JobFailed(f"{script.name}: job {job_id} is {state or 'unknown to Flink'}")
            time.sleep(0.5)
        if state != "FINISHED":
            raise JobFailed(f"{script.name}: {self.root_cause(job_id) or state}")

    def _run(self, options: Sequence[str], script: Script, *arguments: str, seconds: float) -> None:
        """Submit a script through Flink's client."""
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            file.write(msgspec.json.encode(script))
            file.flush()
            python = ["-pyexec", sys.executable, "-pyclientexec", sys.executable]
            self._client(
                ["run", "-d", *python, *options, "-py", str(PROGRAM), file.name, *arguments],
                seconds=seconds,
            )

    def _client(self, arguments: Sequence[str], *, seconds: float) -> None:
        """Run Flink's command line client.

        Raises:
            JobFailed: it failed, or did not end in time.
        """
        home, folder = self._home, self._home.parent
        variables = {
            "FLINK_HOME": str(home),
            "FLINK_CONF_DIR": str(folder / "conf"),
            "FLINK_LOG_DIR": str(folder / "log"),
        }
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [str(home / "bin" / "flink"), *arguments]
        try:
            # In its own session, so that a signal to this program does not interrupt a submission.
            done = subprocess.run(
                command,
                env=inherited | variables,
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
