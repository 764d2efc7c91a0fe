"""Supervisor client, its pipelines and its trigger, against a real supervisord."""

import asyncio
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from adnomaly.clients.supervisord import Supervisor
from adnomaly.errors import StreamsUnhealthy, Unavailable
from adnomaly.home import Home
from adnomaly.monitoring.stages import Limits, ProcessState, Snapshot
from adnomaly.pipelines import run_streams, watch_streams

CONFIG = """
[supervisord]
nodaemon=true
logfile={home}/log
pidfile={home}/pid
childlogdir={home}
[unix_http_server]
file={socket}
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
    """An ADNOMALY_HOME whose supervisord has every stream (as a sleep) and a crashing program."""
    home = tmp_path_factory.mktemp("h")
    Home(home).supervisor_socket.parent.mkdir(parents=True)
    programs = "".join(
        PROGRAM.format(name=name, command="sleep 600") for name in run_streams.START_ORDER
    )
    (home / "conf").write_text(
        CONFIG.format(home=home, socket=Home(home).supervisor_socket)
        + programs
        + PROGRAM.format(name="falls", command="false")
    )
    supervisord = subprocess.Popen(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(home / "conf")],
        stdout=subprocess.DEVNULL,
    )
    _until(Home(home).supervisor_socket.exists)
    yield home
    supervisord.terminate()
    supervisord.wait(30)


@pytest.fixture
def supervisor(home):
    supervisor = Supervisor(Home(home))
    yield supervisor
    supervisor.stop(run_streams.START_ORDER)


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
        Supervisor(Home(tmp_path)).programs()


def test_a_deep_home_has_its_socket_elsewhere(home, tmp_path):
    """The path of a socket has at most about 100 characters."""
    deep = Home(tmp_path / ("deep" * 25))
    socket = deep.supervisor_socket
    socket.parent.mkdir(parents=True)
    try:
        socket.symlink_to(Home(home).supervisor_socket)
        assert "falls" in Supervisor(deep).programs()
    finally:
        shutil.rmtree(deep.temporary)


def test_streams_stop_writers_first(supervisor):
    supervisor.start(run_streams.START_ORDER)
    assert run_streams.stop_streams(supervisor) == list(reversed(run_streams.START_ORDER))
    assert set(run_streams.status(supervisor).values()) == {"STOPPED for 0 s"}


def _restart(supervisor, max_restarts=5):
    return watch_streams.restart_fallen(
        supervisor, max_restarts=max_restarts, now=datetime.now(UTC)
    )


def test_a_crashed_program_is_restarted_and_a_stopped_one_is_not(supervisor):
    supervisor.start(["falls", "validate_clicks"])
    _until(lambda: supervisor.programs()["falls"].state == "EXITED")
    assert _restart(supervisor) == {"restarted": ["falls"], "given_up": []}


def test_a_program_that_crashes_repeatedly_is_given_up_with_its_last_error(supervisor, home):
    (home / "logs").mkdir(exist_ok=True)
    (home / "logs" / "validate_clicks.log").write_text("begin\nthe topic is gone\n")
    supervisor.start(["validate_clicks"])
    for _ in range(7):
        supervisor.starts.record("validate_clicks")
    assert _restart(supervisor)["given_up"] == ["validate_clicks"]
    assert supervisor.programs()["validate_clicks"].state == "STOPPED"
    assert "the topic is gone" in supervisor.starts.given_up()["validate_clicks"]
    again = _restart(supervisor)
    assert (again["given_up"], "validate_clicks" in again["restarted"]) == ([], False)
    supervisor.start(["validate_clicks"])
    assert supervisor.starts.given_up() == {}
    assert _restart(supervisor)["given_up"] == []


class Collector:
    def __init__(self, **changed):
        programs = {name: ProcessState("RUNNING", 4000) for name in run_streams.START_ORDER}
        self._snapshot = Snapshot(
            **{"at": NOON, "programs": programs, "flink": "RUNNING", "serving": "m1"} | changed
        )

    def collect(self):
        return self._snapshot


class Recorder:
    """Records saved stages and reported incidents."""

    def __init__(self, red=()):
        self._red, self.rows, self.reported, self.still = set(red), [], [], None

    def before(self, now):
        return {}

    def red(self, now):
        return self._red

    def save(self, stages, at):
        self.rows = stages

    def update_totals(self, now):
        self.closed = now

    def report(self, stage, summary, now):
        self.reported.append(summary)
        return f"operations:{stage}"

    def resolve_operations(self, still, now):
        self.still = still


def test_a_healthy_path_resolves_earlier_incidents():
    recorder = Recorder()
    assert set(watch_streams.check(Collector(), recorder, recorder, Limits()).values()) == {"green"}
    assert (recorder.reported, recorder.still, recorder.closed) == ([], [], NOON)


def test_a_stage_that_is_red_twice_is_an_incident():
    first, second = Recorder(), Recorder(red=["table"])
    for recorder in (first, second):
        with pytest.raises(StreamsUnhealthy, match=r"^PostgreSQL: lag of 60,000 clicks"):
            watch_streams.check(Collector(lags={"table": 60_000}), recorder, recorder, Limits())
    assert (first.reported, first.still) == ([], None)
    assert len(second.reported) == 1
    assert second.still == ["operations:table"]


def test_a_program_that_was_given_up_is_an_incident_at_once():
    recorder = Recorder()
    with pytest.raises(StreamsUnhealthy, match="no topic"):
        watch_streams.check(
            Collector(given_up={"validate_clicks": "no topic"}), recorder, recorder, Limits()
        )
    assert recorder.reported == ["Validation: validate_clicks was given up: no topic"]


def test_operator_waits_in_the_trigger_until_programs_run(home, monkeypatch):
    from adnomaly_airflow.triggers import ProgramsRun

    monkeypatch.setattr(
        "adnomaly_airflow.triggers.connect",
        lambda: type("B", (), {"supervisor": Supervisor(Home(home))}),
    )
    supervisor = Supervisor(Home(home))
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
