"""Flink: the window SQL submitted as a stream or run in batch, and the few words of its REST API that we need."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import httpx

from adnomaly.errors import JobFailed, Unavailable
from adnomaly.settings import ROOT

if TYPE_CHECKING:
    from adnomaly.adapters.lake import Lake

PROGRAM: Final = ROOT / "streaming" / "window_statements.py"
WINDOW_JOB: Final = "adnomaly-windows"
ALIVE: Final = frozenset({"INITIALIZING", "CREATED", "RUNNING", "FAILING", "RESTARTING", "RECONCILING"})
CALL_SECONDS: Final = 10.0
BATCH_SECONDS: Final = 1800.0


class Job(NamedTuple):
    """One job as the JobManager has it. `started` is milliseconds since the epoch."""

    id: str
    name: str
    state: str
    started: int


class Flink:
    """One session cluster. Every method raises `Unavailable` while the JobManager does not answer."""

    def __init__(self, url: str, *, flink_home: Path, checkpoints: Path, lake: "Lake | None" = None, lake_url: str = "") -> None:
        self._url, self._home, self.checkpoints = url, flink_home, checkpoints
        self._lake, self._lake_url = lake, lake_url

    def jobs(self, name: str = WINDOW_JOB) -> list[Job]:
        """The jobs of this name that the JobManager remembers, newest first."""
        found = self._get("/jobs/overview")["jobs"]
        jobs = [Job(job["jid"], job["name"], job["state"], job["start-time"]) for job in found if job["name"] == name]
        return sorted(jobs, key=lambda job: -job.started)

    def window_job_state(self, name: str = WINDOW_JOB) -> str | None:
        """State of the job that is alive, else of the newest one; None when the JobManager knows none."""
        jobs = self.jobs(name)
        alive = [job.state for job in jobs if job.state in ALIVE]
        return alive[0] if alive else jobs[0].state if jobs else None

    def submit_stream(self, arguments: Sequence[str], *, checkpoint: Path | None) -> str:
        """Submit the windows as a stream, going on from a checkpoint where there is one; returns the job's id.

        Raises:
            JobFailed: Flink's client refused; the message ends with its own words.
        """
        resume = ["-s", f"file://{checkpoint}"] if checkpoint else []
        text = self._client(["run", "-d", *resume, "-py", str(PROGRAM), "stream", *arguments], seconds=120)
        found = re.search(r"JobID ([0-9a-f]{32})", text)
        if not found:
            raise JobFailed(f"Flink's client named no job: {text[-500:]}")
        return found[1]

    def cancel(self, job_id: str) -> None:
        """Cancel a job; its last checkpoint stays."""
        self._call("PATCH", f"/jobs/{job_id}", params={"mode": "cancel"})

    def root_cause(self, job_id: str) -> str:
        """First line of what a job failed of; empty when it did not."""
        entries = self._get(f"/jobs/{job_id}/exceptions").get("exceptionHistory", {}).get("entries", [])
        return entries[0]["stacktrace"].splitlines()[0] if entries else ""

    def newest_checkpoint(self, job_ids: Sequence[str]) -> Path | None:
        """The newest complete checkpoint among those that these jobs left behind."""
        found = [file.parent for job_id in job_ids for file in (self.checkpoints / job_id).glob("chk-*/_metadata")]
        return max(found, key=lambda folder: (folder / "_metadata").stat().st_mtime, default=None)

    def run_window_batch(self, start: datetime, end: datetime, *, output: str, name: str = "adnomaly-window-batch") -> None:
        """Leave the windows with start < window_end <= end as Parquet below the URL `output`; returns when they are complete.

        Reads the hours of the lake that the manifest names. Objects that no manifest row names are removed first: their
        writer was killed, and another one has written their clicks again.

        Raises:
            JobFailed: with the first line of the cause.
        """
        self._lake.remove_orphans(start, end)
        span = ["--from", start.isoformat(), "--to", end.isoformat()]
        before = {job.id for job in self.jobs(name)}
        try:
            self._client(
                ["run", "-py", str(PROGRAM), "batch", "--name", name, "--input", self._lake_url, "--output", output, *span],
                seconds=BATCH_SECONDS,
            )
        except JobFailed as error:
            failed = [job for job in self.jobs(name) if job.id not in before]
            cause = self.root_cause(failed[0].id) if failed else ""
            raise JobFailed(f"windows of {start} to {end}: {cause or error}") from error

    def wait_until_up(self, seconds: float) -> None:
        """Wait for the JobManager.

        Raises:
            Unavailable: it does not answer in time.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                self._get("/overview")
                return
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def _client(self, arguments: Sequence[str], *, seconds: float) -> str:
        """Run Flink's command line client; returns what it printed."""
        conf = self._home.parent / "conf"
        own = {"FLINK_HOME": str(self._home), "FLINK_CONF_DIR": str(conf), "FLINK_LOG_DIR": str(self._home.parent / "log")}
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | own
        python = ["-pyexec", sys.executable, "-pyclientexec", sys.executable]
        command = [str(self._home / "bin" / "flink"), arguments[0], *python, *arguments[1:]]
        try:
            done = subprocess.run(
                command, env=environ, capture_output=True, text=True, timeout=seconds, check=False, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            raise JobFailed(f"Flink's client did not end within {seconds:.0f} s") from None
        text = done.stdout + done.stderr
        if done.returncode:
            causes = [line.strip() for line in text.splitlines() if "Caused by" in line or "Exception" in line]
            raise JobFailed(causes[-1] if causes else text[-500:])
        return text

    def _get(self, path: str) -> dict[str, Any]:
        return self._call("GET", path).json()

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = httpx.request(method, f"{self._url}{path}", timeout=CALL_SECONDS, **options)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise Unavailable(f"Flink {method} {path}: {error}") from error
        return answer
