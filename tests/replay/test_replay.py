"""Replay of foreign click logs without servers: map, files, pace, and a result for every row."""

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adnomaly.errors import BadInput
from adnomaly.events import decode
from adnomaly.replay import example, send
from adnomaly.replay.command import _pace
from adnomaly.replay.mapping import FIELDS, Unmapped, load
from adnomaly.replay.read import lines

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SALT = b"salt"


class Box:
    """A sender that keeps its messages."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bytes]] = []
        self.flushed = 0

    def send(self, key: bytes, value: bytes) -> None:
        self.messages.append((key, value))

    def poll(self) -> None: ...

    def flush(self) -> None:
        self.flushed += 1


@pytest.fixture
def farm(tmp_path) -> tuple[Path, Path]:
    return example.write(tmp_path)


def a_map(folder: Path, **changes: str) -> Path:
    """The example's map with some tables replaced."""
    parts = dict(part.split("]\n", 1) for part in example.MAP_TEXT.split("\n[")[1:])
    parts |= changes
    file = folder / "m.toml"
    file.write_text(
        "".join(f"[{name}]\n{body}\n" for name, body in parts.items() if body is not None)
    )
    return file


def run(file: Path, map_file: Path, **options) -> tuple[send.ReplayReport, Box]:
    clicks, box = load(map_file, SALT), Box()
    log = send.scan([file], clicks)
    settings = {"shift": timedelta(0), "speed": None, "say": lambda _: None} | options
    return send.replay([file], clicks, box, log, **settings), box


def test_every_row_is_sent_or_named(farm):
    report, box = run(*farm)
    assert (report.read, report.sent, len(box.messages)) == (1502, 1500, 1500)
    assert sum(report.unmapped.values()) == 2
    assert "timestamp: is no moment of the form %d/%m/%Y %H:%M:%S" in report.unmapped
    assert (
        "platform: is not among the values of the map, and there is no default" in report.unmapped
    )
    assert all("row 150" in place for place in report.examples.values())
    assert box.flushed == 1


def test_sent_messages_are_valid_clicks(farm):
    _, box = run(*farm)
    clicks = [decode(value) for _, value in box.messages]
    assert {key for key, _ in box.messages} == {b"DE|web"}
    assert len({c.user_id_hash for c in clicks}) == example.ADDRESSES
    assert clicks[0].timestamp.startswith(
        "2017-11-07T08:30"
    )  # Berlin is an hour ahead of UTC in November
    assert all(c.ad_id[3:].isdigit() and c.campaign_id[5:].isdigit() for c in clicks)
    assert b"198.51.100" not in b"".join(value for _, value in box.messages)


def test_ids_are_those_of_content_and_shift(farm, tmp_path):
    ids = lambda box: [decode(value).event_id for _, value in box.messages]  # noqa: E731
    one, again, moved = (ids(run(*farm, shift=timedelta(seconds=s))[1]) for s in (0, 0, 60))
    assert one == again
    assert not set(one) & set(moved)
    copy = tmp_path / "copy.csv"
    copy.write_bytes(farm[0].read_bytes())
    assert ids(run(copy, farm[1])[1]) == one


def test_the_shift_moves_every_row_by_the_same_time(farm):
    log = send.scan([farm[0]], load(farm[1], SALT))
    ends, begins = (send.shift_of(log, now=NOW, to_now=True, speed=speed) for speed in (None, 1.0))
    assert log.last + ends == NOW
    assert log.first + begins == NOW
    assert send.shift_of(log, now=NOW, to_now=False, speed=None) == timedelta(0)


def test_a_log_that_validation_would_reject_is_refused(farm):
    log = send.scan([farm[0]], load(farm[1], SALT))
    with pytest.raises(BadInput, match="add --shift-to-now, or raise MAX_EVENT_AGE_HOURS"):
        send.check_age(log, timedelta(0), now=NOW, max_age=timedelta(hours=168))
    send.check_age(log, NOW - log.last, now=NOW, max_age=timedelta(hours=168))
    with pytest.raises(BadInput, match="in the future"):
        send.check_age(
            log, timedelta(0), now=log.first - timedelta(days=1), max_age=timedelta(hours=168)
        )


