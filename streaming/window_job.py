"""Keeps one Flink job running that turns valid clicks into windows: submits it when none runs, from the newest checkpoint.

A restarted JobManager has forgotten its jobs; the checkpoints are still there, and no window is emitted twice. A checkpoint
fits only the SQL and the topic it was taken with. When the SQL has changed (a feature was added), the job starts anew where
the windows of the topic end: none is missing, none comes twice. A new topic of clicks is read from its beginning; its windows
begin with the first one that it has whole. Ending this program cancels the job; its last checkpoint stays for the next start.

    python -m streaming.window_job
"""

import argparse
import logging
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import msgspec
from confluent_kafka import KafkaException

from adnomaly.clients.flink import WINDOW_JOB, Flink
from adnomaly.clients.flink_sql import Script, Topics, stream_script
from adnomaly.clients.kafka.admin import topic_id
from adnomaly.clients.kafka.reader import first_values, last_values
from adnomaly.errors import AdnomalyError, JobFailed, Unavailable
from adnomaly.home import Home
from adnomaly.process import run_process, single_instance
from adnomaly.settings import Settings
from adnomaly.topics import FEATURES_TOPIC, LATE_TOPIC, VALID_TOPIC
from adnomaly.windows import SIZE, SLIDE, decode_window
from adnomaly.wiring import connect

CHECK_SECONDS = 2.0
RETRY_SECONDS = 5.0
REPORT_SECONDS = 30.0
FIRST_OFFSETS = 1000
"""Where the oldest click of a partition is found, though a few came before it."""
REMEMBERED = 10
"""Jobs whose checkpoints are kept."""
TRIES = 3
"""Submissions from one checkpoint that fail before an older one is tried."""
LAST_OFFSETS = 1000
"""Where the newest window of a partition is found, behind the markers of transactions."""

log = logging.getLogger("window_job")


class Dated(msgspec.Struct):
    """A valid click, as far as its moment goes."""

    timestamp: str


class JobState(msgspec.Struct):
    """What was submitted, kept in a file: the job that runs, and the earlier ones whose checkpoints it could go on from."""

    fingerprint: str = ""
    topic_id: str = ""
    since: datetime | None = None
    jobs: list[str] = []
    resumed_from: str = ""
    failures: int = 0
    refused: list[str] = []


def next_start(
    memory: JobState,
    topic: str,
    checkpoint: Path | None,
    end_of_windows: Callable[[], datetime | None],
    first_whole_window: Callable[[], datetime],
) -> tuple[JobState, Path | None]:
    """From where the next job starts: a checkpoint that fits, else where the windows end, else the first window of the topic.

    Args:
        topic: id of the topic of clicks now.
        checkpoint: the newest one that was taken with our SQL, if any.
        end_of_windows: start of the first window that was not emitted yet; None when none was emitted at all.
        first_whole_window: start of the first window all of whose clicks are in the topic.
    """
    if memory.topic_id in ("", topic):
        if checkpoint:
            log.info("going on from %s", checkpoint)
            return memory, checkpoint
        since = end_of_windows() or first_whole_window()
    else:
        log.warning("the topic of clicks was made anew: reading it from its start")
        since = first_whole_window()
    log.info("windows from %s on", f"{since:%Y-%m-%d %H:%MZ}")
    return JobState(since=since), None


class NoClicks(AdnomalyError):
    """The topic of clicks is empty yet."""


