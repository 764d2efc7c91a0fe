"""Strict decoding of what the scoring API is sent: errors name field, value and rule."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from serving.problems import Problem, Refusal
from serving.rows import MAX_ROWS, Batch, Row

MAX_QUERY_FIELDS: Final = 100

_row_decoder = msgspec.json.Decoder(Row)
_batch_decoder = msgspec.json.Decoder(Batch)


class _RawBatch(msgspec.Struct):
    rows: list[msgspec.Raw]


_raw_batch = msgspec.json.Decoder(_RawBatch)
_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, MemoryError)


def decode_row(body: bytes) -> Any:
    """Decode the row of `/v1/score`.

    Raises:
        Refusal: 400 when the body is not JSON, 422 when a field breaks a rule.
    """
    try:
        row = _row_decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(body, error) from None
    except _UNDECODABLE as error:
        raise _not_json(error) from None
    _check(body, row, [row])
    return row


def decode_batch(body: bytes) -> list[Any]:
    """Decode the rows of `/v1/batch`, in order.

    Raises:
        Refusal: 400 when the body is not JSON or has over 1000 rows, 422 for an invalid field.
    """
    try:
        batch = _batch_decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid_batch(body, error) from None
    except _UNDECODABLE as error:
        raise _not_json(error) from None
    _check(body, batch, batch.rows)
    return batch.rows


def wants_explanation(query: bytes) -> bool:
    """Decode `?explain=1`, which is off by default.

    Raises:
        Refusal: 422 for another value, or more than one.
    """
    if not query:
        return False
    if query.count(b"&") >= MAX_QUERY_FIELDS:
        values = [""]
    else:
        fields = parse_qs(query.decode("ascii", "replace"), keep_blank_values=True)
        values = fields.get("explain", ["0"])
    if values in (["0"], ["1"]):
        return values == ["1"]
    raise Refusal(
        422,
        Problem(
            "invalid_field",
            "explain must be 0 or 1, given at most once",
            field="explain",
            rule="0 or 1",
            fix="leave it out, or send ?explain=1",
        ),
    )


def _check(body: bytes, decoded: Any, rows: Sequence[Any]) -> None:
    """Refuse repeated keys, and timestamps that are not in the calendar."""
    # Valid keys and values hold no quotes: more than in the decoded value is a repeated key.
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
        timestamp = row.timestamp
        if isinstance(timestamp, str) and not _in_calendar(timestamp):
            path = "timestamp" if decoded is row else f"rows[{position}].timestamp"
            raise _invalid_field(path, timestamp, "must be a moment of the calendar")


def _in_calendar(timestamp: str) -> bool:
    try:
        datetime.fromisoformat(timestamp[:19])
    except ValueError:
        return False
    return True


def _invalid_field(path: str, value: str, rule: str, fix: str = "") -> Refusal:
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
    if isinstance(error, msgspec.DecodeError):
        reason = str(error)
    else:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else "nested too deeply"
    fix = (
        "send one UTF-8 JSON object without a byte order mark; "
        "NaN and Infinity are not JSON numbers"
    )
    return Refusal(
        400, Problem("invalid_json", f"the body is not one JSON document: {reason}", fix=fix)
    )


def _invalid_batch(body: bytes, error: msgspec.ValidationError) -> Refusal:
    """Find the first invalid row, which the decoder does not name."""
    try:
        rows = _raw_batch.decode(body).rows
    except (msgspec.ValidationError, *_UNDECODABLE):
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
    """Parse the decoder's message into field, value and rule."""
    rule, _, path = str(error).partition(" - at `$")
    path = path.removesuffix("`").lstrip(".")
    name = _printable(_quoted(rule)[:64])
    if rule.startswith("Object missing"):
        return _invalid_field(
            _join(prefix, path, name), "", "is required", "send it, or see /docs for an example"
        )
    if rule.startswith("Object contains unknown"):
        return _invalid_field(
            _join(prefix, path, name),
            "",
            "is not a known field",
            "known fields: " + ", ".join(Row.__struct_fields__),
        )
    return _invalid_field(_join(prefix, path) or "body", _value(body, path), rule)


def _value(body: bytes, path: str) -> str:
    """The JSON text of one field, or the body when there is no such field."""
    raw = body
    try:
        if path:
            raw = bytes(_raw_object.decode(body)[path])
    except (KeyError, msgspec.ValidationError, *_UNDECODABLE):
        raw = body
    return _printable(raw[:201].decode("utf-8", "backslashreplace"))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def _quoted(rule: str) -> str:
    return rule.partition("`")[2].rpartition("`")[0]


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)
