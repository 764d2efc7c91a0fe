"""The parts of the native stack that need no server."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from adnomaly.home import MAX_SOCKET, Home
from adnomaly.settings import ROOT, SECRETS
from stack import configs, launch
from stack import secrets as secrets_file
from stack.docs import reference
from stack.docs.reference import Defaults
from stack.ports import BASE, holder, is_open
from stack.programs import PROGRAMS


@pytest.fixture
def settings(tmp_path):
    return Defaults(**{name.lower(): "s" * 32 for name in SECRETS}, adnomaly_home=tmp_path / "home")


@pytest.mark.parametrize("page", reference.PAGES)
def test_what_is_derived_from_code_is_current(page):
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


def test_a_taken_port_is_named_with_who_holds_it():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        number = server.getsockname()[1]
        assert is_open(number)
        assert holder(number).startswith(f"pid {os.getpid()} (")
    assert holder(number) is None


def test_no_two_servers_of_two_stacks_share_a_port():
    own, other = set(BASE.values()), {number + 500 for number in BASE.values()}
    assert len(own) == len(BASE)
    assert not own & other


def test_servers_listen_on_loopback(settings):
    assert "listeners=PLAINTEXT://127.0.0.1:29092," in configs.kafka(settings)
    assert "bind 127.0.0.1\n" in configs.redis(settings)
    assert "rest.bind-address: 127.0.0.1" in configs.flink(settings)
    assert "-h 127.0.0.1" in " ".join(PROGRAMS["postgres"].command(settings))
    assert "-ip.bind=127.0.0.1" in PROGRAMS["s3"].command(settings)


def test_a_long_home_gets_a_short_socket(tmp_path, settings):
    paths = Home(tmp_path / ("x" * 90))
    assert paths.supervisor_socket != tmp_path / ("x" * 90) / "run" / "supervisor.sock"
    assert len(str(paths.supervisor_socket)) <= MAX_SOCKET


@pytest.mark.parametrize("home", ["/a", "/work/somewhere/main/.adnomaly-test", "/" + "x" * 90])
def test_sockets_far_below_a_folder_can_be_named_from_any_home(home):
    paths = Home(Path(home))
    session = paths.ray / "session_2026-11-23_18-30-54_045075_1631400" / "sockets" / "plasma_store"
    assert len(str(session)) <= 107
    assert len(str(paths.haproxy / ("f" * 56) / "metrics.sock")) <= 97


def test_what_a_killed_program_left_behind_is_cleared_and_nothing_else(tmp_path):
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
