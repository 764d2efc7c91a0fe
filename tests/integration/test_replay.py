"""A foreign click log through real Kafka, validation and the table: every row is accounted for."""

import os
import subprocess
import sys

import pytest

from adnomaly.replay import example
from adnomaly.settings import ROOT, load_settings
from integration.world import World, a_world

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture
def world(tmp_path):
    with a_world(load_settings(), tmp_path) as world:
        yield world


def replay(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "adnomaly.cli.main",
        "replay",
        *arguments,
        "--topic",
        world.topics["raw"],
    ]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=120, check=False
    )


def test_rows_read_are_sent_or_named_and_clicks_sent_are_stored_once(world, tmp_path):
    log, mapped = (str(file) for file in example.write(tmp_path))
    world.start("validate_clicks")
    world.start("store_clicks")
    old = replay(world, log, "--map", mapped)
    assert old.returncode == 2
    assert "add --shift-to-now, or raise MAX_EVENT_AGE_HOURS" in old.stderr
    done = replay(world, log, "--map", mapped, "--shift-to-now")
    assert done.returncode == 0, done.stderr
    assert "1,502 rows read = 1,500 sent + 2 that could not be mapped" in done.stdout
    assert "Kafka acknowledged 1,500 messages" in done.stdout
    world.wait("every click is stored", lambda: stored(world) == (1500, example.ADDRESSES))
    assert len(world.read("valid")) == 1500
    assert world.read("dead") == []


def stored(world: World) -> tuple[int, int]:
    with world.backends.postgres.connection() as connection:
        return connection.execute(
            "SELECT count(*), count(DISTINCT user_id_hash) FROM clickstream_events"
        ).fetchone()
