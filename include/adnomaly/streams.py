"""The table of always-on processes. Everything that starts, stops, watches or draws them derives from it.

To add a stream, add one entry: supervisord, `run_streams`, `watch_streams`, the page *Now*, `make status` and the drawing
in docs/architecture.md follow.
"""

from typing import Final, Literal, NamedTuple

from adnomaly.topics import (
    ALERTS_TOPIC,
    CLICKS_TOPIC,
    FEATURES_TOPIC,
    VALID_TOPIC,
    Topic,
)

Role = Literal["consumer", "scoring", "generator"]
"""When it starts: consumers first, so that nothing waits unread; scoring once there is a bundle; the generator last."""


class Stream(NamedTuple):
    """One always-on process, `python -m <package>.<name>`, and the stage of a click's path that it is.

    Attributes:
        name: of the program, and of its consumer group or sink.
        stage: key of its stage in `stream_health`, on the page and in the API.
        title: what the page calls the stage.
        unit: what it counts; empty when it counts nothing.
        source: topic it consumes, whose end minus its offsets is its lag; None when it consumes none.
        offsets: who keeps its offsets: Kafka (`group`), the sink's own table (`sink`), or Flink and others (`none`).
        windows: it handles windows, so a fresh one is due every minute while the generator runs.
        server: server whose silence makes its counts unknown.
        writes: where its output goes, for the drawing.
    """

    name: str
    stage: str
    title: str
    role: Role
    unit: str = ""
    source: Topic | None = None
    offsets: Literal["group", "sink", "none"] = "none"
    windows: bool = False
    server: str = ""
    writes: tuple[str, ...] = ()
    package: str = "streaming"

    @property
    def module(self) -> str:
        return f"{self.package}.{self.name}"


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
        writes=(VALID_TOPIC.name, "clickstream.dlq"),
    ),
    Stream(
        "store_clicks",
        "table",
        "PostgreSQL",
        "consumer",
        "clicks",
        VALID_TOPIC,
        "sink",
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
        windows=True,
        server="flink",
        writes=(FEATURES_TOPIC.name,),
    ),
    Stream(
        "publish_features",
        "features",
        "Feast online",
        "consumer",
        "windows",
        FEATURES_TOPIC,
        "group",
        windows=True,
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
        windows=True,
        server="postgres",
        writes=(ALERTS_TOPIC.name, "anomaly_results"),
    ),
)
"""In the order in which a click passes them."""


BY_NAME: Final = {stream.name: stream for stream in STREAMS}


def with_role(role: Role) -> tuple[str, ...]:
    """Names of the streams of a role, in the order of a click's path."""
    return tuple(stream.name for stream in STREAMS if stream.role == role)


START_ORDER: Final = (*with_role("consumer"), *with_role("scoring"), *with_role("generator"))
"""Readers before writers; stopping goes the other way."""
