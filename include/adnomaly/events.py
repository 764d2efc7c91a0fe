"""The click: its schema, declared once, and strict decoding of one message.

JSON Schema, SQL table, Parquet schema, Flink DDL and docs/schemas.md derive from `Click` and
`COLUMNS`. Patterns are anchored and ASCII, numbers finite, timestamps UTC.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, NamedTuple
from uuid import UUID

import msgspec

MAX_MESSAGE_BYTES: Final = 64 * 1024
MAX_FUTURE_SECONDS: Final = 60
DUPLICATE_MEMORY_MINUTES: Final = 15

Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Click(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One click as received. Unknown fields are ignored; types are strict: `"1"` is no number."""

    timestamp: Annotated[
        str,
        msgspec.Meta(
            pattern=r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z\Z",
            description="Event time, ISO 8601, UTC",
        ),
    ]
    user_id_hash: Annotated[
        str,
        msgspec.Meta(
            pattern=r"\A[0-9a-f]{16,64}\Z", description="Salted hash of the user id, lower hex"
        ),
    ]
    ad_id: Annotated[str, msgspec.Meta(pattern=r"\Aad_[0-9]+\Z", description="Ad")]
    campaign_id: Annotated[str, msgspec.Meta(pattern=r"\Acamp_[0-9]+\Z", description="Campaign")]
    geo: Annotated[str, msgspec.Meta(pattern=r"\A[A-Z]{2}\Z", description="Country, two capitals")]
    platform: Annotated[Literal["web", "ios", "android"], msgspec.Meta(description="Platform")]
    user_agent: Annotated[
        str,
        msgspec.Meta(
            min_length=1, max_length=1024, pattern=r"\A[^\x00]*\Z", description="User agent, no NUL"
        ),
    ]
    CPC: Annotated[float, msgspec.Meta(ge=0, description="Cost per click")]
    CTR: Annotated[Ratio, msgspec.Meta(description="Click-through rate seen with the click")]
    conversion: Annotated[int, msgspec.Meta(ge=0, le=1, description="1 when the click converted")]
    bounce_rate: Annotated[Ratio, msgspec.Meta(description="Bounce rate seen with the click")]
    event_id: Annotated[
        str | msgspec.UnsetType,
        msgspec.Meta(description="UUID of the event; derived from its offset when missing"),
    ] = msgspec.UNSET


class Column(NamedTuple):
    """A column of a stored click: its name, its field in the event, its type in each system."""

    name: str
    field: str
    sql: str
    arrow: str
    flink: str
    comment: str


COLUMNS: Final = (
    Column("event_id", "event_id", "uuid", "string", "STRING", "UUID of the event"),
    Column(
        "timestamp",
        "timestamp",
        "timestamptz",
        "timestamp[us, UTC]",
        "TIMESTAMP(6)",
        "Event time, UTC, microseconds",
    ),
    Column(
        "user_id_hash", "user_id_hash", "text", "string", "STRING", "Salted hash of the user id"
    ),
    Column("ad_id", "ad_id", "text", "string", "STRING", "ad_<digits>"),
    Column("campaign_id", "campaign_id", "text", "string", "STRING", "camp_<digits>"),
    Column("geo", "geo", "text", "string", "STRING", "Country, two capitals"),
    Column("platform", "platform", "text", "string", "STRING", "web, ios or android"),
    Column("user_agent", "user_agent", "text", "string", "STRING", "1 to 1024 characters"),
    Column("cpc", "CPC", "double precision", "double", "DOUBLE", "Cost per click, >= 0"),
    Column("ctr", "CTR", "double precision", "double", "DOUBLE", "Click-through rate, 0..1"),
    Column("conversion", "conversion", "smallint", "int8", "TINYINT", "0 or 1"),
    Column(
        "bounce_rate", "bounce_rate", "double precision", "double", "DOUBLE", "Bounce rate, 0..1"
    ),
)
"""Columns of a stored click, in order. Table and lake use `name`, topics use `field`."""


