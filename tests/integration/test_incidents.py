"""Alerts, incidents, decisions and notifications on real Kafka and PostgreSQL, with kills."""

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from confluent_kafka import Message, TopicPartition
from confluent_kafka.admin import AdminClient

from adnomaly.alerts import ScoredWindow, Silence, WindowExplanation
from adnomaly.clients.kafka.admin import create_topics
from adnomaly.errors import DecisionOutdated, OffsetGap, Unavailable
from adnomaly.incidents.decisions import Decision
from adnomaly.pipelines import handle_alert
from adnomaly.settings import ROOT
from adnomaly.stores.alerts import AlertTopic
from adnomaly.stores.dead_letters import DeadLetters
from adnomaly.stores.decision_table import decision_table
from adnomaly.stores.notifications import Notifier
from adnomaly.stores.results import ResultStore
from adnomaly.topics import Topic
from adnomaly.windows import SIZE, TrafficWindow
from integration.world import World, a_world, stop

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC).replace(second=0, microsecond=0)
DAY = timedelta(days=1)
UPDATE_AND_DIE = """
import os, signal, sys
from datetime import UTC, datetime
from adnomaly.stores.alerts import AlertTopic
from adnomaly.pipelines import handle_alert
from adnomaly.wiring import connect
b = connect()
class Deadly:
    def __getattr__(self, name):
        return getattr(b.incidents, name)
    def announce(self, connection):
        b.incidents.announce(connection)
        os.kill(os.getpid(), signal.SIGKILL)
alerts = AlertTopic(b.settings.kafka_bootstrap, b.postgres, topic=sys.argv[1])
handle_alert.update_incidents(alerts, Deadly(), b.incident_service, b.evidence, now=datetime.now(UTC))
"""


class Desk:
    """A world with a topic of alerts."""

    def __init__(self, world: World) -> None:
        self.world, self.b = world, world.backends
        self.topic = f"test_{world.id}_alerts"
        world.topics["alerts"] = self.topic
        create_topics(world.settings.kafka_bootstrap, [Topic(self.topic, 1)])
        self.alerts = AlertTopic(world.settings.kafka_bootstrap, self.b.postgres, topic=self.topic)
        self.incidents = self.b.incidents

    def scored(
        self, minute: int, *, score: float = 0.6, incident: str = "DE|web@a", tell: bool = True
    ) -> None:
        """Store an anomalous window, then send its alert, as the scorer does."""
        end = NOW + timedelta(minutes=minute)
        window = TrafficWindow(
            window_start=end - SIZE,
            window_end=end,
            geo="DE",
            platform="web",
            features={"ctr_avg": 0.02, "bounce_rate_avg": 0.3, "event_count": 400},
        )
        reason = WindowExplanation(
            f"DE web: score {score}",
            {"event_count": 50.0},
            {"event_count": 9.0},
            {"event_count": 1.0},
        )
        result = ScoredWindow(
            window=window,
            anomaly_score=score,
            threshold=0.5,
            incident_id=incident,
            model_version="m1",
            explanation=reason,
        )
        ResultStore(self.b.postgres).save([result])
        if tell:
            self.world.send([("DE|web", msgspec.json.encode(result.alert()))], "alerts", 0)

    def update(self, now: datetime = NOW) -> dict[str, int]:
        return handle_alert.update_incidents(
            self.alerts, self.incidents, self.b.incident_service, self.b.evidence, now=now
        )

    def rows(self, query: str) -> list[tuple[object, ...]]:
        return self.world.rows(query)


@pytest.fixture
def desk(settings, tmp_path) -> Iterator[Desk]:
    with a_world(settings, tmp_path) as world:
        yield Desk(world)


