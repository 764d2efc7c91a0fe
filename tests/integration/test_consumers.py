"""Validation and sinks on real servers under kills, invalid messages and lost connections.

No click is lost or duplicated.
"""

import json
import random
import signal
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from adnomaly.clients.kafka.offsets import KafkaOffsets
from adnomaly.pipelines import maintain_stores
from adnomaly.stores.window_arrow import window_table
from adnomaly.topics import Topic
from adnomaly.validation import VerdictCounts
from adnomaly.windows import SIZE, TrafficWindow
from integration.lake_manifest import lake_objects_between
from integration.world import PARTITIONS, World, a_world, stop
from stack import supervisord
from stack.ready import wait_for

pytestmark = pytest.mark.integration

COUNT = 6000


@pytest.fixture
def world(settings, tmp_path):
    with a_world(settings, tmp_path) as world:
        yield world


def click(n: int, moment: datetime, **changes: object) -> dict[str, object]:
    fields = {
        "event_id": str(UUID(int=(0x0190 << 112) | n)),
        "timestamp": f"{moment:%Y-%m-%dT%H:%M:%S}.{n % 1000:03d}Z",
        "user_id_hash": f"{n:032x}",
        "ad_id": f"ad_{n % 50}",
        "campaign_id": f"camp_{n % 7}",
        "geo": ("US", "DE", "IN")[n % 3],
        "platform": ("web", "ios")[n % 2],
        "user_agent": "Mozilla/5.0",
        "CPC": 0.25,
        "CTR": 0.02,
        "conversion": 0,
        "bounce_rate": 0.4,
    }
    return fields | changes


def clicks(count: int = COUNT) -> list[tuple[str, bytes]]:
    """Clicks over the last 100 minutes, so that the lake gets several hours."""
    start = datetime.now(UTC) - timedelta(minutes=100)
    made = [click(n, start + timedelta(minutes=100) * (n / count)) for n in range(count)]
    return [(f"{c['geo']}|{c['platform']}", json.dumps(c).encode()) for c in made]


def ids(messages) -> Counter:
    return Counter(json.loads(m.value())["event_id"] for m in messages)


EXPECTED = {str(UUID(int=(0x0190 << 112) | n)): 1 for n in range(COUNT)}


def run_through_kills(world: World, program: str, failpoints: list[str], finished) -> None:
    """Run the program once per failpoint, killed there; then run it until it has finished."""
    for failpoint in failpoints:
        process = world.start(program, failpoint=failpoint)
        assert process.wait(90) == -signal.SIGKILL, (
            f"{failpoint} was not reached\n{world.log_ends()}"
        )
    process = world.start(program)
    world.wait(f"{program} is done", finished)
    assert stop(process) == 0


def test_validation_killed_between_write_and_commit_loses_and_duplicates_nothing(world):
    sent = clicks()
    world.send(sent + sent[:500])  # the producer's repeats come with the same ids
    run_through_kills(
        world,
        "validate_clicks",
        ["before_commit:1", "before_commit:1", "after_commit:1"],
        lambda: len(world.read("valid")) >= COUNT,
    )
    assert ids(world.read("valid")) == EXPECTED
    assert world.read("dead") == []
    # Counts commit with the offsets, so they are exact after every kill.
    committed = KafkaOffsets(world.settings.kafka_bootstrap).committed(
        f"gate_{world.id}", Topic(world.topics["raw"], PARTITIONS)
    )
    assert VerdictCounts.total(
        VerdictCounts.of(metadata) for _, metadata in committed.values()
    ) == VerdictCounts(valid=COUNT, duplicate=500)


def test_a_store_killed_between_write_and_commit_loses_and_duplicates_nothing(world):
    world.send(valid_form(clicks()), "valid")
    count = "SELECT count(*) FROM clickstream_events"
    run_through_kills(
        world,
        "store_clicks",
        ["before_commit:1", "after_commit:1", "before_commit:1"],
        lambda: world.rows(count) == [(COUNT,)],
    )
    stored = Counter(
        str(event_id) for (event_id,) in world.rows("SELECT event_id FROM clickstream_events")
    )
    assert stored == EXPECTED
    assert world.rows("SELECT sum(records) FROM sink_offsets") == [(COUNT,)]


def test_an_archive_killed_between_upload_and_commit_loses_and_duplicates_nothing(world):
    world.send(valid_form(clicks()), "valid")
    run_through_kills(
        world,
        "archive_clicks",
        ["after_put:1", "before_commit:1", "after_commit:1"],
        lambda: world.rows("SELECT coalesce(sum(row_count), 0) FROM lake_objects") == [(COUNT,)],
    )
    lake, span = (
        world.backends.lake,
        (datetime.now(UTC) - timedelta(hours=3), datetime.now(UTC) + timedelta(hours=1)),
    )
    objects = lake_objects_between(world.backends.postgres, *span)
    archived = Counter(
        event_id for item in objects for event_id in lake.read(item)["event_id"].to_pylist()
    )
    assert archived == EXPECTED
    assert {item.hour for item in objects} == {
        time.replace(minute=0, second=0, microsecond=0)
        for item in objects
        for time in lake.read(item)["timestamp"].to_pylist()
    }
    # Objects uploaded but not recorded by killed writers are orphans: invisible and removable.
    assert len(lake.remove_orphans(*span)) >= 1
    assert len(world.backends.objects.etags("clicks/")) == len(objects)
    assert world.rows("SELECT sum(records) FROM sink_offsets") == [(COUNT,)]