class InvalidClick(ValueError):
    """A message is not a valid click: field, rule, and the value cut to 200 characters."""

    def __init__(self, field: str, rule: str, value: object) -> None:
        self.field, self.rule = field, rule
        self.value = (value if isinstance(value, str) else repr(value))[:200]
        super().__init__(f"{field}: {rule}, got {self.value!r}")


_decoder = msgspec.json.Decoder(Click)
_untyped = msgspec.json.Decoder()
_path = re.compile(r" - at `\$\.?([^`]*)`$")
_missing = re.compile(r"missing required field `([^`]+)`")


def partition_key(geo: str, platform: str) -> str:
    """Kafka key of an entity's messages."""
    return f"{geo}|{platform}"


def decode(message: bytes | None) -> Click:
    """Decode and validate one message; its age is checked by `check_age`.

    Raises:
        InvalidClick: naming field, value and rule.
    """
    if message is None:
        raise InvalidClick("message", "must not be null", "null")
    if len(message) > MAX_MESSAGE_BYTES:
        raise InvalidClick(
            "message", f"must be at most {MAX_MESSAGE_BYTES} bytes", f"{len(message)} bytes"
        )
    try:
        click = _decoder.decode(message)
    except (
        msgspec.ValidationError,
        msgspec.DecodeError,
        UnicodeDecodeError,
        RecursionError,
    ) as error:
        raise _explain(message, error) from None
    if click.event_id is not msgspec.UNSET:
        _check_uuid(click.event_id)
    return click


def event_time(click: Click) -> datetime:
    """Event time in UTC, in microseconds; further digits are cut.

    Raises:
        InvalidClick: well-formed but not a calendar date and time, such as 30 February.
    """
    seconds, _, fraction = click.timestamp[:-1].partition(".")
    try:
        return datetime.fromisoformat(f"{seconds}.{fraction[:6]:0<6}").replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidClick(
            "timestamp", f"must be a valid date and time ({error})", click.timestamp
        ) from None


def check_age(click: Click, moment: datetime, *, now: datetime, max_age_hours: float) -> None:
    """Compare the event time with `now`, the clock of click validation.

    Raises:
        InvalidClick: more than 60 s ahead, or more than `max_age_hours` behind.
    """
    ahead = (moment - now).total_seconds()
    if ahead > MAX_FUTURE_SECONDS:
        raise InvalidClick(
            "timestamp",
            f"must not be more than {MAX_FUTURE_SECONDS} s in the future",
            click.timestamp,
        )
    if -ahead > max_age_hours * 3600:
        raise InvalidClick(
            "timestamp",
            f"must not be more than {max_age_hours:g} h old (MAX_EVENT_AGE_HOURS)",
            click.timestamp,
        )


def canonical_time(moment: datetime) -> str:
    """Such as `2026-11-22T00:05:00.123456Z`: always microseconds, so texts compare as times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def json_schema() -> dict[str, object]:
    """JSON Schema of one message."""
    return msgspec.json.schema(Click)


def _check_uuid(text: str) -> None:
    try:
        ok = len(text) == 36 and str(UUID(text)) == text.lower()
    except ValueError:
        ok = False
    if not ok:
        raise InvalidClick("event_id", "must be a UUID", text)


def _explain(message: bytes, error: Exception) -> InvalidClick:
    """Parse msgspec's error message into field, rule and offending value."""
    text = str(error)
    rule = _path.sub("", text)
    missing = _missing.search(text)
    if missing:
        return InvalidClick(missing[1], "is required", "missing")
    at = _path.search(text)
    if at is None:
        return InvalidClick(
            "message",
            f"must be one UTF-8 JSON object ({rule})",
            message[:200].decode("utf-8", "backslashreplace"),
        )
    try:
        value = _untyped.decode(message).get(at[1])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, AttributeError):
        value = message[:200].decode("utf-8", "backslashreplace")
    return InvalidClick(at[1], rule, value)
