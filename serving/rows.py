"""Types of the scoring API's bodies, derived from the feature list and the click schema.

Docstrings and descriptions of the structs are part of /openapi.json.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Final, get_type_hints

import msgspec
from msgspec import UNSET, Meta, UnsetType

from adnomaly.events import Click
from adnomaly.features import FEATURES, PYTHON_TYPES, Feature

MAX_ROWS: Final = 1000
MAX_COUNT: Final = 2**53 - 1
"""The largest integer that is exact as a double, the type the model computes in."""

CONTEXT: Final = ("geo", "platform", "timestamp")
"""Optional fields of a row. With all three and a known entity, its baseline is used."""


def _feature_type(feature: Feature) -> Any:
    """The annotated type of a feature, with its range."""
    integer = feature.dtype == "int64"
    high = MAX_COUNT if integer and feature.high is None else feature.high
    low = int(feature.low) if integer else feature.low
    value_range = (
        Meta(ge=low, description=feature.unit)
        if high is None
        else Meta(ge=low, le=high, description=feature.unit)
    )
    return Annotated[PYTHON_TYPES[feature.dtype], value_range]


_click_types = get_type_hints(Click, include_extras=True)
Row: Any = msgspec.defstruct(
    "Row",
    [(f.name, _feature_type(f)) for f in FEATURES if f.required]
    + [(f.name, _feature_type(f) | UnsetType, UNSET) for f in FEATURES if not f.required]
    + [(name, _click_types[name] | None | UnsetType, UNSET) for name in CONTEXT],
    module=__name__,
    kw_only=True,
    frozen=True,
    gc=False,
    forbid_unknown_fields=True,
)
"""One window to score: the required features, further ones when known, and the optional context."""


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Up to 1000 windows to score at once."""

    rows: Annotated[list[Row], Meta(max_length=MAX_ROWS)]


class Explanation(msgspec.Struct, frozen=True):
    """What the model expected, how far each feature is from it, and how much that matters."""

    expected: Annotated[
        dict[str, float],
        Meta(description="Expected value of each feature, in the feature's own unit"),
    ]
    z: Annotated[
        dict[str, float],
        Meta(
            description="Distance of each feature from its expected value, "
            "in robust standard deviations"
        ),
    ]
    share: Annotated[
        dict[str, float],
        Meta(
            description="Share of each feature in what makes the window unusual, "
            "with the sign of its deviation; sizes sum to 1"
        ),
    ]


class Answer(msgspec.Struct, frozen=True):
    """The score of one window.

    Higher is more anomalous; anomalous means anomaly_score >= threshold.
    """

    anomaly_score: Annotated[float, Meta(description="Always a finite number")]
    is_anomaly: bool
    threshold: float
    features_used: Annotated[
        list[str],
        Meta(
            description="Features the score depends on: those of the contract, "
            "or all of them when all came"
        ),
    ]
    meta: Annotated[
        dict[str, str] | None,
        Meta(
            description="null when no optional field came; else their echo, and `baseline`: "
            "`entity`, or `global` for unknown ones"
        ),
    ]
    explanation: Annotated[Explanation | UnsetType, Meta(description="Only with `?explain=1`")] = (
        UNSET
    )


class BatchAnswer(msgspec.Struct, frozen=True):
    """One answer per row, in the order of the rows."""

    results: list[Answer]


def plain(rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Rows as the model takes them: features and context of each; null counts as not given."""
    plain_rows: list[dict[str, Any]] = msgspec.to_builtins(rows)
    for row in plain_rows:
        if None in row.values():
            for name in [name for name, value in row.items() if value is None]:
                del row[name]
    return plain_rows


def context(row: dict[str, Any]) -> dict[str, str]:
    """The context of a plain row, as far as it was given."""
    return {name: row[name] for name in CONTEXT if name in row}
