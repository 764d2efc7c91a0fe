"""The ports of one stack, and who holds one that is taken."""

import os
import socket
from pathlib import Path

from adnomaly.settings import Settings

BASE = {
    "kafka": 29092,
    "kafka-controller": 29093,
    "postgres": 5433,
    "redis": 6390,
    "s3": 9000,
    "s3-console": 9001,
    "s3-master": 9333,
    "s3-volume": 9340,
    "s3-filer": 8889,
    "jobmanager": 8081,
    "jobmanager-rpc": 6123,
    "jobmanager-blob": 6124,
    "taskmanager-data": 6121,
    "taskmanager-rpc": 6122,
    "flink-metrics": 9250,
    "ray": 8265,
    "ray-gcs": 6380,
    "ray-metrics": 6388,
    "ray-node": 6381,
    "ray-objects": 6382,
    "ray-agent": 6383,
    "ray-agent-grpc": 6384,
    "ray-runtime-env": 6385,
    "ray-autoscaler-metrics": 6386,
    "ray-dashboard-metrics": 6387,
    "serving-fallback": 8510,
    "serving-fallback-grpc": 8511,
    "serving-metrics": 9201,
    "serving-stats": 8404,
    "serving": 8080,
    "mlflow": 5000,
    "api-server": 8088,
}
"""Every fixed port; a second stack adds PORT_OFFSET to each."""


def port(settings: Settings, name: str) -> int:
    return BASE[name] + settings.port_offset


def is_open(number: int) -> bool:
    """Whether something accepts connections on this loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", number)) == 0


def holder(number: int) -> str | None:
    """`pid 123 (redis-server *:6390)` of the process that listens on a port, or None when it is free.

    A process of another account can be seen to listen, but named only by root.
    """
    inodes = _listening().get(number)
    if not inodes:
        return None
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and inodes & _sockets(process):
            command = (
                (process / "cmdline")
                .read_bytes()
                .replace(b"\0", b" ")
                .decode(errors="replace")
                .strip()
            )
            return f"pid {process.name} ({command[:80]})"
    return "a process of another account"


def _listening() -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                found.setdefault(int(fields[1].rpartition(":")[2], 16), set()).add(fields[9])
    return found


def _sockets(process: Path) -> set[str]:
    """Inodes of the sockets a process has open; none of a process that is gone or not ours to look into."""
    found = set()
    try:
        descriptors = list((process / "fd").iterdir())
    except OSError:
        return found
    for descriptor in descriptors:
        try:
            target = os.readlink(descriptor)
        except OSError:
            continue  # closed meanwhile
        if target.startswith("socket:["):
            found.add(target[len("socket:[") : -1])
    return found
