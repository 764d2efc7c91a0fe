"""Window files and specs of users: accepted forms, and error messages."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from adnomaly.detector.grid import Cadence, to_grid
from adnomaly.detector.spec import Spec
from adnomaly.detector.windows import read_windows
from adnomaly.errors import BadInput
from adnomaly.evaluation.labels import read_labels

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def rows(count: int = 6, **changes) -> dict[str, list]:
    ends = [NOON + timedelta(minutes=i) for i in range(count)]
    columns = {
        "window_start": [end - timedelta(minutes=5) for end in ends],
        "window_end": ends,
        "geo": ["DE"] * count,
        "platform": ["web"] * count,
        "ctr_avg": [0.02] * count,
        "bounce_rate_avg": [0.4] * count,
        "event_count": list(range(1, count + 1)),
    }
    return {name: values for name, values in (columns | changes).items() if values is not None}


def write(folder: Path, columns: dict[str, list], name: str = "w.parquet") -> Path:
    file, table = folder / name, pa.table(columns)
    if ".csv" in name:
        pyarrow.csv.write_csv(table, file)
    else:
        pq.write_table(table, file)
    return file


def test_parquet_and_csv_say_the_same(tmp_path):
    one, ignored = read_windows(write(tmp_path, rows(note=["x"] * 6)), Spec.ours())
    other, _ = read_windows(write(tmp_path, rows(), "w.csv"), Spec.ours())
    assert ignored == ["note"]
    assert one.names == other.names == ("DE|web",)
    for a, b in zip(one[1:], other[1:], strict=True):
        assert np.array_equal(a, b, equal_nan=True)
    assert one.end_s[0] == int(NOON.timestamp())
    assert np.isnan(one.values[:, 3:]).all()


def test_times_without_a_zone_are_utc_and_texts_are_read(tmp_path):
    naive = {
        name: [m.replace(tzinfo=None) for m in rows()[name]]
        for name in ("window_start", "window_end")
    }
    texts = {
        name: [f"{m:%Y-%m-%dT%H:%M:%SZ}" for m in rows()[name]]
        for name in ("window_start", "window_end")
    }
    for changed in (naive, texts):
        windows, _ = read_windows(write(tmp_path, rows(**changed)), Spec.ours())
        assert windows.end_s[0] == int(NOON.timestamp())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ctr_avg": None}, r"no column 'ctr_avg'"),
        ({"geo": ["DE", None, "DE", "DE", "DE", "DE"]}, r"'geo', row 2: is missing"),
        (
            {"ctr_avg": [0.02, 0.02, float("nan"), 0.02, 0.02, 0.02]},
            r"'ctr_avg', row 3: nan is missing; leave out the row",
        ),
        (
            {"ctr_avg": [0.02, 1.7, 0.02, 0.02, 0.02, 0.02]},
            r"'ctr_avg', row 2: 1.7 must be at most 1",
        ),
        (
            {"bounce_rate_avg": [0.1, 0.1, 0.1, 0.1, -0.1, 0.1]},
            r"'bounce_rate_avg', row 5: -0.1 must not be below 0",
        ),
        (
            {"bounce_rate_avg": [0.1, 0.1, 0.1, float("inf"), 0.1, 0.1]},
            r"row 4: inf must be finite",
        ),
        ({"event_count": ["one"] * 6}, r"'event_count' holds string, not numbers"),
        ({"window_end": ["noon"] * 6}, r"'window_end' holds an invalid timestamp"),
        ({"window_end": [1, 2, 3, 4, 5, 6]}, r"'window_end' holds int64, not timestamps"),
        (
            {"window_start": [NOON + timedelta(minutes=i) for i in range(6)]},
            r"'window_end', row 1: must be after window_start",
        ),
        (
            {"window_end": [NOON + timedelta(minutes=i) for i in (0, 1, 2, 2, 3, 4)]},
            r"row 4: repeats the window of DE\|web of row 3",
        ),
    ],
)
def test_errors_name_column_row_and_fix(tmp_path, changes, message):
    with pytest.raises(BadInput, match=message) as caught:
        read_windows(write(tmp_path, rows(**changes)), Spec.ours())
    assert "\n" not in str(caught.value)


def test_an_exact_repeat_of_a_row_is_only_logged(tmp_path, caplog):
    columns = {name: [*values, values[-1]] for name, values in rows().items()}
    windows, _ = read_windows(write(tmp_path, columns), Spec.ours())
    assert len(windows) == 7
    assert "are exact repeats" in caplog.text


def test_files_that_are_none_are_named(tmp_path):
    with pytest.raises(BadInput, match="there is no such file"):
        read_windows(tmp_path / "none.parquet", Spec.ours())
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    with pytest.raises(BadInput, match="cannot be read as Parquet"):
        read_windows(tmp_path / "bad.parquet", Spec.ours())
    with pytest.raises(BadInput, match="holds no rows"):
        read_windows(
            write(tmp_path, {name: values[:0] for name, values in rows().items()}, "empty.csv"),
            Spec.ours(),
        )


def test_the_cadence_is_read_from_the_data(tmp_path):
    windows, _ = read_windows(write(tmp_path, rows()), Spec.ours())
    assert Cadence.of(windows) == Cadence(300, 60)
    assert Cadence.of(windows).overlaps
    grid, places = to_grid(windows, Cadence.of(windows))
    assert grid.values.shape == (6, 1, 5)
    assert places[:, 0].tolist() == list(range(6))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one feature"),
        ('entity = ["s"]\n[[feature]]\nname = "v"\nkind = "rate"', "Invalid enum value 'rate'"),
        ('entity = ["s"]\n[[feature]]\nname = "v"', "missing required field `kind`"),
        ('entitys = ["s"]', "unknown key 'entitys'"),
        (
            'entity = ["s"]\n[[feature]]\nname = "v"\nkind = "ratio"\nweight_by = "n"',
            "weight_by of v is 'n'",
        ),
        ('entity = ["v"]\n[[feature]]\nname = "v"\nkind = "level"', "use every name once"),
        ("entity = [", "is not TOML"),
    ],
)
def test_a_spec_is_read_strictly(tmp_path, text, message):
    (tmp_path / "SPEC.toml").write_text(text)
    with pytest.raises(BadInput, match=message):
        Spec.load(tmp_path / "SPEC.toml")


def test_a_spec_names_other_data(tmp_path):
    text = """
    entity = ["shop"]
    [[feature]]
    name = "visits"
    kind = "count"
    [[feature]]
    name = "bought"
    kind = "ratio"
    weight_by = "visits"
    """
    (tmp_path / "SPEC.toml").write_text(text)
    spec = Spec.load(tmp_path / "SPEC.toml")
    assert (spec.entity, spec.names, spec.volume, spec.weight(1)) == (
        ("shop",),
        ("visits", "bought"),
        0,
        0,
    )
    assert Spec.ours().names[:3] == ("ctr_avg", "bounce_rate_avg", "event_count")
    assert Spec.ours().volume == 2


def test_labels_as_events_and_as_windows_say_the_same(tmp_path):
    start, end = NOON, NOON + timedelta(minutes=10)
    events = write(
        tmp_path,
        {"start": [start], "end": [end], "geo": ["DE"], "platform": ["web"], "kind": ["flood"]},
        "e.parquet",
    )
    ends = [NOON + timedelta(minutes=i) for i in range(1, 15)]
    columns = {
        "window_end": ends,
        "geo": ["DE"] * 14,
        "platform": ["web"] * 14,
        "label": [1] * 14,
        "kind": ["flood"] * 14,
    }
    windows = write(tmp_path, columns, "l.csv")
    one, other = (read_labels(file, ("geo", "platform"), 300, 60) for file in (events, windows))
    assert one[0][:4] == other[0][:4]
    assert len(one) == len(other) == 1


def test_labels_without_their_columns_are_refused(tmp_path):
    file = write(tmp_path, {"geo": ["DE"], "platform": ["web"], "when": [NOON]})
    with pytest.raises(BadInput, match="start and end, or window_end and label"):
        read_labels(file, ("geo", "platform"), 300, 60)
