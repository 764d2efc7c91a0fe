"""The sender: no click lost or sent twice, progress never ahead of acknowledged messages."""

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from adnomaly.attacks import Attack, read_ground_truth
from adnomaly.errors import Unavailable
from adnomaly.generator_state import GeneratorFiles, Plan
from adnomaly.home import Home
from adnomaly.settings import SECRETS, Settings
from adnomaly.synthetic.click_source import ClickSource
from adnomaly.synthetic.encode import event_ids
from adnomaly.synthetic.traffic import Traffic, minute_of
from streaming import generate_clicks as sender

START = datetime(2024, 11, 18, 11, 58, 20, 500, tzinfo=UTC)
END = START + timedelta(minutes=14, seconds=33)


class MemoryProducer:
    """Acknowledges on flush; sets `stop` after `limit` messages.

    `broken`: the broker never answers.
    """

    def __init__(
        self, *, limit: int | None = None, stop: threading.Event | None = None, broken: bool = False
    ) -> None:
        self.messages: list[bytes] = []
        self.limit, self.stop, self.broken = limit, stop, broken
        self.delivered = self.failed = 0

    @property
    def sent(self) -> int:
        return len(self.messages)

    def send(self, key: bytes, value: bytes) -> None:
        self.messages.append(value)

    def poll(self) -> None:
        if self.limit is not None and self.sent >= self.limit:
            self.stop.set()

    def flush(self) -> None:
        if self.broken:
            raise Unavailable("the broker does not answer")
        self.delivered = self.sent

    @property
    def ids(self) -> list[str]:
        return [json.loads(message)["event_id"] for message in self.messages]


@pytest.fixture(scope="module")
def source() -> ClickSource:
    return ClickSource(
        Traffic.from_settings(
            Settings(_env_file=None, base_eps=20, **{name.lower(): "x" * 32 for name in SECRETS})
        )
    )


@pytest.fixture
def files(tmp_path) -> GeneratorFiles:
    return GeneratorFiles(Home(tmp_path))


def expected_ids(source: ClickSource, start: datetime, end: datetime, attacks=()) -> list[str]:
    clicks = source.clicks(minute_of(start), minute_of(end) - minute_of(start) + 1, attacks)
    inside = (clicks.time_us >= start.timestamp() * 1e6) & (clicks.time_us < end.timestamp() * 1e6)
    return event_ids(clicks.take(inside)).to_pylist()


def test_catching_up_sends_every_click_once_in_order(source, files):
    producer = MemoryProducer()
    sender.Generator(source, producer, files, threading.Event(), start=START).run(
        END, (), live=False
    )
    assert producer.ids == expected_ids(source, START, END)
    assert files.read_progress().sent == ((START, END),)


def test_a_stop_and_a_restart_leave_no_gap_and_send_nothing_twice(source, files):
    ids, at, runs = [], START, 0
    while at < END:
        stop = threading.Event()
        producer = MemoryProducer(limit=5000, stop=stop)
        sender.Generator(source, producer, files, stop, start=at).run(END, (), live=False)
        ids += producer.ids
        at, runs = files.read_progress().next, runs + 1
    assert runs > 2
    assert ids == expected_ids(source, START, END)


def test_without_acknowledgement_there_is_no_progress(source, files):
    generator = sender.Generator(
        source, MemoryProducer(broken=True), files, threading.Event(), start=START
    )
    with pytest.raises(Unavailable):
        generator.run(END, (), live=False)
    assert files.read_progress().next is None


def test_attacks_come_from_the_plan_and_the_command_line(source, files):
    hour = START.replace(minute=0, second=0, microsecond=0)
    attacks = [
        Attack(
            kind="bot_farm",
            geo=geo,
            platform="web",
            start=hour,
            end=hour + timedelta(hours=2),
            strength=0.5,
        )
        for geo in ("US", "DE")
    ]
    files.write_plan(Plan(attacks=(attacks[0],)))
    producer = MemoryProducer()
    sender.Generator(source, producer, files, threading.Event(), start=START).run(
        END, (attacks[1],), live=False
    )
    assert producer.ids == expected_ids(source, START, END, attacks)
    assert [(a.geo, a.start) for a in read_ground_truth(files.truth)] == [
        ("US", START),
        ("DE", START),
    ]


def test_the_plan_changes_the_rate_unless_it_is_fixed(source, files):
    files.write_plan(Plan(base_eps=5.0))
    slow = ClickSource(replace(source.traffic, base_eps=5.0))
    for fixed, traffic in ((None, slow), (20.0, source)):
        producer = MemoryProducer()
        sender.Generator(
            source, producer, files, threading.Event(), start=START, fixed_eps=fixed
        ).run(END, (), live=False)
        assert producer.ids == expected_ids(traffic, START, END)


def test_live_clicks_are_sent_when_their_moment_has_come(source, files):
    class Watching(MemoryProducer):
        """Keeps how far ahead of its moment each click was sent."""

        def __init__(self) -> None:
            super().__init__()
            self.ahead: list[timedelta] = []

        def send(self, key: bytes, value: bytes) -> None:
            moment = datetime.fromisoformat(json.loads(value)["timestamp"])
            self.ahead.append(moment - datetime.now(UTC))
            super().send(key, value)

    producer, start = Watching(), datetime.now(UTC)
    until = start + timedelta(seconds=2)
    sender.Generator(source, producer, files, threading.Event(), start=start).run(
        until, (), live=True
    )
    assert max(producer.ahead) <= timedelta(0)
    assert producer.ids == expected_ids(source, start, until)


def test_the_rate_can_be_limited(source, files):
    producer, began = MemoryProducer(), datetime.now(UTC)
    sender.Generator(source, producer, files, threading.Event(), start=START, max_rate=4000).run(
        START + timedelta(minutes=5), (), live=False
    )
    assert producer.sent / (datetime.now(UTC) - began).total_seconds() < 4200
    assert producer.sent > 3000


def test_after_a_long_pause_the_oldest_part_is_left_to_history(files):
    now = START + timedelta(hours=30)
    files.write_progress(files.read_progress().extended(START, END))
    assert sender._start(files, None, now) == now - sender.MAX_CATCH_UP
    assert sender._start(files, now - timedelta(hours=20), now) == now - timedelta(hours=20)
    assert sender._start(files, None, END + timedelta(hours=2)) == END


def test_relative_moments_are_values_and_not_options():
    args = sender._arguments(
        [
            "--from",
            "-2h",
            "--until",
            "+10m",
            "--attack",
            "click_flood:DE:ios:-60m:20m",
            "--attack",
            "bot_farm:US:web:-5m:1h",
        ]
    )
    assert (args.begin, args.until, len(args.attack)) == ("-2h", "+10m", 2)
