"""Airflow: api-server, scheduler, dag-processor and triggerer, with metadata in PostgreSQL."""

import hashlib
import json
import os
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from adnomaly.home import Home
from adnomaly.ports import DEFAULT_PORTS
from adnomaly.settings import ROOT, Settings
from stack import secrets
from stack.servers.base import Check, Port, Preparation, Server, Variables, answers, common_env

API: Final = Port("api-server", DEFAULT_PORTS["api-server"], "Airflow UI")
HEALTH: Final = "/api/v2/monitor/health"


def live_env(settings: Settings) -> Variables:
    """Configuration of the running Airflow."""
    url = settings.postgres_url("airflow").replace("postgresql://", "postgresql+psycopg2://", 1)
    return _env(settings, folder=Home.of(settings).airflow, database=url)


def test_env(settings: Settings) -> Variables:
    """Configuration for `airflow dags test`: SQLite, out of reach of the live triggerer."""
    folder = Home.of(settings).test_airflow
    return _env(settings, folder=folder, database=f"sqlite:///{folder / 'airflow.db'}")


def _env(settings: Settings, *, folder: Path, database: str) -> Variables:
    """Airflow's configuration for an AIRFLOW_HOME and a SQLAlchemy URL."""
    keys = secrets.read(Home.of(settings).airflow_keys)
    api = API.of(settings)
    return {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__FERNET_KEY": keys.get("AIRFLOW_FERNET_KEY", ""),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{api}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,operator:op,viewer:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / "passwords.json"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(api),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__BASE_URL": f"http://localhost:{api}",
        "AIRFLOW__API__SECRET_KEY": keys.get("AIRFLOW_SECRET_KEY", ""),
        "AIRFLOW__API__INSTANCE_NAME": "Adnomaly",
        "AIRFLOW__API_AUTH__JWT_SECRET": keys.get("AIRFLOW_JWT_SECRET", ""),
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
        # Adopt the tasks of a killed scheduler within seconds instead of minutes.
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        "AIRFLOW_CONN_KAFKA_ALERTS": _alerts_connection(settings),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(folder / "logs"),
    }


def _alerts_connection(settings: Settings) -> str:
    """Connection of the watcher of the alerts topic.

    The watcher only wakes `handle_alert`, which reads by itself, so its offsets are not committed.
    """
    extra = {
        "bootstrap.servers": settings.kafka_bootstrap,
        "group.id": "airflow-alerts",
        "enable.auto.commit": "false",
        "auto.offset.reset": "latest",
    }
    return json.dumps({"conn_type": "kafka", "extra": extra})


def write_passwords(settings: Settings, folder: Path) -> None:
    """Write the users with their passwords, mode 0600, unless the file exists.

    Airflow would write a world-readable file.
    """
    file = folder / "passwords.json"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if file.exists():
        return
    secret = settings.airflow_admin_password.get_secret_value()
    users = {"admin": secret} | {name: _derive(secret, name) for name in ("operator", "viewer")}
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as out:
        json.dump(users, out)


def _derive(secret: str, user: str) -> str:
    return hashlib.sha256(f"{user}:{secret}".encode()).hexdigest()[:32]


def prepare_metadata(settings: Settings) -> None:
    """Migrate the metadata in PostgreSQL to the installed version."""
    write_passwords(settings, Home.of(settings).airflow)
    _migrate(settings, live_env(settings))


def prepare_test_home(settings: Settings) -> None:
    """Create the SQLite home of `airflow dags test`; instant when it exists."""
    folder = Home.of(settings).test_airflow
    write_passwords(settings, folder)
    if not (folder / "airflow.db").exists():
        _migrate(settings, test_env(settings))


def _migrate(settings: Settings, env: Variables) -> None:
    log = Home.of(settings).log("airflow-migrate")
    with log.open("w") as out:
        done = subprocess.run(
            ["airflow", "db", "migrate"],
            env=os.environ | common_env(settings) | env,
            cwd=ROOT,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"airflow db migrate failed; see {log}")


def _prepare(settings: Settings) -> None:
    write_passwords(settings, Home.of(settings).airflow)


def _component(name: str, ready: Check, *arguments: str, **fields: Any) -> Server:
    return Server(
        name=name,
        command=lambda settings: ["airflow", name, *arguments],
        ready=ready,
        env=live_env,
        prepare=_prepare,
        needs=("airflow metadata", "postgres"),
        stop_signal="INT",  # only on SIGINT does a component stop its children
        **fields,
    )


def _worker(name: str, *arguments: str) -> Server:
    """A component without an API: ready when the api-server reports its fresh heartbeat."""
    key = name.replace("-", "_")
    heartbeat = answers(API, HEALTH, contains=f'"{key}":{{"status":"healthy"')
    return _component(name, heartbeat, *arguments, ready_through=("api-server",))


SERVERS = (
    _component("api-server", answers(API, HEALTH), ports=(API,), client_env=test_env),
    _worker("scheduler", "--skip-serve-logs"),
    _worker("dag-processor"),
    _worker("triggerer", "--skip-serve-logs"),
)

PREPARATIONS = (
    Preparation(
        "airflow metadata",
        ("databases",),
        prepare_metadata,
        inputs=lambda _: metadata.version("apache-airflow"),
    ),
)
