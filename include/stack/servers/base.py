"""What a server's file is made of: `Server`, `Port`, `Preparation`, readiness checks."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import httpx

from adnomaly.clients import feast
from adnomaly.home import Home
from adnomaly.settings import ROOT, Settings

Check = Callable[[Settings], str | None]
"""None when the server works, else the problem."""

Variables = dict[str, str]
"""Environment variables."""

CHECK_TIMEOUT_S = 3.0


class Port(NamedTuple):
    """A fixed port of a server.

    Attributes:
        number: before PORT_OFFSET.
        title: shown to people; empty for a port that people do not connect to.
        reserved: must be free before the server starts. False when a child process takes it, or
            when servers share a range.
    """

    name: str
    number: int
    title: str = ""
    reserved: bool = True

    def of(self, settings: Settings) -> int:
        """The number in one stack."""
        return self.number + settings.port_offset


def _no_variables(settings: Settings) -> Variables:
    return {}


def _nothing(settings: Settings) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Program:
    """A process under supervisord.

    Attributes:
        command: program and arguments.
        env: variables in addition to `common_env`.
        stop_signal: TERM goes to the whole process group, any other signal to the process alone.
        stop_s: seconds until the process group is killed.
    """

    name: str
    command: Callable[[Settings], list[str]]
    env: Callable[[Settings], Variables] = _no_variables
    stop_signal: str = "TERM"
    stop_s: int = 60


@dataclass(frozen=True, kw_only=True)
class Server(Program):
    """A server of the stack.

    Attributes:
        ready: asks the server itself.
        prepare: runs before every start: folders, configuration, first-time set-up.
        needs: servers and preparations. `up` waits for the preparations, then starts the server;
            the server's process waits for the servers at every start, also after a crash.
        ready_through: other servers that `ready` asks.
        account: the account it runs under when the stack runs as root.
        store: holds data that others write, so it stops last.
        client_env: variables that `make env` prints for clients of this server.
        client_programs: folder of its client programs, for PATH.
    """

    ready: Check
    ports: tuple[Port, ...] = ()
    prepare: Callable[[Settings], None] = _nothing
    needs: tuple[str, ...] = ()
    ready_through: tuple[str, ...] = ()
    account: str | None = None
    store: bool = False
    stop_s: int = 30
    client_env: Callable[[Settings], Variables] = _no_variables
    client_programs: Callable[[Settings], Path] | None = None


class Preparation(NamedTuple):
    """An idempotent step on running servers, such as creating the topics.

    Attributes:
        needs: servers and preparations that must be ready before.
        inputs: what the result depends on. While it is unchanged the step is skipped: for steps
            that take seconds and whose result nobody else removes.
    """

    name: str
    needs: tuple[str, ...]
    run: Callable[[Settings], None]
    inputs: Callable[[Settings], object] | None = None


def common_env(settings: Settings) -> Variables:
    """Variables of every process of the stack."""
    home = Home.of(settings)
    bin_folder = str(home.venv / "bin")
    path = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin").split(":")
    return {
        "ADNOMALY_HOME": str(home.path),
        "PORT_OFFSET": str(settings.port_offset),
        "PATH": ":".join([bin_folder, *(part for part in path if part != bin_folder)]),
        "PYTHONPATH": f"{ROOT}:{ROOT / 'include'}",
        "PYTHONUNBUFFERED": "1",
        **feast_variables(settings),
    }


def feast_variables(settings: Settings) -> Variables:
    """The variables of feature_store.yaml."""
    mirror = Home.of(settings).offline_features
    return feast.variables(settings.postgres_url("feast"), settings.redis_url, mirror)


def write_private(file: Path, text: str) -> None:
    """Write a configuration file that only its owner can read; it may hold secrets."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(text)


def is_open(number: int) -> bool:
    """Whether something accepts connections on this loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", number)) == 0


def listens(port: Port) -> Check:
    """Ready when the port accepts connections."""

    def check(settings: Settings) -> str | None:
        number = port.of(settings)
        return None if is_open(number) else f"nothing listens on port {number}"

    return check


def answers(port: Port, path: str, *, contains: str = "", token: bool = False) -> Check:
    """Ready when GET `path` succeeds and its body has the text `contains`.

    Args:
        token: send Ray's token.
    """

    def check(settings: Settings) -> str | None:
        secret = settings.ray_auth_token.get_secret_value()
        headers = {"Authorization": f"Bearer {secret}"} if token else {}
        try:
            answer = _http().get(f"http://127.0.0.1:{port.of(settings)}{path}", headers=headers)
        except httpx.HTTPError as error:
            return f"{path}: {error}"
        if not answer.is_success:
            return f"{path}: HTTP {answer.status_code} {answer.reason_phrase}"
        return None if contains in answer.text else f"{path} does not contain {contains!r} yet"

    return check


@lru_cache(maxsize=1)
def _http() -> httpx.Client:
    """A client for loopback: no proxy, and no connection kept from before a server's restart."""
    return httpx.Client(
        timeout=CHECK_TIMEOUT_S,
        trust_env=False,
        follow_redirects=True,
        limits=httpx.Limits(max_keepalive_connections=0),
    )
