"""The Flink job that turns valid clicks into windows: submit, resume from a checkpoint, replace.

A checkpoint fits only the SQL and the topic it was taken with; options may change. After a change
of the SQL (a feature was added) the job restarts where the windows of the topic end: none is
missing, none is repeated. A recreated topic of clicks is read from its start; its windows begin
with the first complete one.
"""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Final
from uuid import uuid4

import msgspec
from confluent_kafka import KafkaException

from adnomaly.clients.flink import RUNNING, Flink
from adnomaly.clients.flink_sql import Script, stream_script
from adnomaly.clients.flink_tables import Topics
from adnomaly.clients.kafka.admin import topic_id
from adnomaly.clients.kafka.reader import first_values, last_values
from adnomaly.errors import AdnomalyError, JobFailed, Unavailable
from adnomaly.files import write_atomic
from adnomaly.process import announce_ready
from adnomaly.retry import Stopped, retry, until
from adnomaly.windows import SIZE, SLIDE, parse_window

CHECK_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 5.0
REPORT_SECONDS: Final = 30.0
FIRST_OFFSETS: Final = 1000
"""Offsets searched for the oldest click of a partition; the first may be out of order."""
LAST_OFFSETS: Final = 1000
"""Offsets in which to look for the newest window of a partition, behind transaction markers."""
MAX_JOBS: Final = 10
"""Jobs whose checkpoints are kept."""
NO_CLICKS: Final = "waiting for the first click"
MAX_TRIES: Final = 3
"""Failed jobs per checkpoint before an older one is used."""

log = logging.getLogger("window_job")


class ClickTime(msgspec.Struct):
    """The event time of a valid click."""

    timestamp: str


class JobState(msgspec.Struct):
    """The job that was submitted last, and earlier ones whose checkpoints fit. Stored in a file.

    Attributes:
        fingerprint: of the script.
        topic_id: of the topic of clicks.
        since: start of the first window of the job.
        jobs: ids, oldest first.
        resumed_from: checkpoint the last job was started from.
        failures: jobs that failed after resuming from it.
        refused: checkpoints that are not used again.
        digest: of the script with its options.
    """

    fingerprint: str = ""
    topic_id: str = ""
    since: datetime | None = None
    jobs: list[str] = []
    resumed_from: str = ""
    failures: int = 0
    refused: list[str] = []
    digest: str = ""


def next_start(
    state: JobState,
    topic: str,
    checkpoint: Path | None,
    end_of_windows: Callable[[], datetime | None],
    first_complete_window: Callable[[], datetime],
) -> tuple[JobState, Path | None]:
    """Where the next job starts: a fitting checkpoint, else the end of the windows, else the first
    complete window.

    Args:
        topic: current id of the topic of clicks.
        checkpoint: the newest one taken with the current SQL, if any.
        end_of_windows: start of the first window not emitted yet; None when none was emitted.
        first_complete_window: start of the first window all of whose clicks are in the topic.
    """
    if state.topic_id in ("", topic):
        if checkpoint:
            log.info("resuming from %s", checkpoint)
            return state, checkpoint
        since = end_of_windows() or first_complete_window()
    else:
        log.warning("the topic of clicks was recreated; reading it from its start")
        since = first_complete_window()
    log.info("emitting windows from %s on", f"{since:%Y-%m-%d %H:%MZ}")
    return JobState(since=since), None


class NoClicks(AdnomalyError):
    """The topic of clicks is empty."""


