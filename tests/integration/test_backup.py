"""`backup` and `restore` as typed, on servers of their own: what was stored is there again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from adnomaly.settings import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.kills]

PORT_OFFSET = 900
SERVERS = ("kafka", "postgres", "redis", "s3")

STORE = """
from adnomaly.clients.kafka.producer import TrackedProducer
from adnomaly.wiring import connect
b = connect()
producer = TrackedProducer(b.settings.kafka_bootstrap, "clickstream.valid")
for number in range(100):
    producer.send(b"DE|web", b"{}")
producer.flush()
with b.postgres.connection() as connection:
    connection.execute("INSERT INTO ledger (account, clicks) VALUES ('test', 7)"
        " ON CONFLICT (account) DO UPDATE SET clicks = ledger.clicks + 7")
b.objects.put("clicks/object", b"click" * 1000)
(b.home.bundles / "abc").mkdir(parents=True, exist_ok=True)
(b.home.bundles / "CURRENT").write_text("abc")
"""

READ = """
from adnomaly.clients.kafka.reader import watermarks
from adnomaly.topics import VALID_TOPIC
from adnomaly.wiring import connect
b = connect()
with b.postgres.connection() as connection:
    [(clicks,)] = connection.execute("SELECT clicks FROM ledger WHERE account = 'test'").fetchall()
ends = watermarks(b.settings.kafka_bootstrap, VALID_TOPIC.name)
sent = sum(high for _, high in ends.values())
print(clicks, sent, len(b.objects.get("clicks/object")), b.bundles.current())
"""


@pytest.fixture(scope="session", autouse=True)
def stack() -> None:
    """Replaces the common fixture: these tests have servers of their own."""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backup") / "home"
    run(folder, "-m", "stack", "secrets")
    yield folder
    run(folder, "-m", "stack", "reset", "--yes")


def run(home: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"ADNOMALY_HOME": str(home), "PORT_OFFSET": str(PORT_OFFSET)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == code, output[-3000:]
    return output


def test_a_backup_is_restored_after_everything_was_erased(home: Path, tmp_path: Path):
    file = tmp_path / "adnomaly.tar"
    run(home, "-m", "stack", "up", *SERVERS)
    run(home, "-c", STORE)
    before = run(home, "-c", READ)
    assert before.split() == ["7", "100", "5000", "abc"]
    said = run(home, "-m", "stack", "backup", str(file))
    assert f"wrote {file}" in said
    assert file.stat().st_mode & 0o777 == 0o600
    assert run(home, "-c", READ) == before  # what ran before runs again
    assert "choose another name" in run(home, "-m", "stack", "backup", str(file), code=1)

    run(home, "-c", STORE)
    assert run(home, "-c", READ).split() == ["14", "200", "5000", "abc"]
    assert "YES=1` erases" in run(home, "-m", "stack", "restore", str(file), code=1)
    assert run(home, "-c", READ).split()[0] == "14"  # nothing was touched

    run(home, "-m", "stack", "restore", str(file), "--yes")
    run(home, "-m", "stack", "up", *SERVERS)
    assert run(home, "-c", READ) == before


@pytest.mark.parametrize("content", [b"", b"no tar", bytes(10240)])
def test_another_file_is_refused(home: Path, tmp_path: Path, content: bytes):
    file = tmp_path / "other.tar"
    file.write_bytes(content)
    assert str(file) in run(home, "-m", "stack", "restore", str(file), "--yes", code=1)
