"""Windows of the stream, minute by minute, score as in a file."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from adnomaly.alerts import ScoredWindow
from adnomaly.errors import Unavailable
from adnomaly.scoring.live import LiveScorer
from adnomaly.settings import SECRETS, Settings
from adnomaly.stores.bundles import CURRENT, BundleStore
from adnomaly.stores.window_arrow import as_windows
from tests.detector.test_detector import LIVE, LIVE_HOURS
from tests.detector.test_detector import files as files


class Stored:
    """`anomaly_results` in memory."""

    def __init__(self) -> None:
        self.rows: list[ScoredWindow] = []

    def windows(self, start: datetime, end: datetime) -> list:
        return [r.window for r in self.rows if start < r.window.window_end <= end]

    def last_incidents(self, start: datetime, end: datetime, model_version: str) -> list[tuple]:
        rows = [
            r
            for r in self.rows
            if r.incident_id
            and start < r.window.window_end <= end
            and r.model_version == model_version
        ]
        last = {
            (r.window.geo, r.window.platform): r
            for r in sorted(rows, key=lambda r: r.window.window_end)
        }
        return [
            (geo, platform, r.window.window_end, r.incident_id)
            for (geo, platform), r in last.items()
        ]


@pytest.fixture(scope="module")
def bundles(files, tmp_path_factory):
    """A folder of bundles in which the one of `files` is deployed."""
    from adnomaly.bundle.bundle import MANIFEST_FILE, seal

    folder = tmp_path_factory.mktemp("bundles")
    sealed = seal(
        folder,
        {f.name: f.read_bytes() for f in (files / "bundle").iterdir() if f.name != MANIFEST_FILE},
    )
    BundleStore(folder).set_current(sealed.name)
    return folder


def scorer(stored: Stored, bundles) -> LiveScorer:
    settings = Settings(_env_file=None, **{name.lower(): "x" * 32 for name in SECRETS})
    made = LiveScorer(stored, BundleStore(bundles), settings)
    made.load_current()
    return made


def minutes(files, first: int, last: int) -> list[list]:
    """The live windows by window_end."""
    live = pq.read_table(files / "live.parquet")
    found = []
    for minute in range(first, last):
        end = LIVE + timedelta(minutes=minute)
        found.append(as_windows(live.filter(pc.equal(live["window_end"], end))))
    return [windows for windows in found if windows]


def run(stored: Stored, made: LiveScorer, parts: list[list]) -> list:
    silences = []
    for windows in parts:
        batch = made.score(windows)
        stored.rows += batch.scored
        silences += batch.silences
        made.commit(batch)
    return silences


def test_the_stream_scores_as_the_file(files, bundles):
    """Across a restart, in steps of a minute and of half an hour; equal except for rounding."""
    stored = Stored()
    parts = minutes(files, 0, 60 * LIVE_HOURS)
    bulk = [[w for windows in parts[i : i + 30] for w in windows] for i in range(0, 330, 30)]
    run(stored, scorer(stored, bundles), bulk)
    run(stored, scorer(stored, bundles), parts[330:400])
    run(stored, scorer(stored, bundles), parts[400:420])
    table = (
        pq.read_table(files / "scores.parquet")
        .to_pandas()
        .set_index(["geo", "platform", "window_end"])
    )
    assert len(stored.rows) == sum(map(len, parts[:420]))
    flagged = 0
    for row in stored.rows:
        in_file = table.loc[(row.window.geo, row.window.platform, row.window.window_end)]
        assert row.anomaly_score == pytest.approx(in_file.anomaly_score, abs=1e-3)
        assert row.is_anomaly == in_file.is_anomaly
        assert row.incident_id == in_file.incident_id
        assert row.explanation.z["event_count"] == pytest.approx(in_file.z_event_count, abs=0.05)
        flagged += row.is_anomaly
    assert flagged > 20


def test_an_alert_says_why_in_one_sentence(files, bundles):
    stored = Stored()
    run(stored, scorer(stored, bundles), minutes(files, 300, 420))
    worst = max((r for r in stored.rows if r.is_anomaly), key=lambda r: r.anomaly_score)
    message = worst.alert()
    assert message["kind"] == "anomaly"
    assert message["incident_id"].startswith("US|web@2026-03-17T06:")
    assert message["explanation"]["summary"].startswith("US web: ")
    assert (
        "0.27 times the expected distinct users per click (0.245 instead of 0.909)"
        in message["explanation"]["summary"]
    )
    assert sum(map(abs, message["explanation"]["share"].values())) == pytest.approx(1)


def test_a_silent_entity_and_an_outage_are_reported_once_by_kind(files, bundles):
    stored, made = Stored(), None
    parts = minutes(files, 0, 200)
    quiet = [
        [w for w in windows if not (w.key == "DE|web" and 40 <= i < 80)]
        for i, windows in enumerate(parts)
    ]
    made = scorer(stored, bundles)
    silences = run(stored, made, [*quiet[:120], *quiet[150:]])
    assert [(s.kind, s.geo, s.platform) for s in silences] == [
        ("silence", "DE", "web"),
        ("platform outage", None, None),
    ]
    assert (
        silences[0]
        .alert()["explanation"]["summary"]
        .startswith("DE web: no clicks since 2026-03-17T00:")
    )


def test_a_new_entity_warms_up(files, bundles):
    stored = Stored()
    (windows,) = minutes(files, 100, 101)
    import msgspec

    run(
        stored, scorer(stored, bundles), [[*windows, msgspec.structs.replace(windows[0], geo="FR")]]
    )
    (new,) = [r for r in stored.rows if r.window.geo == "FR"]
    assert (new.anomaly_score, new.is_anomaly) == (None, False)
    assert "warming up" in new.explanation.summary


def test_before_a_model_is_deployed_it_waits(tmp_path):
    with pytest.raises(Unavailable, match="no model yet"):
        scorer(Stored(), tmp_path)


def test_a_deployed_model_that_is_broken_changes_nothing(files, bundles, tmp_path):
    import shutil

    folder = tmp_path / "bundles"
    shutil.copytree(bundles, folder)
    made = scorer(Stored(), folder)
    (folder / "0123456789abcdef").mkdir()
    (folder / CURRENT).write_text("0123456789abcdef\n")
    made.load_current()
    (windows,) = minutes(files, 100, 101)
    assert {r.model_version for r in made.score(windows).scored} == {
        (bundles / CURRENT).read_text().strip()
    }


def test_times_of_scored_windows_are_utc(files, bundles):
    stored = Stored()
    run(stored, scorer(stored, bundles), minutes(files, 100, 101))
    assert all(
        np.isfinite(r.anomaly_score) and r.window.window_end.tzinfo is not None for r in stored.rows
    )
    assert {r.window.window_end for r in stored.rows} == {datetime(2026, 3, 17, 1, 40, tzinfo=UTC)}