def test_alerts_open_one_incident_and_repeating_changes_nothing(desk):
    for minute in range(3):
        desk.scored(minute, score=0.6 + minute / 100)
    assert desk.update() == {"alerts": 3, "incidents": 1, "woken": 0, "over": 0}
    assert desk.update() == {"alerts": 0, "incidents": 0, "woken": 0, "over": 0}
    [incident] = desk.incidents.recent(NOW - DAY)
    assert (incident.windows, incident.peak_score, incident.summary) == (
        3,
        0.62,
        "DE web: score 0.62",
    )
    assert (incident.began, incident.last_seen) == (NOW - SIZE, NOW + timedelta(minutes=2))
    assert desk.rows("SELECT reason, count(*) FROM notifications GROUP BY 1") == [("new", 1)]


def test_a_kill_between_effect_and_offset_commit_changes_nothing(desk):
    desk.scored(0)
    own = {"DB_NAME": desk.world.settings.db_name}
    command = [sys.executable, "-c", UPDATE_AND_DIE, desk.topic]
    for _ in range(2):
        done = subprocess.run(
            command, env=os.environ | own, cwd=ROOT, check=False, capture_output=True, timeout=120
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert desk.rows("SELECT count(*) FROM incidents") == [(0,)]
    assert desk.update()["alerts"] == 1
    assert desk.rows("SELECT count(*) FROM incidents") == [(1,)]


def test_a_window_whose_alert_was_missed_is_found_by_the_next_run(desk):
    desk.scored(0, tell=False)
    assert desk.update() == {"alerts": 0, "incidents": 1, "woken": 0, "over": 0}
    assert desk.rows("SELECT count(*) FROM notifications") == [(1,)]


def test_a_silence_is_resolved_when_clicks_come_again(desk):
    silence = Silence(
        kind="silence",
        incident_id="silence:FR|ios@x",
        geo="FR",
        platform="ios",
        since_s=int(NOW.timestamp()),
        model_version="m1",
    )
    desk.world.send([("FR|ios", msgspec.json.encode(silence.alert()))], "alerts", 0)
    desk.update()
    [incident] = desk.incidents.recent(NOW - DAY)
    assert (incident.kind, incident.status, incident.windows) == ("silence", "open", 0)
    with desk.b.postgres.connection() as connection:
        connection.execute(
            "INSERT INTO feature_aggregates (window_start, window_end, geo, platform, computed_at, event_count)"
            " VALUES (%s, %s, 'FR', 'ios', now(), 9)",
            (NOW + timedelta(minutes=20), NOW + timedelta(minutes=25)),
        )
    assert desk.update()["over"] == 1
    [incident] = desk.incidents.recent(NOW - DAY)
    assert incident.status == "resolved"
    assert desk.incidents.history(incident.incident_id)[-1]["author"] == "adnomaly"


def test_a_snoozed_incident_that_gets_much_worse_is_reopened(desk):
    desk.scored(0, score=0.6)
    desk.update()
    desk.b.incident_service.decide(
        "DE|web@a", Decision(action="snooze", revision=0, until=NOW + DAY), "ann", NOW
    )
    desk.scored(1, score=0.7)
    assert desk.update()["woken"] == 0
    desk.scored(2, score=0.8)
    assert desk.update()["woken"] == 1
    incident = desk.incidents.get("DE|web@a")
    assert (incident.status, incident.revision) == ("open", 2)
    assert [(d["action"], d["author"]) for d in desk.incidents.history("DE|web@a")] == [
        ("snooze", "ann"),
        ("reopen", "adnomaly"),
    ]
    assert desk.rows("SELECT reason FROM notifications ORDER BY revision") == [
        ("new",),
        ("much worse",),
    ]
    assert desk.update()["woken"] == 0


def test_an_outdated_decision_is_refused_and_names_the_other_author(desk):
    desk.scored(0)
    desk.update()
    desk.b.incident_service.decide(
        "DE|web@a",
        Decision(action="confirm", revision=0, fraud_kind="bot_farm", comment="seen it"),
        "ann",
        NOW,
    )
    with pytest.raises(DecisionOutdated, match="ann has decided meanwhile"):
        desk.b.incident_service.decide(
            "DE|web@a", Decision(action="false_alarm", revision=0), "bob", NOW
        )
    assert desk.incidents.get("DE|web@a").status == "confirmed"
    table = decision_table(desk.b.postgres)
    assert table.select(
        ["incident_id", "action", "fraud_kind", "comment", "author"]
    ).to_pylist() == [
        {
            "incident_id": "DE|web@a",
            "action": "confirm",
            "fraud_kind": "bot_farm",
            "comment": "seen it",
            "author": "ann",
        }
    ]
    [label] = decision_table(desk.b.postgres, labels=True).to_pylist()
    assert (label["start"], label["geo"], label["kind"], label["benign"]) == (
        NOW - SIZE,
        "DE",
        "bot_farm",
        False,
    )


class _Channel(http.server.BaseHTTPRequestHandler):
    taken: list[dict]
    answer = 200

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        type(self).taken.append(json.loads(body))
        self.send_response(type(self).answer)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def channel():
    """A webhook as an Apprise URL, and the messages it received."""
    handler = type("Channel", (_Channel,), {"taken": [], "answer": 200})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"json://127.0.0.1:{server.server_port}", handler
    server.shutdown()


def test_a_notification_is_sent_once_and_retried_after_a_channel_failure(desk, channel):
    url, handler = channel
    desk.scored(0)
    desk.update()
    notifier = Notifier(desk.b.postgres, url, lambda name: f"http://here/{name}")
    handler.answer = 500
    with pytest.raises(Unavailable, match="did not take the message"):
        notifier.send()
    handler.answer, handler.taken[:] = 200, []
    assert (notifier.send(), notifier.send()) == (1, 0)
    [message] = handler.taken
    assert message["title"] == "Adnomaly: DE web (new)"
    assert "http://here/DE|web@a" in message["message"]


def key_and_value(message: Message) -> tuple[bytes | None, bytes | None]:
    return message.key(), message.value()


def test_dead_letters_are_replayed_once_byte_for_byte(desk):
    world = desk.world
    bad = [
        (b"k", b"not json"),
        (b"k", b'{"geo": "\xff"}'),
        (None, b"not json"),
        (b"k", "\u202enot json".encode()),
    ]
    world.send(bad)
    validation = world.start("validate_clicks")
    world.wait("all are turned away", lambda: len(world.read("dead")) == len(bad))
    stop(validation)
    letters = DeadLetters(
        world.settings.kafka_bootstrap,
        desk.b.postgres,
        dead=world.topics["dead"],
        clicks=world.topics["raw"],
    )
    reasons = letters.reasons()
    assert sum(r.count for r in reasons) == len(bad)
    assert "\\u202enot json" in [sample.value for reason in reasons for sample in reason.samples]
    first = reasons[0]
    dead = world.read("dead")
    assert Counter(map(key_and_value, dead)) == Counter(bad)
    wanted = first.field.encode(), first.rule.encode()
    of_first = [
        m
        for m in dead
        if (dict(m.headers())["error.field"], dict(m.headers())["error.rule"]) == wanted
    ]
    assert letters.replay(first.field, first.rule, "ann") == first.count
    assert letters.replay(first.field, first.rule, "ann") == 0
    assert Counter(map(key_and_value, world.read("raw"))) == Counter(bad) + Counter(
        map(key_and_value, of_first)
    )
    world.start("validate_clicks")
    world.wait(
        "they are turned away again", lambda: len(world.read("dead")) == len(bad) + first.count
    )
    assert sum(r.replayed for r in letters.reasons()) == first.count


def test_an_offset_gap_is_named(desk):
    """Alerts that expired unread must not be skipped silently."""
    desk.scored(0)
    desk.update()
    for minute in (1, 2, 3):
        desk.scored(minute)
    admin = AdminClient({"bootstrap.servers": desk.world.settings.kafka_bootstrap})
    for future in admin.delete_records([TopicPartition(desk.topic, 0, 3)]).values():
        future.result(30)
    time.sleep(1)
    with pytest.raises(OffsetGap, match="handle_alert"):
        desk.update()
