"""The one list of window features: Flink SQL, Feast, the API, training and docs derive from it.

To add a feature, add one entry. Its `sql` aggregates the clicks of one window, in the columns of
`adnomaly.events.COLUMNS`, or groups of these clicks.
"""

from typing import Final, Literal, NamedTuple


class Feature(NamedTuple):
    """One number per window and entity.

    Attributes:
        name: column name everywhere.
        dtype: `float64` or `int64`.
        unit: of the value.
        low, high: closed range; None is unbounded.
        sql: aggregate in Flink SQL over the stored click columns (`ctr`, `bounce_rate`, ...). With
            `over`, an aggregate over groups of equal values there, whose sizes are the column
            `clicks`, divided by the number of clicks.
        kind: `count` (how many), `ratio` (a share or rate of a count) or `level` (anything else).
        weight_by: the count behind a ratio: a ratio of few events is less certain.
        required: part of the scoring contract; others are stored and used where present.
        over: click column to group by, such as the users of a window.
        label: display name in the middle of a sentence; the name when empty.
        example: a typical value, shown in the API's documentation.
        flood: effect of a flood of clicks by few users; None without a clear one.
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
    example: float = 0.0
    flood: Literal["multiply", "divide", "raise"] | None = None


VOLUME: Final = "event_count"
"""The feature that counts the clicks of a window."""

FEATURES: Final[tuple[Feature, ...]] = (
    Feature(
        "ctr_avg",
        "float64",
        "ratio",
        0,
        1,
        "AVG(ctr)",
        "ratio",
        VOLUME,
        required=True,
        label="click-through rate",
        example=0.0349,
    ),
    Feature(
        "bounce_rate_avg",
        "float64",
        "ratio",
        0,
        1,
        "AVG(bounce_rate)",
        "ratio",
        VOLUME,
        required=True,
        label="bounce rate",
        example=0.271,
        flood="raise",
    ),
    Feature(
        VOLUME,
        "int64",
        "clicks per window",
        1,
        None,
        "COUNT(*)",
        "count",
        required=True,
        label="clicks",
        example=1102,
        flood="multiply",
    ),
    Feature(
        "unique_user_ratio",
        "float64",
        "users per click",
        0,
        1,
        "COUNT(*)",
        "ratio",
        VOLUME,
        over="user_id_hash",
        label="distinct users per click",
        example=0.9,
        flood="divide",
    ),
    Feature(
        "campaign_top_share",
        "float64",
        "share of clicks",
        0,
        1,
        "MAX(clicks)",
        "ratio",
        VOLUME,
        over="campaign_id",
        label="share of the largest campaign",
        example=0.12,
    ),
)

CONTRACT: Final = tuple(f.name for f in FEATURES if f.required)
"""The required features, in model input order."""

ENTITY: Final = ("geo", "platform")
"""A window belongs to one geo and platform."""

SQL_TYPES: Final = {"float64": "double precision", "int64": "bigint"}
FLINK_TYPES: Final = {"float64": "DOUBLE", "int64": "BIGINT"}
FEAST_TYPES: Final = {"float64": "Float64", "int64": "Int64"}
PYTHON_TYPES: Final[dict[str, type]] = {"float64": float, "int64": int}
