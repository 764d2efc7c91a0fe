"""The shell around every always-on process."""

import os
import signal
import subprocess
import sys

import pytest

from adnomaly import process
from adnomaly.errors import JobFailed, Unavailable
from adnomaly.process import run_process, single_instance
from adnomaly.settings import SECRETS
from stack.docs.reference import Defaults


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch):
    monkeypatch.setattr(
        process, "load_settings", lambda: Defaults(**{name.lower(): "s" * 32 for name in SECRETS})
    )
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_asks_it_to_end():
    def run(settings, stop):
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(5)

    assert run_process(run) == 0


def test_a_known_problem_is_one_line_and_exit_code_1(caplog):
    def run(settings, stop):
        raise Unavailable("the broker does not answer")

    assert run_process(run) == 1
    assert caplog.messages == ["the broker does not answer"]


def test_an_error_during_shutdown_is_no_failure():
    def run(settings, stop):
        stop.set()
        raise ValueError("given up")

    assert run_process(run, ends_on=ValueError) == 0


def test_there_is_only_one(tmp_path):
    lock = tmp_path / "run" / "it.lock"
    first = single_instance(lock, "sends clicks")
    with (
        first,
        pytest.raises(JobFailed, match="another process sends clicks already"),
        single_instance(lock, "sends clicks"),
    ):
        pass
    with single_instance(lock, "sends clicks"):
        pass


HOLD = """
import sys, time
from pathlib import Path
from adnomaly.process import single_instance
with single_instance(Path(sys.argv[1]), "sends clicks"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_leaves_no_lock(tmp_path):
    lock = tmp_path / "it.lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(JobFailed, match="another process"),
            single_instance(lock, "sends clicks"),
        ):
            pass
        holder.kill()
    with single_instance(lock, "sends clicks"):
        pass
