"""The table of always-on processes: everything that starts, watches or draws them uses it.

To add a stream, add one entry. supervisord, `run_streams`, `watch_streams`, the page *Now*, `make
status`, the reconciliation and the drawing in docs/architecture.md follow.
"""

from typing import Final, Literal, NamedTuple

from adnomaly.topics import (
    ALERTS_TOPIC,
    CLICKS_TOPIC,
    DEAD_LETTER_TOPIC,
    FEATURES_DEAD_TOPIC,
    FEATURES_TOPIC,
    LATE_TOPIC,
    VALID_TOPIC,
    Topic,
)

Role = Literal["consumer", "scoring", "generator", "dag"]
"""When it starts: consumers first, scoring once there is a bundle, the generator last.

A `dag` is no process: Airflow runs it.
"""


class Stream(NamedTuple):
    """One always-on process, `python -m <package>.<name>`, and its stage on the path of a click.

    Attributes:
        name: of the program, and of its consumer group or sink.
        stage: key of its stage in `stream_health`, on the page and in the API.
        title: name of the stage on the page.
        unit: unit of its count; empty without a count.
        source: topic it consumes; the topic's end minus the offsets is the consumer lag.
        offsets: where its offsets are: Kafka (`group`), `sink_offsets` (`sink`), or elsewhere.
        newest: table whose newest `window_end` is its progress; a window is due every minute then.
        counted: a sink's clicks in the reconciliation, such as "stored"; `in <title>` by default.
        server: server that must answer for its counts to be known.
        writes: outputs, for the drawing; a process without offsets is counted by the end of the
            first, a topic.
    """

    name: str
    stage: str
    title: str
    role: Role
    unit: str = ""
    source: Topic | None = None
    offsets: Literal["group", "sink", "none"] = "none"
    newest: str = ""
    counted: str = ""
    server: str = ""
    writes: tuple[str, ...] = ()
    package: str = "streaming"

    @property
    def module(self) -> str:
        return f"{self.package}.{self.name}"

    @property
    def supervised(self) -> bool:
        """Whether it is a process of supervisord."""
        return self.role != "dag"


STREAMS: Final = (
    Stream(
        "generate_clicks",
        "generator",
        "Generator",
        "generator",
        "clicks",
        server="kafka",
        writes=(CLICKS_TOPIC.name,),
    ),
    Stream(
        "validate_clicks",
        "gate",
        "Validation",
        "consumer",
        "clicks",
        CLICKS_TOPIC,
        "group",
        server="kafka",
        writes=(VALID_TOPIC.name, DEAD_LETTER_TOPIC.name),
    ),
    Stream(
        "store_clicks",
        "table",
        "PostgreSQL",
        "consumer",
        "clicks",
        VALID_TOPIC,
        "sink",
        counted="stored",
        server="postgres",
        writes=("clickstream_events",),
    ),
    Stream(
        "archive_clicks",
        "lake",
        "S3 lake",
        "consumer",
        "clicks",
        VALID_TOPIC,
        "sink",
        counted="archived",
        server="postgres",
        writes=("S3 lake",),
    ),
    Stream(
        "window_job",
        "windows",
        "Flink windows",
        "consumer",
        "windows",
        VALID_TOPIC,
        "none",
        newest="feature_aggregates",
        server="flink",
        writes=(FEATURES_TOPIC.name, LATE_TOPIC.name),
    ),
    Stream(
        "publish_features",
        "features",
        "Feast online",
        "consumer",
        "windows",
        FEATURES_TOPIC,
        "group",
        newest="feature_aggregates",
        server="kafka",
        writes=("Redis", "feature_aggregates"),
    ),
    Stream(
        "serve_detector", "serving", "Scoring API", "scoring", server="serving", package="serving"
    ),
    Stream(
        "score_windows",
        "scorer",
        "Scorer",
        "scoring",
        "windows",
        FEATURES_TOPIC,
        "group",
        newest="anomaly_results",
        server="postgres",
        writes=(ALERTS_TOPIC.name, "anomaly_results", FEATURES_DEAD_TOPIC.name),
    ),
)
"""In the order of a click's path."""

BY_NAME: Final = {stream.name: stream for stream in STREAMS}

GENERATOR: Final = BY_NAME["generate_clicks"]
VALIDATION: Final = BY_NAME["validate_clicks"]
CLICK_TABLE: Final = BY_NAME["store_clicks"]
CLICK_LAKE: Final = BY_NAME["archive_clicks"]
WINDOW_JOB: Final = BY_NAME["window_job"]
SERVING: Final = BY_NAME["serve_detector"]
SCORER: Final = BY_NAME["score_windows"]
"""Streams with checks of their own."""

INCIDENTS: Final = Stream(
    "handle_alert",
    "incidents",
    "Incidents",
    "dag",
    "alerts",
    ALERTS_TOPIC,
    "sink",
    server="postgres",
    writes=("incidents",),
    package="dags",
)
"""The sink of the topic `alerts`, which a DAG drives."""

STAGES: Final = (*STREAMS, INCIDENTS)
"""Every stage of a click's path, in order."""


def with_role(role: Role) -> tuple[str, ...]:
    """Names of the streams of a role, in the order of a click's path."""
    return tuple(stream.name for stream in STREAMS if stream.role == role)


START_ORDER: Final = (*with_role("consumer"), *with_role("scoring"), *with_role("generator"))
"""Readers before writers; stopping goes the other way."""


def columns() -> tuple[tuple[str, ...], ...]:
    """Stages by their distance from the generator, for the page.

    A stage stands one column after the writer of its source; without a source, in the column of its
    role.
    """
    depth: dict[str, int] = {}
    topics: dict[str, int] = {}
    for stream in STAGES:
        if stream.source is not None:
            depth[stream.stage] = topics.get(stream.source.name, 0) + 1
        elif stream.role == GENERATOR.role:
            depth[stream.stage] = 0
        for output in stream.writes:
            topics.setdefault(output, depth.get(stream.stage, 0))
    for stream in STAGES:
        peers = [depth[s.stage] for s in STAGES if s.role == stream.role and s.stage in depth]
        depth.setdefault(stream.stage, max(peers, default=0))
    return tuple(
        tuple(s.stage for s in STAGES if depth[s.stage] == column)
        for column in range(max(depth.values()) + 1)
    )
