"""PostgreSQL: the databases of clicks and alerts, of Airflow, of Feast's registry and of MLflow."""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from adnomaly.home import Home
from adnomaly.ports import DEFAULT_PORTS
from adnomaly.settings import Settings
from adnomaly.wiring import connect
from stack.servers.base import CHECK_TIMEOUT_S, Port, Preparation, Server, Variables

PORT: Final = Port("postgres", DEFAULT_PORTS["postgres"], "PostgreSQL")
ACCOUNT: Final = "postgres"
"""The account that PostgreSQL's package creates; PostgreSQL refuses to run as root."""

OTHERS: Final = ("airflow", "feast", "mlflow")
"""Databases beside that of the clicks, `DB_NAME`."""


def binary(name: str) -> str:
    """A server program of the newest installed PostgreSQL.

    Raises:
        FileNotFoundError: PostgreSQL is not installed.
    """
    installed = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3])
    )
    program = str(installed[-1]) if installed else shutil.which(name)
    if not program:
        raise FileNotFoundError(
            f"PostgreSQL's {name} is missing: install the package postgresql, "
            "or run `make setup` as root"
        )
    return program


def _command(settings: Settings) -> list[str]:
    data = str(Home.of(settings).postgres_data)
    listen = ["-p", str(PORT.of(settings)), "-h", "127.0.0.1", "-c", "unix_socket_directories="]
    return [binary("postgres"), "-D", data, *listen, "-c", "max_connections=200"]


def _prepare(settings: Settings) -> None:
    """Create the data folder and, once, the cluster."""
    home, data = Home.of(settings), Home.of(settings).postgres_data
    (home.run / "postgres-data").write_text(f"{data}\n")
    account = pwd.getpwnam(ACCOUNT) if os.geteuid() == 0 else None
    if account and data.is_relative_to(home.path):
        # Let the account pass through the home, which is closed to others.
        home.path.chmod(0o711)
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    if account:
        os.chown(data, account.pw_uid, account.pw_gid)
    if not (data / "PG_VERSION").exists():
        _create_cluster(settings, data, account)


def _create_cluster(settings: Settings, data: Path, account: pwd.struct_passwd | None) -> None:
    uid, gid = (account.pw_uid, account.pw_gid) if account else (None, None)
    with tempfile.NamedTemporaryFile("w") as password:
        password.write(settings.db_password.get_secret_value())
        password.flush()
        if account:
            os.chown(password.name, account.pw_uid, account.pw_gid)
        login = ["-A", "scram-sha-256", "-U", settings.db_user, f"--pwfile={password.name}"]
        encoding = ["-E", "UTF8", "--locale=C"]
        command = [binary("initdb"), "-D", str(data), *login, *encoding]
        subprocess.run(command, check=True, cwd="/", user=uid, group=gid)


def _ready(settings: Settings) -> str | None:
    try:
        psycopg.connect(
            settings.postgres_url("postgres"), connect_timeout=int(CHECK_TIMEOUT_S)
        ).close()
    except psycopg.Error as error:
        return str(error).splitlines()[0]
    return None


def _client_env(settings: Settings) -> Variables:
    """For psql."""
    return {
        "PGHOST": settings.db_host,
        "PGPORT": str(settings.db_port),
        "PGUSER": settings.db_user,
        "PGPASSWORD": settings.db_password.get_secret_value(),
        "PGDATABASE": settings.db_name,
    }


def prepare_databases(settings: Settings) -> None:
    """Create missing databases, and our tables."""
    with psycopg.connect(settings.postgres_url("postgres"), autocommit=True) as connection:
        existing = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        for name in (settings.db_name, *OTHERS):
            if name not in existing:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    connect(settings).postgres.migrate()


SERVERS = (
    Server(
        name="postgres",
        command=_command,
        ready=_ready,
        ports=(PORT,),
        prepare=_prepare,
        account=ACCOUNT,
        store=True,
        stop_signal="INT",  # fast shutdown: does not wait for clients
        client_env=_client_env,
    ),
)

PREPARATIONS = (Preparation("databases", ("postgres",), prepare_databases),)
