"""The recipes "Add a stream" and "Add a server" of docs/contributing.md, in a copy of the tree.

The copy has servers of its own. The new stream and the new server are started, appear on the page
and in the reconciliation, are killed and come back.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from adnomaly.home import Home
from adnomaly.ports import DEFAULT_PORTS
from adnomaly.settings import ROOT
from stack import secrets

pytestmark = [pytest.mark.integration, pytest.mark.kills]

PORT_OFFSET = 800

STREAM = """    Stream(
        "count_clicks",
        "counter",
        "Click counter",
        "consumer",
        "clicks",
        VALID_TOPIC,
        "sink",
        server="postgres",
    ),
"""

PROGRAM = '''"""Valid clicks -> the table `clicks_by_geo`, counted."""

import sys
from collections import Counter

import msgspec

from adnomaly.clients.kafka.admin import await_topic_id
from adnomaly.clients.postgres import Postgres
from adnomaly.process import run_process
from adnomaly.sinks.base import Batch, Written, run_sink
from adnomaly.sinks.consumer import SinkConsumer
from adnomaly.sinks.offsets import SinkOffsets
from adnomaly.topics import VALID_TOPIC
from adnomaly.wiring import connect

NAME = "count_clicks"
TABLE = "CREATE TABLE IF NOT EXISTS clicks_by_geo (geo text PRIMARY KEY, n bigint)"
ADD = """INSERT INTO clicks_by_geo AS c VALUES (%s, %s)
ON CONFLICT (geo) DO UPDATE SET n = c.n + EXCLUDED.n"""


class CountSink:
    def __init__(self, postgres: Postgres, offsets: SinkOffsets) -> None:
        self._postgres, self._offsets = postgres, offsets

    def write(self, batch: Batch) -> Written:
        if not any(batch.values()):
            return Written()
        with self._postgres.connection() as connection:
            connection.execute(TABLE)
            for lease, messages in batch.items():
                if not messages:
                    continue
                geos = Counter(msgspec.json.decode(m.value())["geo"] for m in messages)
                for geo, clicks in geos.items():
                    connection.execute(ADD, (geo, clicks))
                first, following = messages[0].offset(), messages[-1].offset() + 1
                self._offsets.advance(
                    connection, lease, first=first, following=following, records=len(messages)
                )
        return Written.all_of(batch, 1)


def run(settings, stop) -> None:
    postgres, topic = connect(settings).postgres, VALID_TOPIC.name
    topic_id = await_topic_id(settings.kafka_bootstrap, topic, stop)
    offsets = SinkOffsets(postgres, NAME, topic, topic_id)
    consumer = SinkConsumer(settings.kafka_bootstrap, topic, NAME, offsets, stop)
    run_sink(consumer, CountSink(postgres, offsets), stop, unit="batches")


if __name__ == "__main__":
    sys.exit(run_process(run))
'''

SERVER = '''"""A second Redis, for scratch data."""

from adnomaly.home import Home
from adnomaly.settings import Settings
from stack.servers.base import Port, Server, listens

PORT = Port("scratch", 6399, "Scratch")


def _command(settings: Settings) -> list[str]:
    folder = str(Home.of(settings).data("scratch"))
    port = str(PORT.of(settings))
    return ["redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", folder]


def _prepare(settings: Settings) -> None:
    Home.of(settings).data("scratch").mkdir(exist_ok=True)


SERVERS = (
    Server(name="scratch", command=_command, ready=listens(PORT), ports=(PORT,), prepare=_prepare),
)
'''

SEND = """
import sys
from adnomaly.clients.kafka.producer import TrackedProducer
from adnomaly.settings import load_settings
producer = TrackedProducer(load_settings().kafka_bootstrap, "clickstream.valid")
for number in range(int(sys.argv[1])):
    producer.send(b"DE|web", b'{"geo": "DE"}')
