"""SIGKILL of every server and of processes below them: each works again without help, within 60 s (JobManager 120 s)."""

import os
import signal
import time
from pathlib import Path

import pytest

from stack import supervisord
from stack.ready import CHECKS, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.kills]

PATIENCE = {"jobmanager": 120}
SERVERS = list(CHECKS)
BELOW = [("ray", "gcs_server"), ("ray", "raylet/raylet"), ("postgres", "postgres: checkpointer"), ("mlflow", "uvicorn")]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def works_again(settings, name: str, old_pid: int) -> None:
    began, patience = time.monotonic(), PATIENCE.get(name, 60)
    while supervisord.states(settings)[name]["pid"] in (0, old_pid):
        assert time.monotonic() - began < patience, f"{name} was not started again"
        time.sleep(0.2)
    wait_for(settings, name, patience_s=patience - (time.monotonic() - began))


@pytest.mark.parametrize("name", SERVERS)
def test_a_killed_server_comes_back(settings, name):
    pid = supervisord.states(settings)[name]["pid"]
    kill(pid)
    works_again(settings, name, pid)


@pytest.mark.parametrize(("name", "part"), BELOW)
def test_a_killed_process_below_a_server_comes_back(settings, name, part):
    found = [pid for pid in processes_of(settings.adnomaly_home, name) if part in command(pid)]
    if not found:
        pytest.fail(f"{name} has no process named {part!r}")
    kill(found[0])
    time.sleep(3)
    wait_for(settings, name, patience_s=60)


def processes_of(home: Path, name: str) -> list[int]:
    from stack.launch import _marked

    return _marked(home, name)


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
