"""Generated history, progress after a restart, and recorded ground truth."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from adnomaly.attacks import Attack, read_ground_truth
from adnomaly.delivery_log import HEADER, DeliveryLog
from adnomaly.errors import InvalidSetting
from adnomaly.generator_state import (
    GeneratorFiles,
    Plan,
    SentSpans,
    first_moment,
    microseconds,
)
from adnomaly.home import Home
from adnomaly.pipelines.generate_history import generate_history, run
from adnomaly.settings import SECRETS, Settings
from adnomaly.synthetic.click_source import ClickSource
from adnomaly.synthetic.encode import MessageEncoder, to_table
from adnomaly.synthetic.traffic import Traffic, minute_of

MIDNIGHT = datetime(2026, 11, 16, tzinfo=UTC)
HOUR = timedelta(hours=1)


class MemoryLake:
    """Keeps the newest table of each hour and source, as the lake promises."""

    def __init__(self) -> None:
        self.hours: dict[tuple[datetime, str], pa.Table] = {}

    def history_hours(self, start: datetime, end: datetime) -> set[datetime]:
        return {hour for hour, _ in self.hours if start <= hour < end}

    def write_history(self, hour: datetime, table: pa.Table, source_id: str) -> None:
        self.hours[hour, source_id] = table

    @property
    def clicks(self) -> pa.Table:
        return pa.concat_tables(self.hours[key] for key in sorted(self.hours))


class BrokenLake:
    def write_history(self, hour: datetime, table: pa.Table, source_id: str) -> None:
        raise OSError(f"no room for {hour}")


def make(tmp_path, **changes) -> Settings:
    secrets = {name.lower(): "x" * 32 for name in SECRETS}
    return Settings(
        _env_file=None, **(secrets | {"adnomaly_home": tmp_path, "base_eps": 2} | changes)
    )


def test_history_is_whole_hours_of_the_same_clicks_as_the_stream(tmp_path):
    traffic, lake = Traffic.from_settings(make(tmp_path)), MemoryLake()
    count = generate_history(lake, traffic, start=MIDNIGHT, end=MIDNIGHT + 3 * HOUR)
    assert [hour for hour, _ in sorted(lake.hours)] == [MIDNIGHT + i * HOUR for i in range(3)]
    live = ClickSource(traffic)
    assert lake.clicks.equals(to_table(live.clicks(minute_of(MIDNIGHT), 180), live))
    assert count == lake.clicks.num_rows > 2000


def test_history_again_changes_nothing(tmp_path):
    traffic, lake = Traffic.from_settings(make(tmp_path)), MemoryLake()
    generate_history(lake, traffic, start=MIDNIGHT, end=MIDNIGHT + HOUR)
    before = dict(lake.hours)
    generate_history(lake, traffic, start=MIDNIGHT, end=MIDNIGHT + HOUR)
    assert all(lake.hours[key].equals(table) for key, table in before.items())
    assert len(lake.hours) == 1


def test_history_leaves_out_clicks_sent_live(tmp_path):
    traffic, whole, rest = Traffic.from_settings(make(tmp_path)), MemoryLake(), MemoryLake()
    sent = SentSpans(sent=((MIDNIGHT + 0.5 * HOUR, MIDNIGHT + 2 * HOUR),))
    generate_history(whole, traffic, start=MIDNIGHT, end=MIDNIGHT + 3 * HOUR)
    generate_history(rest, traffic, start=MIDNIGHT, end=MIDNIGHT + 3 * HOUR, sent=sent)
    times = [row["timestamp"] for row in whole.clicks.to_pylist()]
    expected = whole.clicks.filter(
        pa.array([not MIDNIGHT + 0.5 * HOUR <= t < MIDNIGHT + 2 * HOUR for t in times])
    )
    assert rest.clicks.equals(expected)
    assert (MIDNIGHT + HOUR, "history") not in rest.hours


def test_an_error_of_the_lake_is_not_swallowed(tmp_path):
    with pytest.raises(OSError, match="no room"):
        generate_history(
            BrokenLake(), Traffic.from_settings(make(tmp_path)), start=MIDNIGHT, end=MIDNIGHT + HOUR
        )


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (MIDNIGHT, MIDNIGHT),
        (MIDNIGHT + 0.5 * HOUR, MIDNIGHT + HOUR),
        (MIDNIGHT, MIDNIGHT + 1.5 * HOUR),
    ],
)
def test_history_needs_whole_hours(tmp_path, start, end):
    with pytest.raises(InvalidSetting, match="whole hours"):
        generate_history(MemoryLake(), Traffic.from_settings(make(tmp_path)), start=start, end=end)


def test_the_run_plants_attacks_and_notes_its_end(tmp_path):
    settings, lake, now = make(tmp_path), MemoryLake(), MIDNIGHT + 13.4 * HOUR
    calm = run(lake, settings, days=1 / 12, end="-2h", now=now)
    assert [hour for hour, _ in sorted(lake.hours)] == [MIDNIGHT + 9 * HOUR, MIDNIGHT + 10 * HOUR]
    attacked = run(
        lake,
        settings,
        days=1 / 12,
        end="-2h",
        attacks=["bot_farm:US:web:2026-11-16T09:30Z:20m:3"],
        now=now,
    )
    assert attacked > calm
    files = GeneratorFiles(Home(tmp_path))
    assert files.read_history().end == MIDNIGHT + 11 * HOUR
    assert [str(attack) for attack in read_ground_truth(files.truth)] == [
        "US web bot_farm 2026-11-16T09:30Z..2026-11-16T09:50Z"
    ]


def test_the_default_history_ends_at_the_last_midnight_and_can_have_another_rate(tmp_path):
    lake = MemoryLake()
    count = run(lake, make(tmp_path), days=1 / 24, base_eps=6, now=MIDNIGHT + 13.4 * HOUR)
    assert list(lake.hours) == [(MIDNIGHT - HOUR, "history")]
    assert GeneratorFiles(Home(tmp_path)).read_history().base_eps == 6
    minutes = np.arange(minute_of(MIDNIGHT - HOUR), minute_of(MIDNIGHT))
    assert count == pytest.approx(
        Traffic.from_settings(make(tmp_path), base_eps=6).volume(minutes).sum(), rel=0.05
    )


def test_another_rate_does_not_go_over_existing_hours_unless_it_is_asked_for(tmp_path):
    settings, now = make(tmp_path, base_eps=1.0), MIDNIGHT + 13.4 * HOUR
    lake = MemoryLake()
    first = run(lake, settings, days=1 / 12, base_eps=4, now=now)
    assert run(lake, settings, days=1 / 12, now=now) == first  # the rate of what is there
    before = dict(lake.hours)
    with pytest.raises(InvalidSetting, match=r"base_eps 9: .*T22:00Z to .* of 4 clicks per second"):
        run(lake, settings, days=1, base_eps=9, now=now)
    assert lake.hours == before
    run(lake, settings, days=1 / 24, end="2026-11-15T03:00Z", base_eps=9, now=now)
    assert run(lake, settings, days=1 / 24, base_eps=9, replace=True, now=now) > first
    spans = GeneratorFiles(Home(tmp_path)).read_history().spans
    assert [(span.start, span.end, span.base_eps) for span in spans] == [
        (MIDNIGHT - 22 * HOUR, MIDNIGHT - 21 * HOUR, 9),
        (MIDNIGHT - 2 * HOUR, MIDNIGHT - HOUR, 4),
        (MIDNIGHT - HOUR, MIDNIGHT, 9),
    ]


def test_without_a_history_the_rate_is_that_of_the_generator(tmp_path):
    settings, now = make(tmp_path, base_eps=1.0), MIDNIGHT + 13.4 * HOUR
    GeneratorFiles(Home(tmp_path)).write_plan(Plan(base_eps=3.0, instead_of=1.0))
    run(MemoryLake(), settings, days=1 / 24, now=now)
    assert GeneratorFiles(Home(tmp_path)).read_history().base_eps == 3


def test_the_history_of_an_earlier_version_has_an_end_and_no_rate(tmp_path):
    files = GeneratorFiles(Home(tmp_path))
    files.history.parent.mkdir(parents=True)
    files.history.write_text('"2026-11-16T11:00:00Z"')
    history = files.read_history()
    assert (history.end, history.base_eps) == (MIDNIGHT + 11 * HOUR, None)


# Progress


def test_a_restart_continues_a_span_and_a_gap_begins_another():
    progress = (
        SentSpans()
        .extended(MIDNIGHT, MIDNIGHT + HOUR)
        .extended(MIDNIGHT + HOUR, MIDNIGHT + 2 * HOUR)
    )
    assert progress.sent == ((MIDNIGHT, MIDNIGHT + 2 * HOUR),)
    progress = progress.extended(MIDNIGHT + 5 * HOUR, MIDNIGHT + 6 * HOUR)
    assert progress.next == MIDNIGHT + 6 * HOUR
    times = np.array([microseconds(MIDNIGHT + hours * HOUR) for hours in (0, 1.9, 2, 4.9, 5, 6)])
    assert progress.covers(times).tolist() == [True, True, False, False, True, False]


def test_progress_keeps_microseconds(tmp_path):
    files, at = GeneratorFiles(Home(tmp_path)), MIDNIGHT + timedelta(microseconds=123_457)
    assert files.read_progress() == SentSpans()
    files.write_progress(SentSpans().extended(MIDNIGHT, at))
    assert files.read_progress().next == at
    assert microseconds(at) % 1_000_000 == 123_457


@pytest.mark.parametrize(
    ("wanted", "sent", "history", "expected"),
    [
        (None, None, None, 10),
        (8, None, None, 8),
        (8, 9, None, 9),
        (8, 7, None, 8),
        (8, 6, 7, 8),
        (6, None, 7, 7),
        (None, 9, 8, 9),
        (12, None, None, 10),
    ],
)
def test_sending_begins_after_existing_clicks(wanted, sent, history, expected):
    at = lambda hours: None if hours is None else MIDNIGHT + hours * HOUR  # noqa: E731
    progress = SentSpans() if sent is None else SentSpans(sent=((MIDNIGHT, at(sent)),))
    assert first_moment(at(wanted), progress, at(history), now=at(10)) == at(expected)


# Ground truth


def an_attack(**changes) -> Attack:
    return Attack(
        **(
            {
                "kind": "click_flood",
                "geo": "DE",
                "platform": "ios",
                "start": MIDNIGHT,
                "end": MIDNIGHT + HOUR,
                "strength": 1.5,
            }
            | changes
        )
    )


def test_ground_truth_holds_the_planted_attacks_written_once(tmp_path):
    files, late = GeneratorFiles(Home(tmp_path)), an_attack(geo="US")
    assert files.plant([an_attack()], after=MIDNIGHT - HOUR) == [an_attack()]
    planted = files.plant(
        [an_attack(), late, an_attack(geo="FR", end=MIDNIGHT + 0.2 * HOUR)],
        after=MIDNIGHT + 0.5 * HOUR,
    )
    assert planted == [an_attack(geo="US", start=MIDNIGHT + 0.5 * HOUR)]
    assert files.plant([an_attack(), late], after=MIDNIGHT + 0.7 * HOUR) == []
    assert read_ground_truth(files.truth) == [an_attack(), *planted]


def test_a_plan_is_plain_json(tmp_path):
    files = GeneratorFiles(Home(tmp_path))
    assert files.read_plan() == Plan()
    files.write_plan(Plan(begin=MIDNIGHT, attacks=(an_attack(),)))
    assert files.read_plan() == Plan(begin=MIDNIGHT, attacks=(an_attack(),))
    span = '"start": "2026-11-16T00:00:00Z", "end": "2026-11-16T01:00:00Z"'
    files.plan.write_text(
        '{"from": null, "attacks": [{"kind": "bot_farm", "geo": "US", "platform": "web", %s}]}'
        % span
    )
    assert files.read_plan() == Plan(
        attacks=(an_attack(kind="bot_farm", geo="US", platform="web", strength=1.0),)
    )


def test_a_broken_plan_is_named(tmp_path):
    files = GeneratorFiles(Home(tmp_path))
    files.write_plan(Plan())
    files.plan.write_text('{"attacks": [{"kind": "unheard_of"}]}')
    with pytest.raises(InvalidSetting, match=r"plan\.json"):
        files.read_plan()


def test_the_delivery_log_has_one_line_per_acknowledged_click(tmp_path):
    source = ClickSource(Traffic.from_settings(make(tmp_path)))
    clicks = source.clicks(minute_of(MIDNIGHT), 1)
    _, values = MessageEncoder(source).encode(clicks)
    file = tmp_path / "truth" / "ledger.csv"
    for part in (values[:2], values[2:3]):
        log = DeliveryLog(file)
        for offset, value in enumerate(part):
            log.add("clickstream", 1, offset, value)
        log.sync()
    lines = file.read_text().splitlines(keepends=True)
    assert lines[0] == HEADER
    assert [line.split(",")[0] for line in lines[1:]] == to_table(clicks, source)[
        "event_id"
    ].to_pylist()[:3]
    assert [line.split(",")[1:4] for line in lines[1:]] == [
        ["clickstream", "1", "0"],
        ["clickstream", "1", "1"],
        ["clickstream", "1", "0"],
    ]
