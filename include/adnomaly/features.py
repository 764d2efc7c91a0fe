"""The one list of window features. Flink SQL, Feast, the API, the training set and the docs derive from it.

To add a feature, add one entry: its `sql` is an aggregate over the clicks of one window, in the columns of
`adnomaly.events.COLUMNS`, or over groups of these clicks. Stream, batch, `feature_aggregates`, Feast and the training set follow.
"""

from typing import Final, Literal, NamedTuple


class Feature(NamedTuple):
    """One number per window and entity.

    Attributes:
        name: column name everywhere.
        dtype: `float64` or `int64`.
        unit: what one means.
        low, high: closed range; None is open.
        sql: aggregate in Flink SQL over the stored click columns (`ctr`, `bounce_rate`, ...); with `over`, over the groups of a
            window's clicks that have the same value there, whose sizes are the column `clicks`, divided by all its clicks.
        kind: `count` (how many), `ratio` (a share or rate of some count) or `level` (anything else that has a usual height).
        weight_by: the count behind a ratio; a ratio of few is less certain.
        required: part of the scoring contract; further features are carried, stored and trained on when present.
        over: click column whose values make groups, such as the users of a window.
        label: what people call it, in the middle of a sentence; the name when empty.
    """

    name: str
    dtype: Literal["float64", "int64"]
    unit: str
    low: float
    high: float | None
    sql: str
    kind: Literal["count", "ratio", "level"] = "level"
    weight_by: str | None = None
    required: bool = False
    over: str | None = None
    label: str = ""


FEATURES: Final[tuple[Feature, ...]] = (
    Feature(
        "ctr_avg",
        "float64",
        "ratio",
        0,
        1,
        "AVG(ctr)",
        "ratio",
        "event_count",
        required=True,
        label="click-through rate",
    ),
    Feature(
        "bounce_rate_avg",
        "float64",
        "ratio",
        0,
        1,
        "AVG(bounce_rate)",
        "ratio",
        "event_count",
        required=True,
        label="bounce rate",
    ),
    Feature(
        "event_count",
        "int64",
        "clicks per window",
        1,
        None,
        "COUNT(*)",
        "count",
        required=True,
        label="clicks",
    ),
    Feature(
        "unique_user_ratio",
        "float64",
        "users per click",
        0,
        1,
        "COUNT(*)",
        "ratio",
        "event_count",
        over="user_id_hash",
        label="distinct users per click",
    ),
    Feature(
        "campaign_top_share",
        "float64",
        "share of clicks",
        0,
        1,
        "MAX(clicks)",
        "ratio",
        "event_count",
        over="campaign_id",
        label="share of the largest campaign",
    ),
)

CONTRACT: Final = tuple(f.name for f in FEATURES if f.required)
"""The three features of the scoring contract, in model input order."""

VOLUME: Final = "event_count"
"""The feature that counts the clicks of a window."""

ENTITY: Final = ("geo", "platform")
"""A window belongs to one geo and platform."""

SQL_TYPES: Final = {"float64": "double precision", "int64": "bigint"}
FLINK_TYPES: Final = {"float64": "DOUBLE", "int64": "BIGINT"}
FEAST_TYPES: Final = {"float64": "Float64", "int64": "Int64"}
PYTHON_TYPES: Final = {"float64": float, "int64": int}