class JobReconciler:
    """Keeps exactly one job of a name running, with the current SQL."""

    def __init__(self, flink: Flink, topics: Topics, name: str, file: Path) -> None:
        self._flink, self._topics, self._name, self._file = flink, topics, name, file
        self._reported, self._last_state, self._late_clicks = 0.0, "", 0
        self._ready = False

    def run(self, stop: Event) -> None:
        """Reconcile until asked to stop; then cancel the job."""
        try:
            while not stop.is_set():
                retry(
                    self._check,
                    wait=until(stop),
                    errors=(Unavailable, JobFailed, KafkaException),
                    first_delay_s=RETRY_SECONDS,
                    max_delay_s=RETRY_SECONDS,
                    on_failure=self._forget_state,
                )
                stop.wait(CHECK_SECONDS)
        except Stopped:
            log.info("stopped while a server was unavailable")
        self.cancel()

    def cancel(self) -> None:
        """Cancel every job of the name; the last checkpoint stays."""
        for job in self._flink.jobs(self._name):
            if job.alive:
                self._flink.cancel(job.id)
                log.info("cancelled job %s; its checkpoint stays", job.id)

    def reconcile(self) -> str:
        """State of the job; submits one when none runs, or when the running one has other SQL or
        options. With other options it resumes from the checkpoint.

        Raises:
            JobFailed: Flink refused the job.
            KafkaException: the broker does not answer.
            Unavailable: the JobManager or the broker does not answer.
        """
        state = self._read()
        alive = [job for job in self._flink.jobs(self._name) if job.alive]
        script = self._script(state.since)
        fits, same = (
            script.fits(state.fingerprint),
            script.digest in (state.digest, state.fingerprint),
        )
        if len(alive) == 1 and same and alive[0].id in state.jobs:
            return alive[0].state
        if alive:
            log.warning("replacing %d job(s) %s of other SQL or options", len(alive), self._name)
            self.cancel()
        try:
            self._submit(self._count_failure(state), fits)
        except NoClicks:
            return f"{NO_CLICKS} of {self._topics.clicks}"
        return "SUBMITTED"

    def _check(self) -> None:
        state = self.reconcile()
        if state != self._last_state:
            log.info("job %s is %s", self._name, state)
            self._last_state = state
        if state == RUNNING and not self._ready:
            self._ready = self._flink.window_job_state(self._name) == RUNNING
        if self._ready or state.startswith(NO_CLICKS):
            announce_ready()
        self._report()

    def _forget_state(self, error: Exception) -> None:
        """After a failure the state is logged again."""
        self._last_state = ""

    def _submit(self, state: JobState, fits: bool) -> None:
        topic = topic_id(self._topics.bootstrap, self._topics.clicks)
        checkpoint = (
            self._flink.newest_checkpoint(state.jobs, refused=state.refused) if fits else None
        )
        state, checkpoint = next_start(
            state, topic, checkpoint, self._end_of_windows, self._first_complete_window
        )
        script, job_id = self._script(state.since), uuid4().hex
        state.fingerprint, state.digest, state.topic_id = script.fingerprint, script.digest, topic
        state.resumed_from = str(checkpoint or "")
        self._flink.discard_checkpoints(state.jobs[:-MAX_JOBS])
        state.jobs = [*state.jobs[-MAX_JOBS:], job_id]
        # Written before the job is submitted: a running job is always in this file.
        write_atomic(self._file, msgspec.json.encode(state))
        self._flink.submit(script, job_id, checkpoint=checkpoint)

    def _count_failure(self, state: JobState) -> JobState:
        """Refuse a checkpoint after MAX_TRIES jobs failed before taking one of their own."""
        last = state.jobs[-1:]
        failed = any(
            job.id in last and job.state == "FAILED" for job in self._flink.jobs(self._name)
        )
        if not failed or not state.resumed_from or self._flink.newest_checkpoint(last):
            state.failures = 0
            return state
        log.warning("job %s failed: %s", last[0], self._flink.root_cause(last[0]))
        state.failures += 1
        if state.failures >= MAX_TRIES:
            log.error("refusing the checkpoint %s", state.resumed_from)
            state.refused.append(state.resumed_from)
            state.failures = 0
        return state

    def _end_of_windows(self) -> datetime | None:
        """Start of the first window not emitted yet; None when none was emitted."""
        ends = []
        for value in last_values(self._topics.bootstrap, self._topics.windows, LAST_OFFSETS):
            try:
                ends.append(parse_window(value, now=datetime.now(UTC)).window_end)
            except ValueError as error:
                log.warning("invalid window in %s: %s", self._topics.windows, error)
        return max(ends) + SLIDE - SIZE if ends else None

    def _first_complete_window(self) -> datetime:
        """The first full minute after the oldest click.

        Raises:
            NoClicks: there is none yet.
        """
        values = first_values(self._topics.bootstrap, self._topics.clicks, FIRST_OFFSETS)
        times = (
            datetime.fromisoformat(msgspec.json.decode(value, type=ClickTime).timestamp)
            for value in values
        )
        first = min(times, default=None)
        if first is None:
            raise NoClicks
        return first + (datetime.min.replace(tzinfo=first.tzinfo) - first) % SLIDE

    def _script(self, since: datetime | None) -> Script:
        return stream_script(self._name, self._topics, since=since, features=self._flink.features)

    def _report(self) -> None:
        """Log the number of late clicks when it has grown."""
        if time.monotonic() - self._reported < REPORT_SECONDS:
            return
        self._reported = time.monotonic()
        count = self._flink.late_clicks(self._name) or 0
        if count and count != self._late_clicks:
            log.info("%d late clicks since the job started, all in %s", count, self._topics.late)
        self._late_clicks = count

    def _read(self) -> JobState:
        if not self._file.exists():
            return JobState()
        return msgspec.json.decode(self._file.read_bytes(), type=JobState)