@pytest.mark.parametrize("speed", [1.0, 60.0])
def test_the_pace_is_that_of_the_log(farm, speed):
    clock = [100.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    run(*farm, speed=speed, clock=lambda: clock[0], sleep=sleep)
    assert clock[0] - 100 == pytest.approx(600 / speed, abs=1.5)


def test_it_stops_when_it_is_asked_to(farm):
    seen = []
    report, box = run(*farm, stopping=lambda: len(seen) > 10 or bool(seen.append(1)))
    assert report.stopped
    assert report.read == len(box.messages) == 11
    assert box.flushed == 1


def test_disorder_is_counted(tmp_path):
    rows = [
        "click_time",
        "07/11/2017 10:00:00",
        "07/11/2017 10:01:00",
        "07/11/2017 10:00:20",
        "07/11/2017 10:00:40",
    ]
    (tmp_path / "d.csv").write_text(
        "ip,app,channel,os,country,price,is_attributed,"
        + rows[0]
        + "\n"
        + "".join(f"1,2,3,607,DE,0.1,0,{t}\n" for t in rows[1:])
    )
    assert send.scan([tmp_path / "d.csv"], load(a_map(tmp_path), SALT)).behind == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"timestamp": None}, r"\[timestamp\] is missing"),
        ({"country": 'value = "DE"'}, r"\[country\] is no field of a click"),
        ({"geo": 'column = "a"\nvalue = "DE"'}, r"\[geo\] has column and value; give exactly one"),
        ({"geo": ""}, r"\[geo\] has none of column, value and hash"),
        ({"geo": 'colum = "a"'}, "unknown field `colum`"),
        ({"user_id_hash": 'value = "me"'}, r"one user for all clicks hides bots"),
        ({"timestamp": 'value = "now"'}, r"a click's moment comes from a column"),
        (
            {"timestamp": 'column = "click_time"\nzone = "Mars/Base"'},
            r"zone 'Mars/Base' is not known",
        ),
        (
            {"geo": 'value = "DE"\ndefault = "US"'},
            r"\[geo\] has values or default without a column",
        ),
        ({"geo": "value = "}, "is not TOML"),
    ],
)
def test_a_mistake_in_the_map_is_one_line_with_the_fix(tmp_path, changes, said):
    with pytest.raises(BadInput, match=said) as caught:
        load(a_map(tmp_path, **changes), SALT)
    assert "\n" not in str(caught.value)


def test_a_column_that_is_not_there_is_named_with_those_that_are(farm, tmp_path):
    clicks = load(a_map(tmp_path, geo='column = "land"'), SALT)
    with pytest.raises(BadInput, match="no column 'land'; it has ip, app"):
        send.scan([farm[0]], clicks)


def test_csv_json_lines_and_parquet_say_the_same(farm, tmp_path):
    columns = load(farm[1], SALT).columns
    rows = [line.values for line in lines(farm[0], columns)]
    (tmp_path / "f.jsonl.gz").write_bytes(
        gzip.compress(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    )
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "f.parquet")
    (tmp_path / "f.csv.gz").write_bytes(gzip.compress(farm[0].read_bytes()))
    for name in ("f.jsonl.gz", "f.parquet", "f.csv.gz"):
        assert [line.values for line in lines(tmp_path / name, columns)] == rows, name


def test_invalid_rows_are_reported(tmp_path):
    (tmp_path / "b.csv").write_bytes(b"a,b\n1,2\n1,2,3\n\xff,2\n4,5\n")
    found = list(lines(tmp_path / "b.csv", ["a", "b"]))
    assert sorted(line.error for line in found if line.values is None) == [
        "has 3 columns instead of 2",
        "is not UTF-8",
    ]
    assert [line.values for line in found if line.values] == [
        {"a": "1", "b": "2"},
        {"a": "4", "b": "5"},
    ]
    (tmp_path / "b.jsonl").write_bytes(b'{"a": 1}\n[]\n{"a"\n')
    assert [line.error for line in lines(tmp_path / "b.jsonl", ["a"])] == [
        "",
        "is not a JSON object",
        "is not a JSON object",
    ]


@pytest.mark.parametrize("name", ["none.csv", "x.txt"])
def test_files_that_are_none_are_named(tmp_path, name):
    with pytest.raises(BadInput, match=name):
        list(lines(tmp_path / name, ["a"]))


@pytest.mark.parametrize(
    ("speed", "factor"), [("max", None), ("1x", 1.0), ("60x", 60.0), ("0.5x", 0.5)]
)
def test_speeds(speed, factor):
    assert _pace(speed) == factor


@pytest.mark.parametrize("speed", ["fast", "0x", "-1x", "60"])
def test_other_speeds_are_refused(speed):
    with pytest.raises(BadInput, match="--speed"):
        _pace(speed)


@pytest.fixture(scope="module")
def any_map(tmp_path_factory):
    return load(example.write(tmp_path_factory.mktemp("map"))[1], SALT)


COLUMNS = ["ip", "app", "channel", "os", "country", "click_time", "price", "is_attributed"]


@settings(deadline=None)
@given(values=st.dictionaries(st.sampled_from(COLUMNS), st.text(max_size=30)))
def test_any_row_is_mapped_or_named(any_map, values):
    row = dict.fromkeys(any_map.columns, "") | values
    try:
        fields = any_map.fields(row, any_map.time(row))
    except Unmapped as error:
        fields = {"user_id_hash": str(error).partition(": ")[0]}
    assert (
        fields["user_id_hash"] == fields["user_id_hash"].lower() or fields["user_id_hash"] in FIELDS
    )
