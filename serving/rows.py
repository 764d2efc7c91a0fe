"""Bodies of the scoring API: their types, derived from the feature list and the click schema, and their strict decoding."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, get_type_hints

import msgspec
from msgspec import UNSET, Meta, UnsetType

from adnomaly.events import Click
from adnomaly.features import FEATURES, PYTHON_TYPES, Feature

MAX_ROWS: Final = 1000
MAX_COUNT: Final = 2**53 - 1
"""The largest integer that a double holds exactly; the model computes in doubles."""

CONTEXT: Final = ("geo", "platform", "timestamp")
"""Optional fields of a row. With all three, and a known entity, the score is relative to that entity's baseline."""


def _feature_type(feature: Feature) -> Any:
    whole = feature.dtype == "int64"
    high = MAX_COUNT if whole and feature.high is None else feature.high
    low, kind = (int(feature.low), int) if whole else (feature.low, PYTHON_TYPES[feature.dtype])
    limits = (
        Meta(ge=low, description=feature.unit)
        if high is None
        else Meta(ge=low, le=high, description=feature.unit)
    )
    return Annotated[kind, limits]


_clicks = get_type_hints(Click, include_extras=True)
Row: Any = msgspec.defstruct(
    "Row",
    [(f.name, _feature_type(f)) for f in FEATURES if f.required]
    + [(f.name, _feature_type(f) | UnsetType, UNSET) for f in FEATURES if not f.required]
    + [(name, _clicks[name] | None | UnsetType, UNSET) for name in CONTEXT],
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
            description="Distance of each feature from its expected value, in robust standard deviations"
        ),
    ]
    share: Annotated[
        dict[str, float],
        Meta(
            description="Share of each feature in what makes the window unusual, with the sign of its deviation; sizes sum to 1"
        ),
    ]


class Answer(msgspec.Struct, frozen=True):
    """The score of one window. Higher is more anomalous; anomalous means anomaly_score >= threshold."""

    anomaly_score: Annotated[float, Meta(description="Always a finite number")]
    is_anomaly: bool
    threshold: float
    features_used: Annotated[
        list[str],
        Meta(
            description="Features the score depends on: those of the contract, or all of them when all came"
        ),
    ]
    meta: Annotated[
        dict[str, str] | None,
        Meta(
            description="null when no optional field came; else their echo, and `baseline`: `entity`, or `global` for unknown ones"
        ),
    ]
    explanation: Annotated[Explanation | UnsetType, Meta(description="Only with `?explain=1`")] = (
        UNSET
    )


class BatchAnswer(msgspec.Struct, frozen=True):
    """One answer per row, in the order of the rows."""

    results: list[Answer]


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request was not answered. `error` is a stable code, `detail` a sentence, `fix` what to do about it."""

    error: str
    detail: str
    field: Annotated[
        str, Meta(description="Path of the offending field, such as `rows[3].ctr_avg`")
    ] = ""
    value: Annotated[str, Meta(description="The offending value, at most 200 characters")] = ""
    rule: Annotated[str, Meta(description="The rule that it breaks")] = ""
    fix: str = ""


class Refusal(Exception):
    """A request that is answered with a `Problem`."""

    def __init__(
        self, status: int, problem: Problem, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        super().__init__(problem.detail)
        self.status, self.problem, self.headers = status, problem, headers


_row_decoder = msgspec.json.Decoder(Row)
_batch_decoder = msgspec.json.Decoder(Batch)
_raw_rows = msgspec.json.Decoder(msgspec.defstruct("RawRows", [("rows", list[msgspec.Raw])]))
_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()
_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, MemoryError)


def decode_row(body: bytes) -> Any:
    """The one row of `/v1/score`.

    Raises:
        Refusal: 400 when the body is not JSON, 422 when a field breaks a rule.
    """
    try:
        row = _row_decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(body, error) from None
    except _BROKEN as error:
        raise _not_json(error) from None
    _check(body, row, [row])
    return row


def decode_batch(body: bytes) -> list[Any]:
    """The rows of `/v1/batch`, in order.

    Raises:
        Refusal: 400 when the body is not JSON or holds more than 1000 rows, 422 when a field breaks a rule.
    """
    try:
        batch = _batch_decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid_batch(body, error) from None
    except _BROKEN as error:
        raise _not_json(error) from None
    _check(body, batch, batch.rows)
    return batch.rows


def plain(rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Rows as the model takes them: their features, and the context that came with each; null counts as not given."""
    found = msgspec.to_builtins(rows)
    for row in found:
        if None in row.values():
            for name in [name for name, value in row.items() if value is None]:
                del row[name]
    return found


