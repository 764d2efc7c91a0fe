"""Every path below ADNOMALY_HOME, declared once. A test finds paths that are spelled elsewhere."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from adnomaly.errors import NewerVersion
from adnomaly.files import write_atomic
from adnomaly.settings import ROOT, Settings

MAX_SOCKET = 100
"""A unix socket path has at most 107 bytes; some servers append a suffix."""


FORMAT: Final = 1
"""Of the files below ADNOMALY_HOME. Rises with a change that an older version cannot read."""


@dataclass(frozen=True)
class Home:
    """Folders and files of one stack. All stacks of a checkout share `jars` and `venv`."""

    path: Path

    @classmethod
    def of(cls, settings: Settings) -> "Home":
        return cls(settings.adnomaly_home)

    @property
    def jars(self) -> Path:
        return ROOT / ".adnomaly" / "jars"

    @property
    def venv(self) -> Path:
        return ROOT / ".venv"

    def claim(self) -> None:
        """Write the format of the files below this home, for other versions.

        Raises:
            NewerVersion: a newer version has used this home.
        """
        file = self.path / "format"
        found = int(file.read_text()) if file.exists() else 0
        if found > FORMAT:
            raise NewerVersion(
                f"{self.path} was written by a newer version of Adnomaly (format {found}, this one"
                f" knows {FORMAT}): update this checkout, or choose another ADNOMALY_HOME"
            )
        if found < FORMAT:
            write_atomic(file, str(FORMAT).encode())

    # Processes

    @property
    def run(self) -> Path:
        """State of processes: sockets, pid files, locks."""
        return self.path / "run"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def log(self, program: str) -> Path:
        return self.logs / f"{program}.log"

    @property
    def supervisor_socket(self) -> Path:
        return self.short("supervisor.sock")

    @property
    def supervisor_conf(self) -> Path:
        return self.run / "supervisord.conf"

    @property
    def prepared(self) -> Path:
        """A file per preparation of the servers that need not run again, with its inputs."""
        return self.run / "prepared"

    @property
    def wanted_streams(self) -> Path:
        """A file per stream that was started and not stopped since; `make up` restarts these."""
        return self.run / "wanted"

    def ready(self, stream: str) -> Path:
        """The pid of a stream's process that is ready; written by the process."""
        return self.run / "ready" / stream

    @property
    def starts(self) -> Path:
        """Times of the starts of each stream, a file per stream."""
        return self.run / "starts"

    @property
    def given_up(self) -> Path:
        """Streams given up after repeated crashes, a file with the reason per stream."""
        return self.run / "given-up"

    def lock(self, name: str) -> Path:
        """Lock file of a process that must run only once per home."""
        return self.run / f"{name}.lock"

    # Secrets

    @property
    def secrets(self) -> Path:
        return self.path / "secrets.env"

    @property
    def airflow_keys(self) -> Path:
        return self.path / "airflow.keys"

    # Data of the pipeline

    @property
    def bundles(self) -> Path:
        """Sealed bundles by version, and `CURRENT`."""
        return self.path / "bundles"

    @property
    def work(self) -> Path:
        """Folders of training runs."""
        return self.path / "work"

    @property
    def drift(self) -> Path:
        """Reference distributions by bundle version."""
        return self.path / "drift"

    @property
    def offline_features(self) -> Path:
        """Local mirror of the offline features, which Feast and training read."""
        return self.path / "offline" / "features"

    @property
    def plan(self) -> Path:
        """The plan of the generator."""
        return self.path / "truth" / "plan.json"

    @property
    def ground_truth(self) -> Path:
        """Planted attacks."""
        return self.path / "truth" / "attacks.jsonl"

    @property
    def progress(self) -> Path:
        """Time spans that the generator has sent."""
        return self.run / "generator.json"

    @property
    def history(self) -> Path:
        """The end of the generated history in the lake."""
        return self.run / "history.json"

    # Servers

    @property
    def flink(self) -> Path:
        return self.path / "flink"

    @property
    def airflow(self) -> Path:
        return self.path / "airflow"

    @property
    def test_airflow(self) -> Path:
        """AIRFLOW_HOME of `airflow dags test`."""
        return self.path / "airflow-test"

    @property
    def serving_metrics(self) -> Path:
        """Prometheus files of the scoring API's replicas."""
        return self.path / "serving" / "metrics"

    def data(self, server: str) -> Path:
        """Data folder of a server."""
        return self.path / server

    @property
    def postgres_data(self) -> Path:
        """Below the home if PostgreSQL's account can reach it, else below /var/lib."""
        if os.geteuid() != 0 or _reachable_by_all(self.path.parent):
            return self.path / "postgres"
        return Path("/var/lib/adnomaly") / self._digest / "postgres"

    @property
    def ray(self) -> Path:
        """Ray's sessions: sockets, logs, spilled objects."""
        return self.short("ray", below=64)

    @property
    def haproxy(self) -> Path:
        """Ray's HAProxy: configuration and sockets."""
        return self.short("h", below=80)

    # Short paths

    def short(self, name: str, *, below: int = 0) -> Path:
        """Path of a unix socket: in `run/` if short enough, else in `temporary`.

        Args:
            below: characters that a server appends, when the path is a folder of sockets.
        """
        path = self.run / name
        return path if len(str(path)) + below <= MAX_SOCKET else self.temporary / name

    @property
    def temporary(self) -> Path:
        """A folder with a short path.

        Ray's HAProxy appends 70 characters, and its paths may have at most 97.
        """
        return Path("/tmp") / f"adnomaly-{self._digest[:8]}"  # noqa: S108

    @property
    def _digest(self) -> str:
        return hashlib.sha256(str(self.path).encode()).hexdigest()[:12]


def _reachable_by_all(folder: Path) -> bool:
    return all(path.stat().st_mode & stat.S_IXOTH for path in (folder, *folder.parents))
