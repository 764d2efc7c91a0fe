"""The supervisor adapter, the pipeline steps on it, and the deferrable operator, against a real supervisord with small programs."""

import asyncio
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from adnomaly.adapters.supervisor import Supervisor
from adnomaly.errors import StreamsUnhealthy, Unavailable
from adnomaly.pipelines import run_streams, watch_streams

CONFIG = """
[supervisord]
nodaemon=true
logfile={home}/log
pidfile={home}/pid
childlogdir={home}
[unix_http_server]
file={home}/run/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
PROGRAM = """
[program:{name}]
command={command}
autostart=false
autorestart=false
startsecs=0
startretries=0
"""
NOON = datetime(2026, 11, 12, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """An ADNOMALY_HOME whose supervisord knows every stream (as a sleep) and one program that ends at once."""
    home = tmp_path_factory.mktemp("h")
    (home / "run").mkdir()
    programs = "".join(PROGRAM.format(name=name, command="sleep 600") for name in run_streams.STREAMS)
    (home / "conf").write_text(CONFIG.format(home=home) + programs + PROGRAM.format(name="falls", command="false"))
    supervisord = subprocess.Popen([sys.executable, "-m", "supervisor.supervisord", "-c", str(home / "conf")], stdout=subprocess.DEVNULL)
    _until(lambda: (home / "run" / "supervisor.sock").exists())
    yield home
    supervisord.terminate()
    supervisord.wait(30)


@pytest.fixture
def supervisor(home):
    supervisor = Supervisor(home)
    yield supervisor
    supervisor.stop(run_streams.STREAMS)


def _until(true, seconds=10):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.05)


def test_starting_and_stopping_are_safe_to_repeat(supervisor):
    names = ["validate_clicks", "store_clicks"]
    assert supervisor.start(names) == names
    assert supervisor.start(names) == []
    _until(lambda: all(supervisor.programs()[n].running for n in names))
    assert supervisor.stop(names) == names
    assert supervisor.stop(names) == []
    assert {supervisor.programs()[n].state for n in names} == {"STOPPED"}


def test_uptime_counts_from_the_last_start(supervisor):
    supervisor.start(["validate_clicks"])
    _until(lambda: supervisor.programs()["validate_clicks"].uptime_s >= 2)
    supervisor.stop(["validate_clicks"])
    assert supervisor.programs()["validate_clicks"].uptime_s == 0


def test_an_unknown_program_is_named(supervisor):
    with pytest.raises(Unavailable, match="knows no program 'nothing'"):
        supervisor.start(["nothing"])


def test_no_supervisord_says_how_to_start_it(tmp_path):
    with pytest.raises(Unavailable, match="make up"):
        Supervisor(tmp_path).programs()


def test_a_recorded_socket_is_used(home, tmp_path):
    """A socket's path has about 100 characters, so a deep home records a shorter one."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "socket").write_text(f"{home}/run/supervisor.sock\n")
    assert "falls" in Supervisor(tmp_path).programs()


def test_streams_stop_writers_first(supervisor):
    supervisor.start(run_streams.STREAMS)
    assert run_streams.stop_streams(supervisor) == list(reversed(run_streams.STREAMS))
    assert set(run_streams.status(supervisor).values()) == {"STOPPED for 0 s"}


def test_what_fell_is_started_again_and_what_was_stopped_is_not(supervisor):
    supervisor.start(["falls", "validate_clicks"])
    _until(lambda: supervisor.programs()["falls"].state == "EXITED")
    assert watch_streams.restart_fallen(supervisor) == ["falls"]


class Flink:
    def __init__(self, state):
        self.state = state

    def window_job_state(self):
        return self.state


class Sinks:
    def __init__(self, **lags):
        self._lags = lags

    def lags(self):
        return self._lags


class Windows:
    def __init__(self, newest):
        self._newest = newest

    def span(self):
        return (self._newest, self._newest)


def _check(supervisor, *, job="RUNNING", lag=10, age_s=60):
    windows = Windows(NOON - timedelta(seconds=age_s))
    return watch_streams.check(supervisor, Flink(job), Sinks(store_clicks=lag), windows, max_lag=100, max_age_s=1, now=NOON)


def test_stopped_streams_are_left_alone(supervisor):
    assert _check(supervisor, job=None, lag=10**9, age_s=10**6) == {}


def test_each_trouble_is_one_line(supervisor):
    supervisor.start(run_streams.STREAMS)
    _until(lambda: min(supervisor.programs()[n].uptime_s for n in run_streams.STREAMS) >= 1)
    with pytest.raises(StreamsUnhealthy) as error:
        _check(supervisor, job="FAILED", lag=101, age_s=2)
    lines = str(error.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["flink", "lag", "windows"]


def test_well_streams_are_reported(supervisor):
    supervisor.start(run_streams.STREAMS)
    found = _check(supervisor, age_s=1)
    assert set(found) == {*run_streams.STREAMS, "flink", "lag", "windows"}


def test_operator_waits_in_the_trigger_until_programs_run(home, monkeypatch):
    from adnomaly_airflow.triggers import ProgramsRun

    monkeypatch.setattr("adnomaly_airflow.triggers.connect", lambda: type("B", (), {"supervisor": Supervisor(home)}))
    supervisor = Supervisor(home)
    soon = (datetime.now(UTC) + timedelta(seconds=10)).isoformat()
    supervisor.start(["store_clicks"])
    came_true = asyncio.run(anext(ProgramsRun(["store_clicks"], 1, soon).run()))
    supervisor.stop(["store_clicks"])
    now = datetime.now(UTC).isoformat()
    too_late = asyncio.run(anext(ProgramsRun(["store_clicks"], 1, now).run()))
    assert came_true.payload == {"missing": ""}
    assert too_late.payload["missing"].startswith("store_clicks is STOPPED")


def test_trigger_survives_a_restart_of_the_triggerer():
    from adnomaly_airflow.triggers import ProgramsRun
    from airflow.sdk.module_loading import import_string

    path, arguments = ProgramsRun(["store_clicks"], 2, "2026-11-12T12:00:00+00:00").serialize()
    again = import_string(path)(**arguments)
    assert again.serialize() == (path, arguments)
