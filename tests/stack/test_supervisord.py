"""A real supervisord of a temporary home: start, reload, stop and end, without running a server."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from adnomaly.errors import Unavailable
from adnomaly.files import write_atomic
from adnomaly.home import Home
from adnomaly.settings import SECRETS
from stack import lifecycle, supervisord
from stack.docs.reference import Defaults
from stack.programs import PROGRAMS
from stack.progress import Progress


@pytest.fixture
def settings(tmp_path):
    settings = Defaults(**{name.lower(): "s" * 32 for name in SECRETS}, adnomaly_home=tmp_path)
    yield settings
    if supervisord.is_running(settings):
        supervisord.shut_down(settings)


def _pid(settings):
    return int((Home.of(settings).run / "supervisord.pid").read_text())


def test_supervisord_starts_without_programs_and_ends(settings):
    assert not supervisord.is_running(settings)
    supervisord.ensure_running(settings)
    assert {info["statename"] for info in supervisord.states(settings).values()} == {"STOPPED"}
    assert set(supervisord.states(settings)) == set(PROGRAMS)
    supervisord.stop(settings, ["kafka", "generate_clicks"])
    supervisord.shut_down(settings)
    assert not supervisord.is_running(settings)


def test_a_changed_configuration_is_reloaded_and_programs_that_are_unchanged_run_on(
    settings, monkeypatch
):
    monkeypatch.setattr(supervisord, "_PROGRAM", supervisord._PROGRAM.replace(RUN, "sleep 600"))
    supervisord.ensure_running(settings)
    supervisord.start(settings, ["kafka", "redis"])
    supervisord.start(settings, ["kafka"])
    before = _running(settings, "kafka", "redis")
    changed = PROGRAMS | {"redis": replace(PROGRAMS["redis"], stop_s=5)}
    del changed["mlflow"]
    monkeypatch.setattr(supervisord, "PROGRAMS", changed)
    daemon = _pid(settings)
    supervisord.ensure_running(settings)
    assert _pid(settings) == daemon
    states = supervisord.states(settings)
    assert "mlflow" not in states
    assert states["kafka"]["pid"] == before["kafka"]
    assert states["redis"]["statename"] == "STOPPED"
    supervisord.stop(settings, ["kafka", "redis"])
    assert supervisord.states(settings)["kafka"]["statename"] == "STOPPED"
    with pytest.raises(ProcessLookupError):
        os.kill(before["kafka"], 0)


def test_of_two_downs_the_second_waits_for_the_first(settings, monkeypatch, capsys):
    monkeypatch.setattr(supervisord, "_PROGRAM", supervisord._PROGRAM.replace(RUN, "sleep 600"))
    supervisord.ensure_running(settings)
    supervisord.start(settings, ["kafka", "redis", "store_clicks"])
    before = _running(settings, "kafka", "redis", "store_clicks")
    with ThreadPoolExecutor() as pool:
        downs = [pool.submit(lifecycle.down, settings, Progress()) for _ in range(2)]
    assert [down.exception() for down in downs] == [None, None]
    assert capsys.readouterr().out.count("waiting for it") == 1
    assert not supervisord.is_running(settings)
    for pid in before.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_up_waits_until_each_stream_has_announced_itself_and_names_the_late_one(
    settings, monkeypatch
):
    monkeypatch.setattr(supervisord, "_PROGRAM", supervisord._PROGRAM.replace(RUN, "sleep 600"))
    monkeypatch.setattr(lifecycle, "MAX_STREAM_START_S", 1.0)
    supervisord.ensure_running(settings)
    names = ["store_clicks", "archive_clicks"]
    supervisord.start(settings, names)
    pids, home = _running(settings, *names), Home.of(settings)
    write_atomic(home.ready("store_clicks"), str(pids["store_clicks"]).encode())
    write_atomic(home.ready("archive_clicks"), b"1")  # of an earlier process
    with pytest.raises(
        Unavailable, match=r"not ready after 1 s: archive_clicks; see .*clicks\.log"
    ):
        lifecycle._await_streams(settings, Progress(), names)
    write_atomic(home.ready("archive_clicks"), str(pids["archive_clicks"]).encode())
    lifecycle._await_streams(settings, Progress(), names)


def test_a_program_that_another_stopped_is_no_error(settings, monkeypatch):
    supervisord.ensure_running(settings)
    stale = supervisord.states(settings)
    stale["kafka"]["statename"] = "RUNNING"
    answers = iter([stale])
    now = supervisord.states
    monkeypatch.setattr(supervisord, "states", lambda s: next(answers, None) or now(s))
    supervisord.stop(settings, ["kafka"])


RUN = "{python} -m stack run {name}"


def _running(settings, *names):
    """Process ids, once all of these run."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        states = supervisord.states(settings)
        if all(states[name]["statename"] == "RUNNING" for name in names):
            return {name: states[name]["pid"] for name in names}
        time.sleep(0.2)
    raise AssertionError(states)