class JobReconciler:
    """One job of a name, however often it is asked for."""

    def __init__(self, flink: Flink, topics: Topics, name: str, file: Path) -> None:
        self._flink, self._topics, self._name, self._file = flink, topics, name, file
        self._reported = 0.0
        self._late = 0

    def run(self, stop: threading.Event) -> None:
        """Submit, watch, submit again, until asked to stop; then cancel the job."""
        said = ""
        while not stop.is_set():
            try:
                state = self.reconcile()
                if state != said:
                    log.info("job %s is %s", self._name, state)
                    said = state
                self._report()
                stop.wait(CHECK_SECONDS)
            except (Unavailable, JobFailed, KafkaException) as error:
                log.warning("%s; again in %.0f s", error, RETRY_SECONDS)
                said = ""
                stop.wait(RETRY_SECONDS)
        self.cancel()

    def cancel(self) -> None:
        """End every job of the name."""
        for job in self._flink.jobs(self._name):
            if job.alive:
                self._flink.cancel(job.id)
                log.info("cancelled job %s; its checkpoint stays", job.id)

    def reconcile(self) -> str:
        """State of the job that is alive; submits one when there is none, or when it runs another SQL than ours."""
        memory = self._read()
        alive = [job for job in self._flink.jobs(self._name) if job.alive]
        fits = self._script(memory.since).fingerprint == memory.fingerprint
        if len(alive) == 1 and fits and alive[0].id in memory.jobs:
            return alive[0].state
        if alive:
            log.warning(
                "%d job(s) of another text or start run under the name %s", len(alive), self._name
            )
            self.cancel()
        try:
            self._submit(self._judge_last(memory), fits)
        except NoClicks:
            return f"waiting for the first click of {self._topics.clicks}"
        return "SUBMITTED"

    def _submit(self, memory: JobState, fits: bool) -> None:
        topic = topic_id(self._topics.bootstrap, self._topics.clicks)
        checkpoint = (
            self._flink.newest_checkpoint(memory.jobs, refused=memory.refused) if fits else None
        )
        memory, checkpoint = next_start(
            memory, topic, checkpoint, self._end_of_windows, self._first_whole_window
        )
        script, job_id = self._script(memory.since), uuid4().hex
        # Noted before it is submitted: a job is never found running that this file does not know.
        memory.fingerprint, memory.topic_id, memory.resumed_from = (
            script.fingerprint,
            topic,
            str(checkpoint or ""),
        )
        self._flink.discard_checkpoints(memory.jobs[:-REMEMBERED])
        memory.jobs = [*memory.jobs[-REMEMBERED:], job_id]
        self._write(memory)
        self._flink.submit(script, job_id, checkpoint=checkpoint)

    def _judge_last(self, memory: JobState) -> JobState:
        """Give a checkpoint up from which no job has come to one of its own."""
        last = memory.jobs[-1:]
        failed = any(
            job.id in last and job.state == "FAILED" for job in self._flink.jobs(self._name)
        )
        if not failed or not memory.resumed_from or self._flink.newest_checkpoint(last):
            memory.failures = 0
            return memory
        log.warning("job %s failed: %s", last[0], self._flink.root_cause(last[0]))
        memory.failures += 1
        if memory.failures >= TRIES:
            log.error("giving up the checkpoint %s", memory.resumed_from)
            memory.refused.append(memory.resumed_from)
            memory.failures = 0
        return memory

    def _end_of_windows(self) -> datetime | None:
        """Start of the first window that was not emitted yet; None when none was emitted at all."""
        ends = [
            decode_window(value).window_end
            for value in last_values(self._topics.bootstrap, self._topics.windows, LAST_OFFSETS)
        ]
        return max(ends) + SLIDE - SIZE if ends else None

    def _first_whole_window(self) -> datetime:
        """The first full minute of the clicks, of which the first ones of each partition may be out of order.

        Raises:
            NoClicks: there is none yet.
        """
        values = first_values(self._topics.bootstrap, self._topics.clicks, FIRST_OFFSETS)
        first = min(
            (
                datetime.fromisoformat(msgspec.json.decode(value, type=Dated).timestamp)
                for value in values
            ),
            default=None,
        )
        if first is None:
            raise NoClicks
        return first + (datetime.min.replace(tzinfo=first.tzinfo) - first) % SLIDE

    def _script(self, since: datetime | None) -> Script:
        return stream_script(self._name, self._topics, since=since, features=self._flink.features)

    def _report(self) -> None:
        """Say how many clicks were late, whenever there are more."""
        if time.monotonic() - self._reported < REPORT_SECONDS:
            return
        self._reported = time.monotonic()
        late = self._flink.late_clicks(self._name)
        if late and late != self._late:
            log.info(
                "%d clicks were late since the job started; all of them are in %s",
                late,
                self._topics.late,
            )
        self._late = late or 0

    def _read(self) -> JobState:
        return (
            msgspec.json.decode(self._file.read_bytes(), type=JobState)
            if self._file.exists()
            else JobState()
        )

    def _write(self, memory: JobState) -> None:
        part = self._file.with_suffix(".part")
        part.write_bytes(msgspec.json.encode(memory))
        part.replace(self._file)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Keeps the window job running.")
    parser.add_argument("--name", default=WINDOW_JOB)
    parser.add_argument("--source", default=VALID_TOPIC.name)
    parser.add_argument("--sink", default=FEATURES_TOPIC.name)
    parser.add_argument("--late", default=LATE_TOPIC.name)
    return parser.parse_args()


def run(settings: Settings, args: argparse.Namespace, stop: threading.Event) -> None:
    """Keep the job, alone among the processes of this home.

    Raises:
        JobFailed: another process keeps it already.
    """
    folder = Home.of(settings).flink
    topics = Topics(settings.kafka_bootstrap, args.source, args.sink, args.late)
    with single_instance(folder / f"{args.name}.lock", f"keeps the job {args.name}"):
        JobReconciler(connect(settings).flink, topics, args.name, folder / f"{args.name}.json").run(
            stop
        )


def main() -> int:
    args = _arguments()
    return run_process(lambda settings, stop: run(settings, args, stop))


if __name__ == "__main__":
    sys.exit(main())