producer.flush()
"""

PIDS = """
import json
from adnomaly.wiring import connect
print(json.dumps({name: p.pid for name, p in connect().supervisor.programs().items()}))
"""


START = """
from adnomaly.wiring import connect
connect().supervisor.start(["count_clicks"])
"""


class Copy:
    """A copy of the tree with a home and ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split("\n")
        for name in listed:
            if name and not name.startswith(("tests/", "docs/")) and (ROOT / name).exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        (folder / ".venv").symlink_to(ROOT / ".venv")
        (folder / ".adnomaly").mkdir()
        (folder / ".adnomaly" / "jars").symlink_to(ROOT / ".adnomaly" / "jars")

    def run(self, *arguments: str) -> str:
        paths = [self.folder / "include", self.folder, self.folder / "plugins"]
        own = {
            "ADNOMALY_HOME": str(self.folder / ".home"),
            "PORT_OFFSET": str(PORT_OFFSET),
            "DB_NAME": "clicks",  # not the default, which a fresh stack must create as well
            "PYTHONPATH": ":".join(map(str, paths)),
        }
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=os.environ | own,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def pids(self) -> dict[str, int]:
        return json.loads(self.run("-c", PIDS).splitlines()[-1])

    def page(self) -> dict[str, Any]:
        """What the page *Now* shows: stages and servers by name, the parts of each equation."""
        url = f"http://localhost:{DEFAULT_PORTS['api-server'] + PORT_OFFSET}"
        secret = secrets.read(Home(self.folder / ".home").secrets)["AIRFLOW_ADMIN_PASSWORD"]
        login = {"username": "admin", "password": secret}
        with httpx.Client(base_url=url, timeout=30) as client:
            token = client.post("/auth/token", json=login).json()["access_token"]
            headers = {"authorization": f"Bearer {token}"}
            page = client.get("/adnomaly/api/now", headers=headers).raise_for_status().json()
        return {
            "stages": {stage["name"]: stage for stage in page["stages"]},
            "servers": {server["name"]: server for server in page["servers"]},
            "ledger": [equation["parts"] for equation in page["ledger"]],
        }

    def wait(self, condition: Any, seconds: float = 90) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while not condition(page := self.page()):
            assert time.monotonic() < deadline, page
            time.sleep(1)
        return page


@pytest.fixture(scope="session", autouse=True)
def stack() -> None:
    """Replaces the common fixture: these tests have servers of their own."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """The copy with one more stream and one more server, and the servers that the stream needs."""
    made = Copy(tmp_path_factory.mktemp("copy"))
    table = made.folder / "include" / "adnomaly" / "streams.py"
    text = table.read_text()
    assert text.count("STREAMS: Final = (\n") == 1
    table.write_text(text.replace("STREAMS: Final = (\n", "STREAMS: Final = (\n" + STREAM))
    (made.folder / "streaming" / "count_clicks.py").write_text(PROGRAM)
    (made.folder / "include" / "stack" / "servers" / "scratch.py").write_text(SERVER)
    made.run("-m", "stack", "secrets")
    try:
        made.run("-m", "stack", "up", "kafka", "postgres", "api-server", "scratch")
        yield made
    finally:
        made.run("-m", "stack", "down")


def test_the_new_stream_is_started_counts_and_is_on_the_page(copy: Copy):
    copy.run("-c", SEND, "500")
    copy.run("-c", START)
    page = copy.wait(lambda p: p["stages"]["counter"]["total"] == 500)
    assert page["stages"]["counter"]["title"] == "Click counter"
    assert page["stages"]["counter"]["state"] == "green", page["stages"]["counter"]
    assert any(500 in parts.values() for parts in page["ledger"]), page["ledger"]
    assert "count_clicks     RUNNING" in copy.run("-m", "stack", "status")


def test_killed_it_comes_back_and_loses_nothing(copy: Copy):
    killed = copy.pids()["count_clicks"]
    os.kill(killed, signal.SIGKILL)
    copy.run("-c", SEND, "300")
    page = copy.wait(lambda p: p["stages"]["counter"]["total"] == 800)
    assert page["stages"]["counter"]["state"] == "green", page["stages"]["counter"]
    assert copy.pids()["count_clicks"] != killed


def test_the_new_server_is_on_the_page_killed_and_comes_back(copy: Copy):
    assert "scratch" in copy.run("-m", "stack", "status")
    assert copy.page()["servers"]["scratch"]["state"] == "green"
    killed = copy.pids()["scratch"]
    os.kill(killed, signal.SIGKILL)
    deadline = time.monotonic() + 90
    while (now := copy.pids()["scratch"]) in (0, killed):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert now != killed
    copy.wait(lambda p: p["servers"]["scratch"]["process"] == "RUNNING")
