"""Names of the Kafka topics, each written once."""

from typing import Final, NamedTuple


class Topic(NamedTuple):
    """A topic, its partitions and its retention."""

    name: str
    partitions: int
    retention_hours: int = 168


CLICKS_TOPIC: Final = Topic("clickstream", 3)
VALID_TOPIC: Final = Topic("clickstream.valid", 3)
DEAD_LETTER_TOPIC: Final = Topic("clickstream.dlq", 3, retention_hours=720)
LATE_TOPIC: Final = Topic("clickstream.late", 1)
FEATURES_TOPIC: Final = Topic("features", 3)
FEATURES_DEAD_TOPIC: Final = Topic("features.dlq", 1, retention_hours=720)
ALERTS_TOPIC: Final = Topic("alerts", 1, retention_hours=720)

ALL_TOPICS: Final = (
    CLICKS_TOPIC,
    VALID_TOPIC,
    DEAD_LETTER_TOPIC,
    LATE_TOPIC,
    FEATURES_TOPIC,
    FEATURES_DEAD_TOPIC,
    ALERTS_TOPIC,
)
