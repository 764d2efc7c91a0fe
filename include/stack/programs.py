"""Every supervised program: what it runs and how it is prepared. The order is the order of start."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyflink

from adnomaly import streams
from adnomaly.home import Home
from adnomaly.settings import ROOT, Settings
from adnomaly.streams import Stream
from stack import configs, environment
from stack.ports import port


@dataclass(frozen=True)
class Program:
    """One program. `command` is run after `prepare`, with `env` added; `account` only matters to root."""

    name: str
    command: Callable[[Settings], list[str]]
    env: Callable[[Settings], dict[str, str]] = field(default=lambda settings: {})
    prepare: Callable[[Settings], None] = field(default=lambda settings: None)
    account: str | None = None
    needs: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(text)


def _kafka_command(settings: Settings) -> list[str]:
    conf = Home.of(settings).run / "kafka.properties"
    jars = Home.of(settings).jars / "kafka" / "*"
    return [
        "java",
        "-Xmx512m",
        "-XX:+ExitOnOutOfMemoryError",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp",
        str(jars),
        "kafka.Kafka",
        str(conf),
    ]


def _prepare_kafka(settings: Settings) -> None:
    paths = Home.of(settings)
    conf, classpath = paths.run / "kafka.properties", str(paths.jars / "kafka" / "*")
    _write(conf, configs.kafka(settings))
    if not (paths.path / "kafka" / "meta.properties").exists():
        storage = ["java", "-cp", classpath, "kafka.tools.StorageTool"]
        cluster = subprocess.run(
            [*storage, "random-uuid"], check=True, capture_output=True, text=True
        ).stdout.split()[-1]
        subprocess.run([*storage, "format", "-t", cluster, "-c", str(conf)], check=True)


def postgres_binary(name: str) -> str:
    """A server program of the newest PostgreSQL there is."""
    installed = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3])
    )
    found = str(installed[-1]) if installed else shutil.which(name)
    if not found:
        raise FileNotFoundError(
            f"PostgreSQL's {name} is missing: install the package postgresql, or run `make setup` as root"
        )
    return found


def postgres_account() -> str | None:
    """PostgreSQL refuses to run as root: then it runs under the account that its package makes."""
    return "postgres" if os.geteuid() == 0 else None


def _postgres_command(settings: Settings) -> list[str]:
    listen = [
        "-p",
        str(port(settings, "postgres")),
        "-h",
        "127.0.0.1",
        "-c",
        "unix_socket_directories=",
    ]
    return [
        postgres_binary("postgres"),
        "-D",
        str(Home.of(settings).postgres_data),
        *listen,
        "-c",
        "max_connections=200",
    ]


def _prepare_postgres(settings: Settings) -> None:
    data = Home.of(settings).postgres_data
    (Home.of(settings).run / "postgres-data").write_text(f"{data}\n")
    account = pwd.getpwnam(postgres_account()) if postgres_account() else None
    if account and data.is_relative_to(Home.of(settings).path):
        # The home is closed to others; its account may pass through it, no more.
        Home.of(settings).path.chmod(0o711)
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    if account:
        os.chown(data, account.pw_uid, account.pw_gid)
    if (data / "PG_VERSION").exists():
        return
    with tempfile.NamedTemporaryFile("w") as password:
        password.write(settings.db_password.get_secret_value())
        password.flush()
        if account:
            os.chown(password.name, account.pw_uid, account.pw_gid)
        options = [
            "-A",
            "scram-sha-256",
            "-U",
            settings.db_user,
            f"--pwfile={password.name}",
            "-E",
            "UTF8",
            "--locale=C",
        ]
        as_account = {"user": account.pw_uid, "group": account.pw_gid} if account else {}
        subprocess.run(
            [postgres_binary("initdb"), "-D", str(data), *options],
            check=True,
            cwd="/",
            **as_account,
        )


def _prepare_redis(settings: Settings) -> None:
    (Home.of(settings).path / "redis").mkdir(exist_ok=True)
    _write(Home.of(settings).run / "redis.conf", configs.redis(settings))


def _s3_command(settings: Settings) -> list[str]:
    numbers = {
        "s3": "s3",
        "admin": "s3-console",
        "volume": "s3-volume",
        "filer": "s3-filer",
        "master": "s3-master",
    }
    ports = [f"-{flag}.port={port(settings, name)}" for flag, name in numbers.items()]
    more = ["-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    password = f"-admin.password={settings.minio_secret_key.get_secret_value()}"
    return [
        "weed",
        "mini",
        f"-dir={Home.of(settings).path / 's3'}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        *ports,
        *more,
        password,
    ]


def _s3_env(settings: Settings) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": settings.minio_access_key.get_secret_value(),
        "AWS_SECRET_ACCESS_KEY": settings.minio_secret_key.get_secret_value(),
        "S3_BUCKET": f"{settings.minio_bucket},mlflow",
    }


def prepare_flink(settings: Settings) -> None:
    """A Flink home of our own: the installed package by link, our jars beside its own."""
    paths, package = Home.of(settings), Path(pyflink.__file__).parent
    home = paths.flink / "home"
    for folder in ("checkpoints", "savepoints", "log", "tmp", "conf"):
        (paths.flink / folder).mkdir(parents=True, exist_ok=True)
    for folder in ("lib", "plugins/s3"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    # Its scripts find their home from where they really lie: a link would lead back to the package.
    shutil.copytree(package / "bin", home / "bin", dirs_exist_ok=True)
    if not (home / "opt").exists():
        shutil.copytree(package / "opt", home / "opt", copy_function=os.symlink)
    links = {
        home / "lib" / jar.name: jar
        for jar in [*(package / "lib").iterdir(), *(paths.jars / "flink").iterdir()]
    }
    links |= {
        home / "plugins" / folder.name: folder
        for folder in (package / "plugins").iterdir()
        if folder.is_dir()
    }
    links |= {
        home / "plugins" / "s3" / jar.name: jar for jar in (paths.jars / "flink-s3").iterdir()
    }
    links |= {
        paths.flink / "conf" / file.name: file
        for file in (package / "conf").iterdir()
        if file.name != "config.yaml"
    }
    for link, target in links.items():
        if not link.is_symlink():
            link.symlink_to(target)
    _write(paths.flink / "conf" / "config.yaml", configs.flink(settings))


def _flink_command(script: str) -> Callable[[Settings], list[str]]:
    return lambda settings: [
        "bash",
        str(Home.of(settings).flink / "home" / "bin" / script),
        "start-foreground",
    ]


def _prepare_ray(settings: Settings) -> None:
    """Its folders, without what sessions of long ago left there."""
    paths = Home.of(settings)
    for folder in (paths.ray, paths.haproxy):
        folder.mkdir(parents=True, exist_ok=True)
    for session in sorted(paths.ray.glob("session_2*"))[:-2]:
        shutil.rmtree(session, ignore_errors=True)


def _ray_command(settings: Settings) -> list[str]:
    low = 10002 + (4000 if settings.port_offset else 0)
    return [
        *(
            "ray",
            "start",
            "--head",
            "--block",
            "--disable-usage-stats",
            "--node-ip-address",
            "127.0.0.1",
        ),
        *(
            "--port",
            str(port(settings, "ray-gcs")),
            "--dashboard-host",
            "127.0.0.1",
            "--dashboard-port",
            str(port(settings, "ray")),
        ),
        *(
            "--metrics-export-port",
            str(port(settings, "ray-metrics")),
            "--num-cpus",
            "4",
            "--object-store-memory",
            "200000000",
        ),
        *(
            "--node-manager-port",
            str(port(settings, "ray-node")),
            "--object-manager-port",
            str(port(settings, "ray-objects")),
        ),
        *(
            "--dashboard-agent-listen-port",
            str(port(settings, "ray-agent")),
            "--dashboard-agent-grpc-port",
            str(port(settings, "ray-agent-grpc")),
        ),
        *("--runtime-env-agent-port", str(port(settings, "ray-runtime-env"))),
        *(
            "--min-worker-port",
            str(low),
            "--max-worker-port",
            str(low + 999),
            "--ray-client-server-port",
            str(low + 1000),
        ),
        *("--temp-dir", str(Home.of(settings).ray)),
    ]


def _ray_env(settings: Settings) -> dict[str, str]:
    low = 30000 + settings.port_offset
    run = Home.of(settings).haproxy
    own = {
        "AUTOSCALER_METRIC_PORT": str(port(settings, "ray-autoscaler-metrics")),
        "DASHBOARD_METRIC_PORT": str(port(settings, "ray-dashboard-metrics")),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(low),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(low + 199),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(low + 10_000),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(low + 10_199),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(port(settings, "serving-fallback")),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(port(settings, "serving-fallback-grpc")),
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(ROOT / "include" / "stack" / "haproxy-wrapper.sh"),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(run / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(run / "api.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(run / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(run),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(run / "haproxy-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(port(settings, "serving-metrics")),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(port(settings, "serving-stats")),
    }
    token = {
        name: value for name, value in environment.ray(settings).items() if name != "RAY_ADDRESS"
    }
    return environment.RAY_FAST | own | token


def _mlflow_command(settings: Settings) -> list[str]:
    store = settings.postgres_url("mlflow").replace("postgresql://", "postgresql+psycopg2://", 1)
    listen = ["--host", "127.0.0.1", "--port", str(port(settings, "mlflow")), "--workers", "1"]
    return [
        "mlflow",
        "server",
        *listen,
        "--backend-store-uri",
        store,
        "--artifacts-destination",
        "s3://mlflow/artifacts",
    ]


def _mlflow_env(settings: Settings) -> dict[str, str]:
    return _s3_env(settings) | {
        "MLFLOW_S3_ENDPOINT_URL": settings.s3_url,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def _airflow(name: str, *more: str) -> Program:
    def prepare(settings: Settings) -> None:
        environment.write_passwords(settings, Home.of(settings).airflow)

    return Program(
        name,
        lambda settings: ["airflow", name, *more],
        environment.live_airflow,
        prepare,
        needs=("postgres",),
        ports=("api-server",) if name == "api-server" else (),
    )


SERVERS = (
    Program("kafka", _kafka_command, prepare=_prepare_kafka, ports=("kafka", "kafka-controller")),
    Program(
        "postgres",
        _postgres_command,
        prepare=_prepare_postgres,
        account="postgres",
        ports=("postgres",),
    ),
    Program(
        "redis",
        lambda s: ["redis-server", str(Home.of(s).run / "redis.conf")],
        prepare=_prepare_redis,
        ports=("redis",),
    ),
    Program(
        "s3",
        _s3_command,
        _s3_env,
        lambda s: (Home.of(s).data("s3")).mkdir(exist_ok=True),
        ports=("s3", "s3-console", "s3-master", "s3-volume", "s3-filer"),
    ),
    Program(
        "jobmanager",
        _flink_command("jobmanager.sh"),
        environment.flink,
        prepare_flink,
        ports=("jobmanager", "jobmanager-rpc"),
    ),
    Program(
        "taskmanager",
        _flink_command("taskmanager.sh"),
        environment.flink,
        prepare_flink,
        needs=("jobmanager",),
        ports=("taskmanager-rpc",),
    ),
    Program("ray", _ray_command, _ray_env, _prepare_ray, ports=("ray", "ray-gcs")),
    Program("mlflow", _mlflow_command, _mlflow_env, needs=("postgres", "s3"), ports=("mlflow",)),
    _airflow("api-server"),
    _airflow("scheduler", "--skip-serve-logs"),
    _airflow("dag-processor"),
    _airflow("triggerer", "--skip-serve-logs"),
)


def _stream(stream: Stream) -> Program:
    def environ(settings: Settings) -> dict[str, str]:
        return environment.flink(settings) if stream.name == "window_job" else {}

    return Program(stream.name, lambda settings: [sys.executable, "-m", stream.module], environ)


STREAMS = tuple(_stream(streams.BY_NAME[name]) for name in streams.START_ORDER)

PROGRAMS = {program.name: program for program in (*SERVERS, *STREAMS)}
