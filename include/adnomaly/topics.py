"""Names of the Kafka topics, each written once."""

from typing import Final, NamedTuple


class Topic(NamedTuple):
    """A topic and its number of partitions."""

    name: str
    partitions: int
    retention_hours: int = 168


CLICKS: Final = Topic("clickstream", 3)
VALID: Final = Topic("clickstream.valid", 3)
DEAD: Final = Topic("clickstream.dlq", 3, retention_hours=720)
LATE: Final = Topic("clickstream.late", 1)
FEATURES: Final = Topic("features", 3)
FEATURES_DEAD: Final = Topic("features.dlq", 1, retention_hours=720)
ALERTS: Final = Topic("alerts", 1, retention_hours=720)

ALL: Final = (CLICKS, VALID, DEAD, LATE, FEATURES, FEATURES_DEAD, ALERTS)
