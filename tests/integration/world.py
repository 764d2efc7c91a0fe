"""Isolated topics, database and bucket on the running servers, and stream processes to kill."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import boto3
import psycopg
from confluent_kafka import OFFSET_BEGINNING, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from adnomaly.clients.kafka.admin import create_topics
from adnomaly.clients.kafka.reader import open_reader
from adnomaly.settings import ROOT, Settings
from adnomaly.stores.offline_features import OfflineFeatures
from adnomaly.topics import Topic
from adnomaly.wiring import Backends, connect

PARTITIONS = 3


class World:
    """Names contain a unique id, so tests are isolated from each other and from a live stack."""

    def __init__(self, settings: Settings, logs: Path) -> None:
        self.id, self.logs = uuid4().hex[:8], logs
        self.settings = settings.model_copy(
            update={"db_name": f"test_{self.id}", "minio_bucket": f"test-{self.id}"}
        )
        self.backends: Backends = connect(self.settings)
        # The mirror belongs to the home, which all worlds share.
        self.backends.offline_features = OfflineFeatures(self.backends.objects, logs / "mirror")
        self.topics = {
            name: f"test_{self.id}_{name}" for name in ("raw", "valid", "dead", "features", "late")
        }
        self._processes: list[subprocess.Popen[bytes]] = []
        with psycopg.connect(settings.postgres_url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {self.settings.db_name}")
        self.backends.postgres.migrate()
        self._s3().create_bucket(Bucket=self.settings.minio_bucket)
        create_topics(
            settings.kafka_bootstrap, [Topic(name, PARTITIONS) for name in self.topics.values()]
        )

    def start(self, program: str, *arguments: str, failpoint: str = "") -> subprocess.Popen[bytes]:
        """A stream program of ours as a process, reading and writing this world."""
        own = {
            "DB_NAME": self.settings.db_name,
            "MINIO_BUCKET": self.settings.minio_bucket,
            "FAILPOINT": failpoint,
        }
        command = [
            sys.executable,
            "-m",
            f"streaming.{program}",
            *self._arguments(program),
            *arguments,
        ]
        with (self.logs / f"{program}.log").open("ab") as log:
            process = subprocess.Popen(
                command, env=os.environ | own, stdout=log, stderr=log, cwd=ROOT
            )
        self._processes.append(process)
        return process

    def send(
        self,
        messages: Sequence[tuple[str | bytes | None, bytes | None]],
        topic: str = "raw",
        partition: int = -1,
    ) -> None:
        """Produce (key, value) pairs and wait until all are acknowledged."""
        producer = Producer(
            {
                "bootstrap.servers": self.settings.kafka_bootstrap,
                "enable.idempotence": True,
                "linger.ms": 20,
            }
        )
        for key, value in messages:
            while True:
                try:
                    producer.produce(self.topics[topic], value, key, partition)
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(60) == 0

    def read(self, topic: str) -> list[Message]:
        """Every committed message of a topic, to its present end."""
        consumer = open_reader(self.settings.kafka_bootstrap)
        consumer.assign(
            [TopicPartition(self.topics[topic], p, OFFSET_BEGINNING) for p in range(PARTITIONS)]
        )
        found: list[Message] = []
        ended: set[int] = set()
        while len(ended) < PARTITIONS:
            message = consumer.poll(20)
            assert message is not None, f"{topic} does not end: a transaction is open"
            if message.error() is None:
                found.append(message)
            elif message.error().code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
        consumer.close()
        return found

    def wait(self, what: str, condition: Callable[[], bool], seconds: float = 120) -> None:
        """Until a condition holds; fails with the ends of the logs."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"{what} did not happen within {seconds:.0f} s\n{self.log_ends()}"
                )
            time.sleep(0.5)

    def log_ends(self) -> str:
        return "\n".join(
            f"--- {log.name}\n{log.read_text()[-1500:]}" for log in sorted(self.logs.glob("*.log"))
        )

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.settings.postgres_url()) as connection:
            return connection.execute(query).fetchall()

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        AdminClient({"bootstrap.servers": self.settings.kafka_bootstrap}).delete_topics(
            list(self.topics.values())
        )

    def _arguments(self, program: str) -> list[str]:
        t = self.topics
        return {
            "validate_clicks": [
                "--group",
                f"gate_{self.id}",
                "--source",
                t["raw"],
                "--valid",
                t["valid"],
                "--dead",
                t["dead"],
            ],
            "store_clicks": ["--topic", t["valid"], "--sink", f"store_{self.id}"],
            "archive_clicks": [
                "--topic",
                t["valid"],
                "--sink",
                "archive_clicks",
                "--max-seconds",
                "2",
            ],
            "window_job": [
                "--name",
                f"windows-{self.id}",
                "--source",
                t["valid"],
                "--sink",
                t["features"],
                "--late",
                t["late"],
            ],
        }[program]

    def _s3(self):
        s = self.settings
        keys = {
            "aws_access_key_id": s.minio_access_key.get_secret_value(),
            "aws_secret_access_key": s.minio_secret_key.get_secret_value(),
        }
        return boto3.client("s3", endpoint_url=s.s3_url, region_name="us-east-1", **keys)


def stop(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
    """Send a signal and wait for the end; returns the exit code."""
    process.send_signal(number)
    return process.wait(60)


@contextmanager
def a_world(settings: Settings, logs: Path) -> Iterator[World]:
    world = World(settings, logs)
    try:
        yield world
    finally:
        world.close()
