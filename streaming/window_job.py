"""Keeps one Flink job running that turns valid clicks into windows: submits it when none runs, from the newest checkpoint.

A restarted JobManager has forgotten its jobs; the checkpoints are still there, and no window is emitted twice. When the SQL
has changed since, the old checkpoint cannot be used: the job starts anew ten minutes before it, and emits again only whole
windows (readers keep one of each). Ending this program cancels the job; its last checkpoint stays for the next start.

    python streaming/window_job.py
"""

import argparse
import fcntl
import hashlib
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from adnomaly.adapters.flink import ALIVE, WINDOW_JOB, Flink
from adnomaly.adapters.kafka import topic_id
from adnomaly.errors import AdnomalyError, JobFailed, Unavailable
from adnomaly.settings import Settings, load_settings
from adnomaly.topics import FEATURES, LATE, VALID
from adnomaly.windows import window_sql
from adnomaly.wiring import connect

CHECK_SECONDS = 2.0
RETRY_SECONDS = 5.0
OVERLAP = timedelta(minutes=10)
"""More than a window and its lateness: what a start without the old state computes again."""

log = logging.getLogger("window_job")


class Memory(msgspec.Struct):
    """What was submitted, kept in a file: the jobs whose checkpoints fit, the text they ran, and the topic they read."""

    sql: str = ""
    topic_id: str = ""
    jobs: list[str] = []


class Keeper:
    """One job of a name, however often it is asked for."""

    def __init__(self, flink: Flink, settings: Settings, args: argparse.Namespace, file: Path) -> None:
        self._flink, self._bootstrap, self._args, self._file = flink, settings.kafka_bootstrap, args, file
        self._sql = hashlib.sha256(window_sql("clicks").encode()).hexdigest()

    def run(self, stop: threading.Event) -> None:
        """Submit, watch, submit again, until asked to stop; then cancel the job."""
        said = ""
        while not stop.is_set():
            try:
                state = self._ensure()
                if state != said:
                    log.info("job %s is %s", self._args.name, state)
                    said = state
                stop.wait(CHECK_SECONDS)
            except (Unavailable, JobFailed) as error:
                log.warning("%s; again in %.0f s", error, RETRY_SECONDS)
                said = ""
                stop.wait(RETRY_SECONDS)
        self.cancel()

    def cancel(self) -> None:
        for job in self._flink.jobs(self._args.name):
            if job.state in ALIVE:
                self._flink.cancel(job.id)
                log.info("cancelled job %s; its checkpoint stays", job.id)

    def _ensure(self) -> str:
        """State of the job that is alive; submits one when there is none."""
        alive = [job for job in self._flink.jobs(self._args.name) if job.state in ALIVE]
        if alive:
            return alive[0].state
        memory, topic = self._read(), topic_id(self._bootstrap, self._args.source)
        checkpoint = self._flink.newest_checkpoint(memory.jobs)
        since: list[str] = []
        if memory.topic_id != topic or checkpoint is None:
            checkpoint = None
            log.info("no checkpoint of this topic: reading it from its start")
        elif memory.sql != self._sql:
            before = datetime.fromtimestamp((checkpoint / "_metadata").stat().st_mtime, UTC) - OVERLAP
            since, checkpoint = ["--since", before.replace(second=0, microsecond=0).isoformat()], None
            log.warning("the window SQL has changed: starting anew from %s, without the old state", since[1])
        else:
            log.info("going on from %s", checkpoint)
        job = self._flink.submit_stream([*self._arguments(), *since], checkpoint=checkpoint)
        jobs = [*memory.jobs, job] if checkpoint else [job]
        self._write(Memory(self._sql, topic, jobs[-20:]))
        return "SUBMITTED"

    def _arguments(self) -> Sequence[str]:
        a = self._args
        return ["--name", a.name, "--bootstrap", self._bootstrap, "--source", a.source, "--sink", a.sink, "--late", a.late]

    def _read(self) -> Memory:
        return msgspec.json.decode(self._file.read_bytes(), type=Memory) if self._file.exists() else Memory()

    def _write(self, memory: Memory) -> None:
        part = self._file.with_suffix(".part")
        part.write_bytes(msgspec.json.encode(memory))
        part.replace(self._file)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Keeps the window job running.")
    parser.add_argument("--name", default=WINDOW_JOB)
    parser.add_argument("--source", default=VALID.name)
    parser.add_argument("--sink", default=FEATURES.name)
    parser.add_argument("--late", default=LATE.name)
    return parser.parse_args()


def main() -> int:
    args, settings, stop = _arguments(), load_settings(), threading.Event()
    logging.basicConfig(level=settings.log_level, stream=sys.stdout, format="%(asctime)s %(name)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    folder = settings.adnomaly_home / "flink"
    try:
        with (folder / f"{args.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            Keeper(connect(settings).flink, settings, args, folder / f"{args.name}.json").run(stop)
    except BlockingIOError:
        log.error("another process keeps the job %s already", args.name)
        return 1
    except AdnomalyError as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
