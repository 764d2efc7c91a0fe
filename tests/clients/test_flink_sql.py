"""The SQL around the window SELECT.

integration/test_windows.py checks the computed windows on a real Flink.
"""

import hashlib
import itertools
import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from adnomaly.clients.flink_sql import batch_script, stream_script
from adnomaly.clients.flink_tables import Topics
from adnomaly.events import COLUMNS
from adnomaly.features import FEATURES, Feature
from adnomaly.windows import SIZE, SLIDE, window_sql

TOPICS = Topics("localhost:1", "valid", "windows", "late")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
COST = Feature("cpc_avg", "float64", "money", 0, None, "AVG(cpc)")


def batch(start: datetime, end: datetime, parts: int = 2):
    return batch_script(
        "job", start, end, lake="s3://b/clicks", outputs=[f"s3://b/out/{n}" for n in range(parts)]
    )


def test_one_select_in_stream_and_batch():
    assert window_sql("clicks") in stream_script("job", TOPICS).inserts[0]
    for number, insert in enumerate(batch(NOON, NOON + timedelta(days=1)).inserts):
        assert window_sql(f"clicks_{number}") in insert


def test_every_column_of_a_click_comes_from_its_field():
    source = stream_script("job", TOPICS).tables[0]
    for column in COLUMNS:
        assert f"`{column.field}` " in source
        assert column.name == column.field or f"`{column.name}` AS `{column.field}`" in source


def test_a_feature_is_one_entry():
    features = (*FEATURES, COST)
    stream = stream_script("job", TOPICS, features=features)
    scripts = [
        stream,
        batch_script("job", NOON, NOON + SIZE, lake="l", outputs=["o"], features=features),
    ]
    for script in scripts:
        assert any("cpc_avg DOUBLE" in table for table in script.tables)
        assert "AVG(cpc) AS cpc_avg" in script.inserts[0]
        assert "MAX(cpc_avg) FILTER (WHERE kind = 3) AS cpc_avg" in script.inserts[0]
    assert stream.fingerprint != stream_script("job", TOPICS).fingerprint


def test_a_checkpoint_fits_while_name_columns_topics_and_inserts_are_the_same():
    script = stream_script("job", TOPICS)
    assert script.fits(stream_script("job", TOPICS).fingerprint)
    for other in (
        stream_script("another job", TOPICS),
        stream_script("job", TOPICS, since=NOON),
        stream_script("job", TOPICS, features=(*FEATURES, COST)),
        stream_script("job", msgspec.structs.replace(TOPICS, clicks="other")),
        stream_script("job", msgspec.structs.replace(TOPICS, late="other")),
    ):
        assert not script.fits(other.fingerprint)


def test_another_address_needs_another_job_with_the_same_checkpoint():
    script = stream_script("job", TOPICS)
    moved = stream_script("job", msgspec.structs.replace(TOPICS, bootstrap="kafka-2:9092"))
    assert moved.digest != script.digest
    assert moved.fits(script.fingerprint)


def test_a_checkpoint_of_an_earlier_version_fits():
    """Its fingerprint was that of the whole text."""
    script = stream_script("job", TOPICS)
    whole = {"name": script.name, "streaming": True, "tables": script.tables}
    text = msgspec.json.encode(whole | {"inserts": script.inserts})
    assert script.fits(hashlib.sha256(text).hexdigest())


def test_a_start_in_the_middle_reads_every_click_of_its_first_window():
    script = stream_script("job", TOPICS, since=NOON)
    written = int(re.search(r"'scan.startup.timestamp-millis' = '(\d+)'", script.tables[0])[1])
    assert datetime.fromtimestamp(written / 1000, UTC) <= NOON - timedelta(minutes=1)
    assert "WHERE window_start >= TIMESTAMP '2026-11-22 12:00:00'" in script.inserts[0]


@pytest.mark.parametrize(
    ("start", "end", "parts"),
    [
        (NOON, NOON + timedelta(days=21), 2),
        (NOON.replace(hour=0), NOON.replace(hour=0) + timedelta(days=1), 2),
        (NOON, NOON + SLIDE, 2),
        (NOON, NOON + 7 * SLIDE, 3),
    ],
)
def test_the_parts_of_a_batch_cover_every_window_once(start, end, parts):
    script = batch(start, end, parts)
    moments = [
        re.findall(r"window_end >? ?<?=? ?TIMESTAMP '([^']+)'", insert) for insert in script.inserts
    ]
    spans = [
        tuple(datetime.fromisoformat(text).replace(tzinfo=UTC) for text in pair) for pair in moments
    ]
    assert spans[0][0] == start
    assert spans[-1][1] == end
    assert all(one[1] == other[0] for one, other in itertools.pairwise(spans))


def test_a_part_reads_the_clicks_of_its_windows_and_the_folders_of_their_hours():
    midnight = NOON.replace(hour=0)
    view = batch(midnight, midnight + timedelta(days=1), parts=1).tables[1]
    # The first window of a day ends at 00:01 and begins at 23:56 of the day before.
    assert (
        "event_time >= TIMESTAMP '2026-11-21 23:56:00' AND event_time < TIMESTAMP '2026-11-23 00:00:00'"
        in view
    )
    assert "dt = '2026-11-21' AND hr >= '23'" in view
    assert "dt = '2026-11-22' AND hr <= '23'" in view


def test_times_of_another_zone_are_those_of_utc():
    from zoneinfo import ZoneInfo

    there = NOON.astimezone(ZoneInfo("Asia/Kolkata"))
    assert batch(there, there + SIZE) == batch(NOON, NOON + SIZE)