def context(row: dict[str, Any]) -> dict[str, str]:
    """The optional fields that came with a plain row."""
    return {name: row[name] for name in CONTEXT if name in row}


def _check(body: bytes, decoded: Any, rows: Sequence[Any]) -> None:
    # No valid key or value holds a quote, so a body with more quotes than its decoded value needs repeats a key.
    if body.count(b'"') != _encoder.encode(decoded).count(b'"'):
        raise Refusal(
            422,
            Problem(
                "duplicate_key",
                "an object repeats a key",
                rule="each key at most once",
                fix="send each field once",
            ),
        )
    for position, row in enumerate(rows):
        moment = row.timestamp
        if isinstance(moment, str) and not _in_calendar(moment):
            path = "timestamp" if decoded is row else f"rows[{position}].timestamp"
            raise _field(path, moment, "must be a moment of the calendar")


def _in_calendar(moment: str) -> bool:
    try:
        datetime.fromisoformat(moment[:19])
    except ValueError:
        return False
    return True


def _field(path: str, value: str, rule: str, fix: str = "") -> Refusal:
    shown = value if len(value) <= 200 else value[:197] + "..."
    detail = f"{path}: {rule}" + (f", got {shown}" if shown else "")
    return Refusal(
        422,
        Problem(
            "invalid_field",
            detail,
            field=path,
            value=shown,
            rule=rule,
            fix=fix or "the rule of each field is in /openapi.json",
        ),
    )


def _not_json(error: Exception) -> Refusal:
    reason = (
        str(error)
        if isinstance(error, msgspec.DecodeError)
        else "not UTF-8"
        if isinstance(error, UnicodeDecodeError)
        else "nested too deeply"
    )
    fix = (
        "send one UTF-8 JSON object without a byte order mark; NaN and Infinity are no JSON numbers"
    )
    return Refusal(
        400, Problem("invalid_json", f"the body is not one JSON document: {reason}", fix=fix)
    )


def _invalid_batch(body: bytes, error: msgspec.ValidationError) -> Refusal:
    """The decoder does not say which row: find the first invalid one."""
    try:
        rows = _raw_rows.decode(body).rows
    except (msgspec.ValidationError, *_BROKEN):
        return _invalid(body, error)
    if len(rows) > MAX_ROWS:
        problem = Problem(
            "batch_too_large",
            f"Batch size cannot exceed {MAX_ROWS} rows",
            field="rows",
            value=f"{len(rows)} rows",
            fix="split the batch",
        )
        return Refusal(400, problem)
    for position, raw in enumerate(rows):
        try:
            _row_decoder.decode(raw)
        except msgspec.ValidationError as cause:
            return _invalid(bytes(raw), cause, f"rows[{position}]")
    return _invalid(body, error)


def _invalid(body: bytes, error: msgspec.ValidationError, prefix: str = "") -> Refusal:
    """Turn the decoder's sentence into field, offending value and rule."""
    rule, _, path = str(error).partition(" - at `$")
    path = path.removesuffix("`").lstrip(".")
    name = _printable(_quoted(rule)[:64])
    if rule.startswith("Object missing"):
        return _field(
            _join(prefix, path, name), "", "is required", "send it, or see /docs for an example"
        )
    if rule.startswith("Object contains unknown"):
        return _field(
            _join(prefix, path, name),
            "",
            "is not a known field",
            "known fields: " + ", ".join(Row.__struct_fields__),
        )
    return _field(_join(prefix, path) or "body", _value(body, path), rule)


def _value(body: bytes, path: str) -> str:
    """The JSON text of one field; the whole body when it cannot be singled out."""
    raw = body
    try:
        if path:
            raw = bytes(_raw_object.decode(body)[path])
    except (KeyError, msgspec.ValidationError, *_BROKEN):
        raw = body
    return _printable(raw[:201].decode("utf-8", "backslashreplace"))


def _printable(text: str) -> str:
    return "".join(
        character if character.isprintable() else f"\\u{ord(character):04x}" for character in text
    )


def _quoted(rule: str) -> str:
    return rule.partition("`")[2].rpartition("`")[0]


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)
