"""MAP.toml: how a row of a foreign log gives each field of a click.

    [timestamp]
    column = "click_time"
    format = "%d/%m/%Y %H:%M:%S"    # or iso (the default), epoch_s, epoch_ms, epoch_us
    zone = "Asia/Shanghai"          # of times without a zone; UTC by default
    [user_id_hash]
    hash = ["ip", "device"]         # keyed with HASH_SALT: personal data stay in this process
    [platform]
    column = "os"
    values = { "13" = "android", "19" = "ios" }
    default = "web"                 # for empty and for other values
    [geo]
    value = "DE"                    # the same for every row

Each field takes one of `column`, `value` and `hash`. Ids of ads and campaigns may be any text:
digits get the prefix of the click schema, other text becomes the digits of its hash.
"""

import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from adnomaly.errors import BadInput
from adnomaly.events import Click, canonical_time

FIELDS: Final = tuple(field.encode_name for field in msgspec.structs.fields(Click))
OPTIONAL: Final = ("event_id",)
PREFIXES: Final = {"ad_id": "ad_", "campaign_id": "camp_"}
NUMBERS: Final = ("CPC", "CTR", "bounce_rate")
EPOCHS: Final = {"epoch_s": 1, "epoch_ms": 1_000, "epoch_us": 1_000_000}
YES: Final = {"1", "1.0", "true", "yes", "y", "t"}
NO: Final = {"0", "0.0", "false", "no", "n", "f", ""}

CACHED_VALUES: Final = 1 << 16
"""Converted values that are cached per field."""

Row = Mapping[str, Any]
Make = Callable[[Row], Any]
"""Gives the value of one field from a row."""


class Unmapped(ValueError):
    """A row does not give a field; the message names field and reason."""

    def __init__(self, field: str, reason: str, value: object) -> None:
        super().__init__(f"{field}: {reason}")
        self.value = str(value)[:200]


class FieldSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The source of one field."""

    column: str | None = None
    value: str | int | float | bool | None = None
    hash: list[str] | None = None
    values: dict[str, str | int | float] | None = None
    default: str | int | float | None = None
    format: str | None = None
    zone: str | None = None


class ClickMap:
    """A validated map.

    Attributes:
        columns: columns of the log that it reads.
    """

    def __init__(self, sources: Mapping[str, FieldSource], salt: bytes) -> None:
        self.columns = sorted(
            {name for s in sources.values() for name in ([s.column] if s.column else s.hash or [])}
        )
        self.time = _time(sources["timestamp"])
        key = hashlib.blake2b(salt).digest()
        self._makers = {
            field: _maker(field, source, key)
            for field, source in sources.items()
            if field != "timestamp"
        }

    def fields(self, row: Row, moment: datetime) -> dict[str, Any]:
        """The fields of a click of this moment, from a row.

        Raises:
            Unmapped: the row does not give one.
        """
        return {"timestamp": _text(moment)} | {
            field: make(row) for field, make in self._makers.items()
        }


def load(file: Path, salt: bytes) -> ClickMap:
    """Load and validate the map of a TOML file.

    Raises:
        BadInput: naming the key, the value and the fix.
    """
    try:
        raw = tomllib.loads(file.read_text())
    except OSError as error:
        raise BadInput(f"{file}: {error.strerror}; give the path of a MAP.toml") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: is not TOML: {error}") from None
    unknown = sorted(set(raw) - set(FIELDS))
    if unknown:
        raise BadInput(
            f"{file}: [{unknown[0]}] is no field of a click; the fields are {', '.join(FIELDS)}"
        )
    missing = [field for field in FIELDS if field not in raw and field not in OPTIONAL]
    if missing:
        raise BadInput(f"{file}: [{missing[0]}] is missing; give it a column, a value or a hash")
    try:
        sources = msgspec.convert(raw, dict[str, FieldSource])
    except msgspec.ValidationError as error:
        raise BadInput(
            f"{file}: {error}; a field takes column, value, hash, values and default; "
            "timestamp also format and zone"
        ) from None
    for field, source in sources.items():
        _check(file, field, source)
    return ClickMap(sources, salt)


def _check(file: Path, field: str, source: FieldSource) -> None:
    given = [name for name in ("column", "value", "hash") if getattr(source, name) is not None]
    if len(given) != 1:
        raise BadInput(
            f"{file}: [{field}] has {' and '.join(given) or 'none of column, value and hash'}; "
            "give exactly one of them"
        )
    if field == "timestamp" and given != ["column"]:
        raise BadInput(f"{file}: [timestamp] has {given[0]}; a click's moment comes from a column")
    if field == "user_id_hash" and given == ["value"]:
        raise BadInput(
            f"{file}: [user_id_hash] has value; one user for all clicks hides bots: "
            "name the columns that identify users in hash"
        )
    if field != "timestamp" and (source.format or source.zone):
        raise BadInput(f"{file}: [{field}] has format or zone; only timestamp has them")
    if (source.values is not None or source.default is not None) and given != ["column"]:
        raise BadInput(f"{file}: [{field}] has values or default without a column")
    if source.zone:
        try:
            ZoneInfo(source.zone)
        except (KeyError, ValueError, OSError):
            raise BadInput(
                f"{file}: [timestamp] zone {source.zone!r} is not known; "
                "write one such as Europe/Berlin"
            ) from None


def _time(source: FieldSource) -> Callable[[Row], datetime]:
    column, form = source.column or "", source.format or "iso"
    zone: tzinfo = ZoneInfo(source.zone) if source.zone else UTC
    parse: Callable[[str], datetime]
    if form in EPOCHS:
        unit = EPOCHS[form]
        parse = lambda text: datetime.fromtimestamp(float(text) / unit, UTC)  # noqa: E731
    elif form == "iso":
        parse = datetime.fromisoformat
    else:
        parse = lambda text: datetime.strptime(text, form)  # noqa: E731, DTZ007 - zone added below

    @lru_cache(CACHED_VALUES)  # logs write whole seconds, many rows each
    def read(value: object) -> datetime:
        time = value if isinstance(value, datetime) else parse(str(value).strip())
        return (time if time.tzinfo else time.replace(tzinfo=zone)).astimezone(UTC)

    def moment(row: Row) -> datetime:
        value = row[column]
        try:
            return read(value)
        except (ValueError, OverflowError, OSError, TypeError):
            raise Unmapped("timestamp", f"is no moment of the form {form}", value) from None

    return moment


def _maker(field: str, source: FieldSource, key: bytes) -> Make:
    if source.hash:
        hashed = lru_cache(CACHED_VALUES)(
            lambda joined: hashlib.blake2b(joined, digest_size=16, key=key).hexdigest()
        )
        return lambda row: hashed(_joined(row, source.hash or []))
    if source.value is not None:
        fixed = _typed(field, source.value)
        return lambda _: fixed
    column, values, default = source.column or "", source.values, source.default

    def make(row: Row) -> Any:
        value = row[column]
        empty = value is None or value == ""
        if values is not None and not empty:
            value = values.get(str(value).strip(), default)
            empty = value is None
            if empty:
                raise Unmapped(
                    field,
                    "is not among the values of the map, and there is no default",
                    row[column],
                )
        if empty:
            if default is None:
                raise Unmapped(field, "is empty, and the map has no default", "")
            value = default
        return _typed(field, value)

    return make


@lru_cache(CACHED_VALUES)
def _typed(field: str, value: Any) -> Any:
    """Convert a value to the type of the click schema, whose validation checks the rest."""
    text = str(value).strip()
    if field in NUMBERS:
        try:
            return float(text)
        except ValueError:
            raise Unmapped(field, "is not a number", value) from None
    if field == "conversion":
        if text.lower() in YES | NO:
            return int(text.lower() in YES)
        raise Unmapped(field, "is neither yes nor no", value)
    if field in PREFIXES and not text.startswith(PREFIXES[field]):
        return PREFIXES[field] + (text if re.fullmatch("[0-9]+", text) else _digits(text))
    if field == "geo":
        return text.upper()
    return text.lower() if field in ("platform", "user_id_hash", "event_id") else text


@lru_cache(CACHED_VALUES)
def _text(moment: datetime) -> str:
    return canonical_time(moment)


def _digits(text: str) -> str:
    return str(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big"))


def _joined(row: Row, columns: list[str]) -> bytes:
    """Join values with their lengths, so that no two users give the same bytes."""
    parts = [str(row[name]).encode() for name in columns]
    return b"".join(b"%d:" % len(part) + part for part in parts)