def test_small_objects_become_one_per_partition_and_hour_without_a_click_more_or_less(world):
    hour = (datetime.now(UTC) - timedelta(hours=5)).replace(minute=0, second=0, microsecond=0)
    made = [click(n, hour + timedelta(seconds=n / 2)) for n in range(COUNT)]
    messages = [("DE|web", json.dumps(c).encode()) for c in made]
    world.start("archive_clicks", "--max-rows", "500")
    for i in range(0, COUNT, 500):
        world.send(valid_form(messages[i : i + 500]), "valid", partition=0)
    world.wait(
        "all is archived",
        lambda: world.rows("SELECT coalesce(sum(row_count), 0) FROM lake_objects") == [(COUNT,)],
    )
    lake = world.backends.lake_compaction
    now = datetime.now(UTC)
    assert len(lake_objects_between(world.backends.postgres, hour, hour + timedelta(hours=1))) >= 12
    lake.hold("a reader")
    assert maintain_stores.compact_lake(lake, really=True, now=now) == 0
    lake.let_go("a reader")
    assert maintain_stores.compact_lake(lake, really=True, now=now) >= 12
    [item] = lake_objects_between(world.backends.postgres, hour, hour + timedelta(hours=1))
    assert Counter(lake.read(item)["event_id"].to_pylist()) == EXPECTED
    assert list(world.backends.objects.etags("clicks/")) == [item.object_key]
    assert maintain_stores.compact_lake(lake, really=True, now=now) == 0
    assert lake.remove_orphans(hour, hour + timedelta(hours=1)) == []


def test_old_clicks_go_from_table_and_lake_and_young_ones_stay(world):
    now = datetime.now(UTC)
    made = [click(n, now - timedelta(days=n % 6, hours=1)) for n in range(600)]
    world.send(valid_form([("DE|web", json.dumps(c).encode()) for c in made]), "valid", partition=0)
    world.start("store_clicks")
    world.start("archive_clicks")
    rows, objects = (
        "SELECT count(*) FROM clickstream_events",
        "SELECT coalesce(sum(row_count), 0) FROM lake_objects",
    )
    world.wait(
        "all is there", lambda: world.rows(rows) == [(600,)] and world.rows(objects) == [(600,)]
    )
    b = world.backends
    ends = [now.replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(d) for d in (9, 10)]
    for end in ends:
        features = {"ctr_avg": 0.02, "bounce_rate_avg": 0.4, "event_count": 10}
        window = TrafficWindow(
            window_start=end - SIZE, window_end=end, geo="DE", platform="web", features=features
        )
        b.offline_features.write_day(end.date(), window_table([window]))
    assert (
        maintain_stores.expire_rows(b.retention, days=3, really=False, now=now)[
            "clickstream_events"
        ]
        == 300
    )
    assert world.rows(rows) == [(600,)]
    assert (
        maintain_stores.expire_rows(b.retention, days=3, really=True, now=now)["clickstream_events"]
        == 300
    )
    assert world.rows(rows) == [(300,)]
    assert (
        maintain_stores.expire_lake(
            b.lake_compaction, b.offline_features, days=3, really=True, now=now
        )["objects"]
        >= 1
    )
    [(left,)] = world.rows(objects)
    assert 300 <= left <= 400  # the lake keeps whole days
    assert len(b.objects.etags("clicks/")) == world.rows("SELECT count(*) FROM lake_objects")[0][0]
    assert b.offline_features.days() == [ends[0].date()]  # windows are kept three times as long
    assert b.offline_features.sync() == []


def test_a_paused_writer_that_wakes_up_is_fenced(world):
    """A zombie: stopped (SIGSTOP) while its successor takes over, then woken."""
    sent = valid_form(clicks())
    world.send(sent[:3000], "valid")
    zombie = world.start("store_clicks")
    world.wait(
        "the first half is stored",
        lambda: world.rows("SELECT count(*) FROM clickstream_events") == [(3000,)],
    )
    zombie.send_signal(signal.SIGSTOP)
    world.start("store_clicks")
    time.sleep(20)  # longer than its session: the group gives its partitions away
    world.send(sent[3000:], "valid")
    world.wait(
        "the successor stores the rest",
        lambda: world.rows("SELECT count(*) FROM clickstream_events") == [(COUNT,)],
    )
    zombie.send_signal(signal.SIGCONT)
    time.sleep(5)
    assert world.rows("SELECT count(*), count(DISTINCT event_id) FROM clickstream_events") == [
        (COUNT, COUNT)
    ]
    assert world.rows("SELECT sum(next_offset) FROM sink_offsets") == [(COUNT,)]


