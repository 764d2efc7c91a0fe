"""Kafka: one KRaft node that is broker and controller."""

import subprocess
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from adnomaly.clients.kafka.admin import create_topics
from adnomaly.home import Home
from adnomaly.ports import DEFAULT_PORTS
from adnomaly.settings import Settings
from stack.servers.base import CHECK_TIMEOUT_S, Port, Preparation, Server, listens, write_private

BROKER: Final = Port("kafka", DEFAULT_PORTS["kafka"], "Kafka")
CONTROLLER: Final = Port("kafka-controller", 29093)


def properties(settings: Settings) -> str:
    """server.properties."""
    broker, controller = BROKER.of(settings), CONTROLLER.of(settings)
    values = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{broker}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": Home.of(settings).data("kafka"),
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
        # Flink leaves one transactional id per checkpoint; by default each is kept for a week.
        "transactional.id.expiration.ms": 24 * 3600 * 1000,
        "log.retention.hours": 168,
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _conf(settings: Settings) -> Path:
    return Home.of(settings).run / "kafka.properties"


def _classpath(settings: Settings) -> str:
    return str(Home.of(settings).jars / "kafka" / "*")


def _command(settings: Settings) -> list[str]:
    options = [
        "-Xmx512m",
        "-XX:+ExitOnOutOfMemoryError",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    ]
    classpath = ["-cp", _classpath(settings)]
    return ["java", *options, *classpath, "kafka.Kafka", str(_conf(settings))]


def _prepare(settings: Settings) -> None:
    """Write the configuration; format the storage once."""
    conf = _conf(settings)
    write_private(conf, properties(settings))
    if not (Home.of(settings).data("kafka") / "meta.properties").exists():
        storage = ["java", "-cp", _classpath(settings), "kafka.tools.StorageTool"]
        cluster = subprocess.run(
            [*storage, "random-uuid"], check=True, capture_output=True, text=True
        ).stdout.split()[-1]
        subprocess.run([*storage, "format", "-t", cluster, "-c", str(conf)], check=True)


def _ready(settings: Settings) -> str | None:
    if problem := listens(BROKER)(settings):
        return problem
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 0})
    try:
        admin.list_topics(timeout=CHECK_TIMEOUT_S)
    except KafkaException as error:
        return str(error)
    return None


def prepare_topics(settings: Settings) -> None:
    """Create missing topics."""
    create_topics(settings.kafka_bootstrap)


SERVERS = (
    Server(
        name="kafka",
        command=_command,
        ready=_ready,
        ports=(BROKER, CONTROLLER),
        prepare=_prepare,
        store=True,
    ),
)

PREPARATIONS = (Preparation("topics", ("kafka",), prepare_topics),)
