"""The collector derives everything from the table of streams."""

import json
import subprocess
import sys
from datetime import UTC, datetime

from adnomaly.home import Home
from adnomaly.monitoring.collector import StatusCollector
from adnomaly.topics import ALERTS_TOPIC, CLICKS_TOPIC, FEATURES_TOPIC, VALID_TOPIC

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)

ENDS = {
    CLICKS_TOPIC.name: 110,
    VALID_TOPIC.name: 103,
    FEATURES_TOPIC.name: 40,
    ALERTS_TOPIC.name: 5,
}
COMMITTED = {
    "validate_clicks": (CLICKS_TOPIC.name, 107, '{"valid":100,"rejected":4,"duplicate":3}'),
    "publish_features": (FEATURES_TOPIC.name, 38, ""),
    "score_windows": (FEATURES_TOPIC.name, 30, ""),
}
SINKS = [
    ("store_clicks", 0, 60, 58),
    ("store_clicks", 1, 39, 38),
    ("archive_clicks", 0, 42, 40),
    ("handle_alert", 0, 4, 4),
]


class Kafka:
    """Offsets of one partition per topic."""

    def watermarks(self, topics):
        return {topic.name: {0: ENDS[topic.name]} for topic in topics}

    def committed(self, group, topic):
        source, offset, text = COMMITTED[group]
        return {0: (offset, text)} if topic.name == source else {1: (9, "")}


class Rows(list):
    def fetchone(self):
        return self[0]


class Postgres:
    """Answers each query by a word of it."""

    def connection(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def execute(self, query, values=()):
        if "sink_offsets" in query:
            return Rows(row for row in SINKS if row[0] in values[0])
        if "FROM ledger" in query:
            return Rows([("windowed", 60, 1), ("late x", 1, 0), ("late y", 1, 0), ("early", 5, 0)])
        if "sum(" in query:
            return Rows([(10, 2)])
        if "clickstream_events" in query:
            return Rows([(22,)])
        return Rows([(2,)] if "count(*)" in query else [(NOON,)])


class Unused:
    """A server that this test does not ask."""

    starts = type("Starts", (), {"given_up": staticmethod(dict)})

    def programs(self):
        raise OSError("no supervisord")

    def window_job_state(self):
        raise OSError("no Flink")


def collector(tmp_path, kafka=None):
    made = StatusCollector("", Postgres(), Unused(), Unused(), "http://localhost:1", Home(tmp_path))
    made._offsets = kafka or Kafka()
    return made


def test_totals_and_lags_come_from_offsets_and_ends(tmp_path):
    snapshot = collector(tmp_path).collect()
    assert snapshot.totals == {
        "generator": 110,
        "gate": 100,
        "table": 96,
        "lake": 40,
        "windows": 40,
        "features": 38,
        "scorer": 30,
        "incidents": 4,
    }
    assert snapshot.lags == {
        "gate": 3,
        "table": 4,
        "lake": 61,
        "windows": 0,
        "features": 2,
        "scorer": 10,
        "incidents": 1,
    }
    assert snapshot.newest == dict.fromkeys(("windows", "features", "scorer"), NOON)
    assert snapshot.unscored == 2


def test_an_unreachable_server_affects_only_its_stages(tmp_path):
    class Away(Kafka):
        def watermarks(self, topics):
            raise OSError("no broker")

    snapshot = collector(tmp_path, Away()).collect()
    assert set(snapshot.unreachable) == {
        *("generator", "gate", "features"),
        *("windows", "serving", "supervisor"),
    }
    assert snapshot.unreachable["gate"] == "no broker"
    assert snapshot.totals == {"table": 96, "lake": 40, "incidents": 4}


def test_counts_for_the_reconciliation(tmp_path):
    counts = collector(tmp_path).count()
    assert counts.sinks == {"table": (96, 4), "lake": (40, 61)}
    assert (counts.received, counts.valid, counts.rejected, counts.duplicate) == (110, 100, 4, 3)
    assert (counts.windowed, counts.late, counts.early) == (70, 2, 5)
    assert (counts.validation_lag, counts.open) == (3, 22 + 4)


NEW_STREAM = """
import json
from adnomaly import streams
new = streams.Stream("count_clicks", "counts", "Click counts", "consumer", "clicks",
                     streams.VALID_TOPIC, "sink", server="postgres")
streams.STREAMS = (*streams.STREAMS, new)
streams.STAGES = (*streams.STREAMS, streams.INCIDENTS)
from datetime import UTC, datetime
from adnomaly.monitoring import collector, reconciliation, stages
kafka = collector._KafkaProgress({"clickstream.valid": {0: 9}})
stored = collector._TableProgress({"counts": collector._SinkProgress({0: 7}, 6)})
totals, lags = collector._progress(kafka, stored)
snapshot = stages.Snapshot(at=datetime.now(UTC), programs={}, totals=totals, lags=lags)
[stage] = [s for s in stages.evaluate_stages(snapshot) if s.name == "counts"]
counts = reconciliation.ClickCounts(
    9, 9, 0, 0, {s.stage: reconciliation.SinkCount(6, 2) for s in reconciliation.CLICK_SINKS},
    9, 0, 0, 0, 0)
print(json.dumps([stage.title, stage.total, stage.lag, stage.reason, streams.columns(),
                  [list(e.parts) for e in reconciliation.equations(counts)]]))
"""


def test_a_new_entry_is_a_stage_and_an_equation():
    done = subprocess.run(
        [sys.executable, "-c", NEW_STREAM], capture_output=True, text=True, check=True, timeout=60
    )
    title, total, lag, reason, columns, equations = json.loads(done.stdout)
    assert (title, total, lag) == ("Click counts", 6, 2)
    assert reason == "count_clicks is stopped"
    assert columns[2] == ["table", "lake", "windows", "counts"]
    assert equations[1:-1] == [["stored"], ["archived"], ["in Click counts"]]
