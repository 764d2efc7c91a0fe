"""Configuration files of the servers, written anew before each start."""

from pathlib import Path

import pyflink
import yaml

from adnomaly.home import Home
from adnomaly.settings import Settings
from stack.ports import port


def kafka(settings: Settings) -> str:
    """server.properties of one KRaft node that is broker and controller."""
    broker, controller = port(settings, "kafka"), port(settings, "kafka-controller")
    values = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{broker}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": Home.of(settings).path / "kafka",
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        # One node: fewer partitions of internal topics start faster and need fewer open files.
        "offsets.topic.num.partitions": 8,
        "transaction.state.log.num.partitions": 8,
        "group.initial.rebalance.delay.ms": 0,
        "auto.create.topics.enable": "false",
        # Flink leaves one transactional id per checkpoint behind; the default keeps each for a week.
        "transactional.id.expiration.ms": 24 * 3600 * 1000,
        "log.retention.hours": 168,
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


def redis(settings: Settings) -> str:
    """redis.conf: loopback, every write in the append-only file within a second."""
    folder = Home.of(settings).path / "redis"
    return f'bind 127.0.0.1\nport {port(settings, "redis")}\ndir "{folder}"\nappendonly yes\nappendfsync everysec\ndaemonize no\n'


def flink(settings: Settings) -> str:
    """config.yaml: the shipped one (its JVM options are needed on Java 17) with ours laid over it."""
    paths = Home.of(settings)
    shipped = yaml.safe_load((Path(pyflink.__file__).parent / "conf" / "config.yaml").read_text())
    flat = dict(_flatten(shipped))
    ours = {
        "jobmanager.rpc.address": "127.0.0.1",
        "jobmanager.bind-host": "127.0.0.1",
        "jobmanager.rpc.port": port(settings, "jobmanager-rpc"),
        "jobmanager.memory.process.size": "1024m",
        "blob.server.port": str(port(settings, "jobmanager-blob")),
        "rest.address": "127.0.0.1",
        "rest.bind-address": "127.0.0.1",
        "rest.port": port(settings, "jobmanager"),
        "taskmanager.host": "127.0.0.1",
        "taskmanager.bind-host": "127.0.0.1",
        "taskmanager.rpc.port": str(port(settings, "taskmanager-rpc")),
        "taskmanager.data.port": port(settings, "taskmanager-data"),
        "taskmanager.numberOfTaskSlots": 6,
        "taskmanager.memory.process.size": "2048m",
        # A restarted JobManager waits for the slots of the old one until these have passed.
        "heartbeat.timeout": "15 s",
        "heartbeat.interval": "5 s",
        "web.submit.enable": False,
        "classloader.check-leaked-classloader": False,
        "parallelism.default": 1,
        "execution.checkpointing.interval": "10 s",
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "execution.checkpointing.num-retained": 3,
        "execution.checkpointing.dir": f"file://{paths.flink / 'checkpoints'}",
        "execution.checkpointing.savepoint-dir": f"file://{paths.flink / 'savepoints'}",
        "state.backend.type": "hashmap",
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": 2147483647,
        "restart-strategy.fixed-delay.delay": "2 s",
        "table.local-time-zone": "UTC",
        "python.executable": str(paths.venv / "bin" / "python"),
        "python.client.executable": str(paths.venv / "bin" / "python"),
        "s3.endpoint": settings.s3_url,
        "s3.access-key": settings.minio_access_key.get_secret_value(),
        "s3.secret-key": settings.minio_secret_key.get_secret_value(),
        "s3.path-style-access": True,
        "s3.region": "us-east-1",
        "io.tmp.dirs": str(paths.flink / "tmp"),
        "metrics.reporters": "prom",
        "metrics.reporter.prom.factory.class": "org.apache.flink.metrics.prometheus.PrometheusReporterFactory",
        "metrics.reporter.prom.port": f"{port(settings, 'flink-metrics')}-{port(settings, 'flink-metrics') + 9}",
    }
    return yaml.safe_dump(flat | ours, width=100_000)


def _flatten(tree: dict[str, object], prefix: str = ""):
    for name, value in (tree or {}).items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
