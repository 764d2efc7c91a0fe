"""The environment variables that the servers and our processes of one stack run with."""

import hashlib
import json
import os
from pathlib import Path

from adnomaly.clients.feast import variables as feast_variables
from adnomaly.home import Home
from adnomaly.settings import ROOT, Settings
from stack import secrets as secrets_file
from stack.ports import port

RAY_FAST = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # A killed replica is invisible: HAProxy tries the other one. Every route is idempotent.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response junk-response",
    "RAY_SERVE_HAPROXY_RETRIES": "3",
    "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
    # A client that falls silent is cut after 30 s, not after an hour.
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "30",
    # Serve gives up after 5 s; this is for a replica that hangs.
    "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": "10",
    # No request lasts longer than 5 s, so a replica that is to stop need not wait for half a minute.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
    "RAY_SERVE_STOP_FAILED_ROLLING_UPDATES": "1",
    # Ray's workers, HAProxy among them, would run at niceness 15 and starve beside a busy neighbour.
    "RAY_worker_niceness": "0",
}


def common(settings: Settings) -> dict[str, str]:
    """What every process of the stack sees."""
    paths = Home.of(settings)
    return {
        "ADNOMALY_HOME": str(paths.path),
        "PORT_OFFSET": str(settings.port_offset),
        "PATH": f"{paths.venv / 'bin'}:{_path_without_venv(paths)}",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'include'}",
        "PYTHONUNBUFFERED": "1",
        **feast_variables(
            settings.postgres_url("feast"), settings.redis_url, paths.offline_features
        ),
    }


def flink(settings: Settings) -> dict[str, str]:
    """What Flink's scripts need; also enough for `flink run`."""
    folder = Home.of(settings).flink
    return {
        "FLINK_HOME": str(folder / "home"),
        "FLINK_CONF_DIR": str(folder / "conf"),
        "FLINK_LOG_DIR": str(folder / "log"),
        "FLINK_PID_DIR": str(folder / "log"),
    }


def ray(settings: Settings) -> dict[str, str]:
    """What a client of this Ray needs."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": settings.ray_auth_token.get_secret_value(),
        "RAY_ADDRESS": settings.ray_dashboard_url,
    }


def airflow(settings: Settings, *, home: Path, database: str) -> dict[str, str]:
    """Airflow's configuration; `database` is a SQLAlchemy URL, `home` its AIRFLOW_HOME."""
    keys = secrets_file.read(Home.of(settings).airflow_keys)
    api = port(settings, "api-server")
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__FERNET_KEY": keys.get("AIRFLOW_FERNET_KEY", ""),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{api}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,operator:op,viewer:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
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
        # After a kill -9: tasks of a dead scheduler are taken over within seconds, not minutes.
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        # The watcher of the topic of alerts refuses to commit by itself; where it is does not matter, whom it wakes reads on his own.
        "AIRFLOW_CONN_KAFKA_ALERTS": json.dumps(
            {
                "conn_type": "kafka",
                "extra": {
                    "bootstrap.servers": settings.kafka_bootstrap,
                    "group.id": "airflow-alerts",
                    "enable.auto.commit": "false",
                    "auto.offset.reset": "latest",
                },
            }
        ),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
    }


def live_airflow(settings: Settings) -> dict[str, str]:
    """The Airflow of the running stack: metadata in PostgreSQL."""
    database = settings.postgres_url("airflow").replace(
        "postgresql://", "postgresql+psycopg2://", 1
    )
    return airflow(settings, home=Home.of(settings).airflow, database=database)


def test_airflow(settings: Settings) -> dict[str, str]:
    """An Airflow of its own for `airflow dags test`: SQLite, so that the live triggerer cannot take its triggers."""
    home = Home.of(settings).test_airflow
    return airflow(settings, home=home, database=f"sqlite:///{home / 'airflow.db'}") | {
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor"
    }


def shell(settings: Settings) -> dict[str, str]:
    """For `eval "$(make -s env)"`: feast, psql, flink, ray and mlflow talk to this stack; `airflow dags test` is safe."""
    postgres = {
        "PGHOST": settings.db_host,
        "PGPORT": str(settings.db_port),
        "PGUSER": settings.db_user,
        "PGPASSWORD": settings.db_password.get_secret_value(),
        "PGDATABASE": settings.db_name,
    }
    mlflow = {"MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri}
    feast = {
        "FEAST_FS_YAML_FILE_PATH": str(ROOT / "include" / "feature_repo" / "feature_store.yaml")
    }
    ours = (
        common(settings)
        | flink(settings)
        | ray(settings)
        | postgres
        | mlflow
        | feast
        | test_airflow(settings)
    )
    return ours | {"PATH": f"{ours['PATH']}:{ours['FLINK_HOME']}/bin"}


def write_passwords(settings: Settings, home: Path) -> None:
    """Airflow's users and their generated passwords, 0600, before Airflow would write its own file readable by all."""
    file = home / "passwords.json"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if file.exists():
        return
    secret = settings.airflow_admin_password.get_secret_value()
    users = {
        "admin": secret,
        "operator": _derived(secret, "operator"),
        "viewer": _derived(secret, "viewer"),
    }
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as out:
        json.dump(users, out)


def _derived(secret: str, user: str) -> str:
    return hashlib.sha256(f"{user}:{secret}".encode()).hexdigest()[:32]


def _path_without_venv(paths: Home) -> str:
    own = str(paths.venv / "bin")
    return ":".join(
        part
        for part in os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin").split(":")
        if part != own
    )