@pytest.mark.kills
@pytest.mark.parametrize("server", ["postgres", "kafka", "s3"])
def test_a_server_killed_under_load_only_delays(world, settings, server):
    for program in ("validate_clicks", "store_clicks", "archive_clicks"):
        world.start(program)
    sent = clicks()
    world.send(sent[: COUNT // 2])
    kill_server(settings, server)
    if server == "kafka":
        wait_for(settings, "kafka")
    world.send(sent[COUNT // 2 :])
    wait_for(settings, server)
    world.wait(
        "all rows are stored",
        lambda: (
            reachable(world) and world.rows("SELECT count(*) FROM clickstream_events") == [(COUNT,)]
        ),
        180,
    )
    archived = "SELECT coalesce(sum(row_count), 0) FROM lake_objects"
    world.wait("all clicks are archived", lambda: world.rows(archived) == [(COUNT,)], 180)
    assert ids(world.read("valid")) == EXPECTED


def kill_server(settings, name: str) -> None:
    import os

    os.kill(supervisord.states(settings)[name]["pid"], signal.SIGKILL)
    time.sleep(1)


def reachable(world: World) -> bool:
    import psycopg

    try:
        world.rows("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def valid_form(messages: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """As validate_clicks writes them: microseconds written out."""
    return [(key, value.replace(b'Z"', b'000Z"', 1)) for key, value in messages]


def invalid_messages() -> list[tuple[str | bytes | None, bytes | None]]:
    """1,000 invalid messages of more than 50 kinds."""
    now = datetime.now(UTC)
    base = json.dumps(click(1, now)).encode()

    def changed(**changes: object) -> bytes:
        return json.dumps(click(1, now, **changes)).encode()

    without = [
        json.dumps({k: v for k, v in click(1, now).items() if k != name}).encode()
        for name in list(click(1, now))[1:]
    ]
    kinds = [
        *without,
        None,
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe\x00",
        base[:-20],
        base + b"x",
        base + base,
        b"\xef\xbb\xbf" + base,
        b"[" * 60_000,
        b"x" * 500_000,
        base.replace(b"0.25", b"NaN"),
        base.replace(b"0.25", b"Infinity"),
        base.replace(b"0.25", b"1e400"),
        base.replace(b"0.25", b"-0.01"),
        base.replace(b"0.25", b"9" * 400),
        base.replace(b"Mozilla", b"\\ud800"),
        base.replace(b"Mozilla", b"\xc3\x28"),
        changed(CPC="0.25"),
        changed(CTR=1.01),
        changed(CTR=True),
        changed(CTR=None),
        changed(bounce_rate=-0.1),
        changed(conversion=2),
        changed(conversion=0.5),
        changed(conversion="1"),
        changed(geo="usa"),
        changed(geo="us"),
        changed(geo="US\n"),
        changed(geo="ÄÖ"),
        changed(platform="tv"),
        changed(platform=["web"]),
        changed(ad_id="ad_"),
        changed(ad_id="ad_1 "),
        changed(ad_id="ad_١"),
        changed(campaign_id="camp-1"),
        changed(user_id_hash="ABCDEF0123456789"),
        changed(user_id_hash="0" * 15),
        changed(user_id_hash="0" * 65),
        changed(user_agent=""),
        changed(user_agent="a\0b"),
        changed(user_agent="x" * 1025),
        changed(user_agent=5),
        changed(event_id="not-a-uuid"),
        changed(event_id=None),
        changed(timestamp="2026-11-22 10:00:00"),
        changed(timestamp="2026-02-30T10:00:00Z"),
        changed(timestamp="2026-11-22T10:00:00+00:00"),
        changed(timestamp="2099-01-01T00:00:00Z"),
        changed(timestamp="1999-01-01T00:00:00Z"),
        changed(timestamp=1700000000),
    ]
    assert len(kinds) > 50
    keys = ("US|web", None, b"\xff\x00", "")
    return [(keys[n % 4], kinds[n % len(kinds)]) for n in range(1000)]


def test_invalid_messages_are_dead_letters_byte_for_byte(world):
    good, bad = clicks(), invalid_messages()
    mixed = good + bad
    random.Random(7).shuffle(mixed)
    world.send(mixed)
    process = world.start("validate_clicks")
    world.wait(
        "all is validated", lambda: len(world.read("dead")) + len(world.read("valid")) >= len(mixed)
    )
    dead = world.read("dead")
    assert Counter((_bytes(m.key()), m.value()) for m in dead) == Counter(
        (_bytes(key), value) for key, value in bad
    )
    assert ids(world.read("valid")) == EXPECTED
    for message in dead:
        headers = dict(message.headers())
        assert headers["source.topic"] == world.topics["raw"].encode()
        assert headers["error.field"]
        assert headers["error.rule"]
        assert len(headers["error.value"].decode()) <= 1000
    assert stop(process) == 0


def _bytes(key: str | bytes | None) -> bytes | None:
    return key.encode() if isinstance(key, str) else key
