"""SIGKILL of every server and of their child processes.

Each recovers by itself within 60 s, the JobManager within 120 s.
"""

import os
import signal
import time
from datetime import UTC, datetime

import httpx
import psutil
import pytest

from stack import supervisord
from stack.ready import CHECKS, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.kills]

PATIENCE = {"jobmanager": 120}
SERVERS = list(CHECKS)
HEARTBEATS = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}
BELOW = [
    ("ray", "gcs_server"),
    ("ray", "raylet/raylet"),
    ("postgres", "postgres: checkpointer"),
    ("mlflow", "uvicorn"),
]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def works_again(settings, name: str, old_pid: int, killed_at: datetime) -> None:
    began, patience = time.monotonic(), PATIENCE.get(name, 60)

    def left() -> float:
        return patience - (time.monotonic() - began)

    while supervisord.states(settings)[name]["pid"] in (0, old_pid):
        assert left() > 0, f"{name} was not started again"
        time.sleep(0.2)
    time.sleep(3)  # what is left of the killed one may answer for a moment
    wait_for(settings, name, patience_s=left())
    while name in HEARTBEATS and heartbeat(settings, name) < killed_at:
        assert left() > 0, f"{name} shows no sign of life"
        time.sleep(0.5)


def heartbeat(settings, name: str) -> datetime:
    """The newest one of a process of Airflow that serves nothing, as the api-server has it."""
    health = httpx.get(f"{settings.airflow_url}/api/v2/monitor/health").json()
    return datetime.fromisoformat(health[HEARTBEATS[name]][f"latest_{HEARTBEATS[name]}_heartbeat"])


@pytest.mark.parametrize("name", SERVERS)
def test_a_killed_server_comes_back(settings, name):
    pid = supervisord.states(settings)[name]["pid"]
    killed_at = datetime.now(UTC)
    kill(pid)
    works_again(settings, name, pid, killed_at)


@pytest.mark.parametrize(("name", "part"), BELOW)
def test_a_killed_process_below_a_server_comes_back(settings, name, part):
    family = psutil.Process(supervisord.states(settings)[name]["pid"]).children(recursive=True)
    kill(next(child.pid for child in family if part in " ".join(child.cmdline())))
    time.sleep(3)
    wait_for(settings, name, patience_s=60)
