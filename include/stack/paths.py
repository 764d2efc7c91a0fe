"""Where everything of one stack lives, below its ADNOMALY_HOME."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from adnomaly.settings import ROOT, Settings

LONGEST_SOCKET = 100
"""Unix socket paths end at 107 bytes; some servers append a few of their own."""


@dataclass(frozen=True)
class Paths:
    """Folders and files of one stack; `jars` and the virtual environment are shared by all stacks of a checkout."""

    home: Path

    @classmethod
    def of(cls, settings: Settings) -> "Paths":
        return cls(settings.adnomaly_home)

    @property
    def jars(self) -> Path:
        return ROOT / ".adnomaly" / "jars"

    @property
    def venv(self) -> Path:
        return ROOT / ".venv"

    @property
    def run(self) -> Path:
        return self.home / "run"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def supervisor_socket(self) -> Path:
        return self.short("supervisor.sock")

    @property
    def supervisor_conf(self) -> Path:
        return self.run / "supervisord.conf"

    @property
    def wanted_streams(self) -> Path:
        """A file for each stream that was started and not stopped since: those `up` brings back, after a crash too."""
        return self.run / "wanted"

    @property
    def flink(self) -> Path:
        return self.home / "flink"

    @property
    def offline_features(self) -> Path:
        return self.home / "offline" / "features"

    @property
    def airflow(self) -> Path:
        return self.home / "airflow"

    @property
    def postgres_data(self) -> Path:
        """Below the home where the account of PostgreSQL can reach it, else in a folder of its own outside."""
        if os.geteuid() != 0 or _reachable_by_all(self.home.parent):
            return self.home / "postgres"
        return Path("/var/lib/adnomaly") / self._digest / "postgres"

    def log(self, program: str) -> Path:
        return self.logs / f"{program}.log"

    def short(self, name: str, *, below: int = 0) -> Path:
        """A path for a unix socket, or for a folder with sockets up to `below` characters further down.

        In `run/` when it fits there, else in `temporary`.
        """
        path = self.run / name
        return path if len(str(path)) + below <= LONGEST_SOCKET else self.temporary / name

    @property
    def temporary(self) -> Path:
        """A folder of this home alone with a short name; Ray's HAProxy appends 70 characters and can take 97."""
        return Path("/tmp") / f"adnomaly-{self._digest[:8]}"  # noqa: S108

    @property
    def ray(self) -> Path:
        """Ray's sessions: sockets, logs, spilled objects."""
        return self.short("ray", below=64)

    @property
    def haproxy(self) -> Path:
        """What Ray's HAProxy keeps for each node."""
        return self.short("h", below=80)

    @property
    def _digest(self) -> str:
        return hashlib.sha256(str(self.home).encode()).hexdigest()[:12]


def _reachable_by_all(folder: Path) -> bool:
    return all(path.stat().st_mode & stat.S_IXOTH for path in (folder, *folder.parents))
