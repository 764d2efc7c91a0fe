"""Flink: one JobManager and one TaskManager, from the installed PyFlink package."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pyflink
import yaml

from adnomaly.home import Home
from adnomaly.ports import DEFAULT_PORTS
from adnomaly.settings import Settings
from stack.servers.base import Port, Server, Variables, answers, write_private

REST: Final = Port("jobmanager", DEFAULT_PORTS["jobmanager"], "Flink UI")
JOBMANAGER_RPC: Final = Port("jobmanager-rpc", 6123)
JOBMANAGER_BLOB: Final = Port("jobmanager-blob", 6124, reserved=False)
TASKMANAGER_DATA: Final = Port("taskmanager-data", 6121, reserved=False)
TASKMANAGER_RPC: Final = Port("taskmanager-rpc", 6122)
METRICS: Final = Port("flink-metrics", 9250, reserved=False)
"""First of ten ports; each process takes a free one."""

PACKAGE: Final = Path(pyflink.__file__).parent


def configuration(settings: Settings) -> str:
    """config.yaml: the shipped one, which has the JVM options of Java 17, with our values."""
    shipped = yaml.safe_load((PACKAGE / "conf" / "config.yaml").read_text())
    text: str = yaml.safe_dump(dict(_flatten(shipped)) | _values(settings), width=100_000)
    return text


def _values(settings: Settings) -> dict[str, Any]:
    home = Home.of(settings)
    python = str(home.venv / "bin" / "python")
    metrics = METRICS.of(settings)
    return {
        "jobmanager.rpc.address": "127.0.0.1",
        "jobmanager.bind-host": "127.0.0.1",
        "jobmanager.rpc.port": JOBMANAGER_RPC.of(settings),
        "jobmanager.memory.process.size": "1024m",
        "blob.server.port": str(JOBMANAGER_BLOB.of(settings)),
        "rest.address": "127.0.0.1",
        "rest.bind-address": "127.0.0.1",
        "rest.port": REST.of(settings),
        "taskmanager.host": "127.0.0.1",
        "taskmanager.bind-host": "127.0.0.1",
        "taskmanager.rpc.port": str(TASKMANAGER_RPC.of(settings)),
        "taskmanager.data.port": TASKMANAGER_DATA.of(settings),
        "taskmanager.numberOfTaskSlots": 6,
        "taskmanager.memory.process.size": "2048m",
        # A restarted JobManager waits this long for the slots of its predecessor.
        "heartbeat.timeout": "15 s",
        "heartbeat.interval": "5 s",
        "web.submit.enable": False,
        "classloader.check-leaked-classloader": False,
        "parallelism.default": 1,
        "execution.checkpointing.interval": "10 s",
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "execution.checkpointing.num-retained": 3,
        "execution.checkpointing.dir": f"file://{home.flink / 'checkpoints'}",
        "execution.checkpointing.savepoint-dir": f"file://{home.flink / 'savepoints'}",
        "state.backend.type": "hashmap",
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": 2147483647,
        "restart-strategy.fixed-delay.delay": "2 s",
        "table.local-time-zone": "UTC",
        "python.executable": python,
        "python.client.executable": python,
        "s3.endpoint": settings.s3_url,
        "s3.access-key": settings.minio_access_key.get_secret_value(),
        "s3.secret-key": settings.minio_secret_key.get_secret_value(),
        "s3.path-style-access": True,
        "s3.region": settings.s3_region,
        "io.tmp.dirs": str(home.flink / "tmp"),
        "metrics.reporters": "prom",
        "metrics.reporter.prom.factory.class": (
            "org.apache.flink.metrics.prometheus.PrometheusReporterFactory"
        ),
        "metrics.reporter.prom.port": f"{metrics}-{metrics + 9}",
    }


def _flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys."""
    for name, value in (tree or {}).items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def env(settings: Settings) -> Variables:
    """For Flink's scripts, `flink run` included."""
    folder = Home.of(settings).flink
    return {
        "FLINK_HOME": str(folder / "home"),
        "FLINK_CONF_DIR": str(folder / "conf"),
        "FLINK_LOG_DIR": str(folder / "log"),
        "FLINK_PID_DIR": str(folder / "log"),
    }


def _programs(settings: Settings) -> Path:
    return Home.of(settings).flink / "home" / "bin"


def _prepare(settings: Settings) -> None:
    """Build FLINK_HOME from links to the package and to our jars; write the configuration."""
    flink = Home.of(settings).flink
    home = flink / "home"
    for folder in ("checkpoints", "savepoints", "log", "tmp", "conf"):
        (flink / folder).mkdir(parents=True, exist_ok=True)
    for folder in ("lib", "plugins/s3"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    # Copied: the scripts derive FLINK_HOME from their real path, which a link would lead elsewhere.
    shutil.copytree(PACKAGE / "bin", home / "bin", dirs_exist_ok=True)
    if not (home / "opt").exists():
        shutil.copytree(PACKAGE / "opt", home / "opt", copy_function=os.symlink)
    for link, target in _links(settings).items():
        if not link.is_symlink():
            link.symlink_to(target)
    write_private(flink / "conf" / "config.yaml", configuration(settings))


def _links(settings: Settings) -> dict[Path, Path]:
    """Link -> target: jars, plugins and configuration files."""
    flink, jars = Home.of(settings).flink, Home.of(settings).jars
    home = flink / "home"
    libraries = [*(PACKAGE / "lib").iterdir(), *(jars / "flink").iterdir()]
    plugins = [folder for folder in (PACKAGE / "plugins").iterdir() if folder.is_dir()]
    files = [file for file in (PACKAGE / "conf").iterdir() if file.name != "config.yaml"]
    return {
        **{home / "lib" / jar.name: jar for jar in libraries},
        **{home / "plugins" / folder.name: folder for folder in plugins},
        **{home / "plugins" / "s3" / jar.name: jar for jar in (jars / "flink-s3").iterdir()},
        **{flink / "conf" / file.name: file for file in files},
    }


def _command(script: str) -> Callable[[Settings], list[str]]:
    return lambda settings: ["bash", str(_programs(settings) / script), "start-foreground"]


SERVERS = (
    Server(
        name="jobmanager",
        command=_command("jobmanager.sh"),
        ready=answers(REST, "/overview"),
        ports=(REST, JOBMANAGER_RPC, JOBMANAGER_BLOB),
        env=env,
        prepare=_prepare,
        client_env=env,
        client_programs=_programs,
    ),
    Server(
        name="taskmanager",
        command=_command("taskmanager.sh"),
        ready=answers(REST, "/overview", contains='"taskmanagers":1'),
        ports=(TASKMANAGER_DATA, TASKMANAGER_RPC, METRICS),
        env=env,
        prepare=_prepare,
        needs=("jobmanager",),
    ),
)
