"""The parts of the native stack that need no server."""

import os
import socket
import stat
import subprocess
import sys
import threading
from configparser import ConfigParser
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from adnomaly.home import MAX_SOCKET, Home
from adnomaly.settings import ROOT, SECRETS
from adnomaly.streams import START_ORDER
from stack import launch, lifecycle, servers, supervisord
from stack import secrets as secrets_file
from stack.docs import reference
from stack.docs.reference import Defaults
from stack.ports import BASE, holders
from stack.programs import PROGRAMS
from stack.progress import Progress
from stack.servers import PREPARATIONS, SERVERS, STORES, flink, kafka, redis
from stack.servers.base import Port, answers, is_open
from stack.shell import shell


@pytest.fixture
def settings(tmp_path):
    return Defaults(**{name.lower(): "s" * 32 for name in SECRETS}, adnomaly_home=tmp_path / "home")


@pytest.mark.parametrize("page", reference.PAGES)
def test_pages_derived_from_code_are_current(page):
    assert (ROOT / page).read_text() == reference.PAGES[page](), "run `make reference`"


def test_secrets_are_generated_once_and_only_for_their_owner(tmp_path):
    secrets_file.ensure(Home(tmp_path))
    first = secrets_file.read(tmp_path / "secrets.env")
    assert set(first) == set(SECRETS)
    assert len(set(first.values())) == len(SECRETS)
    assert min(map(len, first.values())) >= 32
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    (tmp_path / "secrets.env").write_text(f"DB_PASSWORD={first['DB_PASSWORD']}\n")
    secrets_file.ensure(Home(tmp_path))
    assert secrets_file.read(tmp_path / "secrets.env")["DB_PASSWORD"] == first["DB_PASSWORD"]
    assert set(secrets_file.read(tmp_path / "secrets.env")) == set(SECRETS)


def test_a_taken_port_is_named_with_its_holder():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        number = server.getsockname()[1]
        assert is_open(number)
        assert holders([number])[number].startswith(f"pid {os.getpid()} (")
    assert holders([number]) == {}


def test_no_two_servers_of_two_stacks_share_a_port():
    own, other = set(BASE.values()), {number + 500 for number in BASE.values()}
    assert len(own) == len(BASE)
    assert not own & other


def test_servers_listen_on_loopback(settings):
    assert "listeners=PLAINTEXT://127.0.0.1:29092," in kafka.properties(settings)
    assert "bind 127.0.0.1\n" in redis.configuration(settings)
    assert "rest.bind-address: 127.0.0.1" in flink.configuration(settings)
    assert "-h 127.0.0.1" in " ".join(PROGRAMS["postgres"].command(settings))
    assert "-ip.bind=127.0.0.1" in PROGRAMS["s3"].command(settings)


def test_a_long_home_gets_a_short_socket(tmp_path, settings):
    paths = Home(tmp_path / ("x" * 90))
    assert paths.supervisor_socket != tmp_path / ("x" * 90) / "run" / "supervisor.sock"
    assert len(str(paths.supervisor_socket)) <= MAX_SOCKET


@pytest.mark.parametrize("home", ["/a", "/work/somewhere/main/.adnomaly-test", "/" + "x" * 90])
def test_sockets_below_a_folder_fit_the_limit_in_any_home(home):
    paths = Home(Path(home))
    session = paths.ray / "session_2026-11-23_18-30-54_045075_1631400" / "sockets" / "plasma_store"
    assert len(str(session)) <= 107
    assert len(str(paths.haproxy / ("f" * 56) / "metrics.sock")) <= 97


def test_clear_ends_leftovers_of_a_killed_program_and_nothing_else(tmp_path):
    def sleeper(home, program):
        own = {"ADNOMALY_HOME": str(home), launch.MARK: program}
        return subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(60)"],
            env=os.environ | own,
            start_new_session=True,
        )

    left, other_program, other_home = (
        sleeper(tmp_path, "kafka"),
        sleeper(tmp_path, "redis"),
        sleeper(tmp_path / "b", "kafka"),
    )
    try:
        assert launch.clear(tmp_path, "kafka") == [left.pid]
        assert left.wait(5) != 0
        assert other_program.poll() is None
        assert other_home.poll() is None
    finally:
        for process in (left, other_program, other_home):
            process.kill()
            process.wait()


def test_servers_start_after_their_needs_and_stores_come_first():
    assert tuple(server.name for server in SERVERS[: len(STORES)]) == STORES
    names = [server.name for server in SERVERS]
    steps = {*names, *(step.name for step in PREPARATIONS)}
    assert len(steps) == len(SERVERS) + len(PREPARATIONS)
    for server in SERVERS:
        assert steps >= {*server.needs, *server.ready_through}
        assert all(
            names.index(need) < names.index(server.name) for need in server.needs if need in names
        )
    for step in PREPARATIONS:
        assert steps >= set(step.needs)


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["kafka"], ["kafka", "topics"]),
        (["postgres"], ["postgres", "databases"]),
        (["taskmanager"], ["jobmanager", "taskmanager"]),
        (["mlflow"], ["postgres", "s3", "mlflow", "databases"]),
        (
            ["scheduler"],
            ["postgres", "api-server", "scheduler", "databases", "airflow metadata"],
        ),
    ],
)
def test_up_with_names_starts_these_servers_and_their_needs(names, steps):
    assert lifecycle._with_needs(names) == steps


def test_up_refuses_an_unknown_server_and_names_the_known_ones(settings):
    with pytest.raises(lifecycle.UnknownServer, match=r"no server kafak; servers are kafka, "):
        lifecycle.up(settings, Progress(), ["kafak"])
    assert not settings.adnomaly_home.exists()


def test_every_module_of_the_package_adds_its_servers():
    folder = Path(servers.__file__).parent
    modules = {file.stem for file in folder.glob("*.py")} - {"__init__", "base"}
    assert {server.command.__module__.rpartition(".")[2] for server in SERVERS} == modules


def test_supervisord_has_each_program_once_with_its_stop_signal(settings):
    supervisord.write_config(settings)
    conf = ConfigParser(interpolation=None)
    conf.read(Home.of(settings).supervisor_conf)
    programs = {s.removeprefix("program:"): conf[s] for s in conf if s.startswith("program:")}
    assert list(programs) == [*(server.name for server in SERVERS), *START_ORDER]
    assert programs["postgres"]["stopsignal"] == "INT"
    assert programs["scheduler"]["stopasgroup"] == "false"
    assert programs["kafka"]["stopasgroup"] == "true"
    seconds = {name: int(section["stopwaitsecs"]) for name, section in programs.items()}
    assert (seconds["ray"], seconds["kafka"], seconds["score_windows"]) == (8, 30, 60)


def test_a_shell_gets_the_client_variables_of_every_server(settings):
    env = shell(settings)
    assert env["PGPORT"] == "5433"
    assert env["RAY_ADDRESS"] == settings.ray_dashboard_url
    assert env["AIRFLOW_HOME"] == str(Home.of(settings).test_airflow)
    assert env["PATH"].split(":")[-1] == str(Home.of(settings).flink / "home" / "bin")


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (200, '{"taskmanagers":1}', None),
        (200, '{"taskmanagers":0}', "/overview does not contain '\"taskmanagers\":1' yet"),
        (503, "", "/overview: HTTP 503 Service Unavailable"),
    ],
)
def test_a_readiness_check_reports_one_line(settings, status, body, problem):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    check = answers(Port("x", server.server_port), "/overview", contains='"taskmanagers":1')
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        assert check(settings) == problem
    finally:
        server.shutdown()
        server.server_close()
    assert "refused" in check(settings)
