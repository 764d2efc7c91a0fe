"""Replay of files: scan all of them, then send the rows that can be mapped, at a given speed."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from adnomaly.errors import BadInput
from adnomaly.events import InvalidClick, canonical_time, decode, partition_key
from adnomaly.replay.mapping import ClickMap, Unmapped
from adnomaly.replay.read import LogLine, digest, lines

if TYPE_CHECKING:
    from adnomaly.clients.kafka.producer import TrackedProducer

OUT_OF_ORDER: Final = timedelta(seconds=30)
"""Clicks further behind earlier ones are late for live windows."""
PROGRESS_SECONDS: Final = 2.0
MAX_AHEAD_SECONDS: Final = 0.2
"""Paced sending sleeps when it is further ahead."""


class LogSummary(NamedTuple):
    """Rows and time span of the files.

    Attributes:
        rows: rows of all files, including those without a moment.
        behind: rows more than 30 s behind an earlier row.
    """

    rows: int
    first: datetime
    last: datetime
    behind: int


class ReplayReport(NamedTuple):
    """Outcome of the rows: read = sent + unmapped; `examples` has a row and a value per reason."""

    read: int
    sent: int
    unmapped: Counter[str]
    examples: dict[str, str]
    stopped: bool


def scan(files: Sequence[Path], clicks: ClickMap) -> LogSummary:
    """Count the rows and find the time span of the files.

    Raises:
        BadInput: no row has a moment.
    """
    rows = behind = 0
    first = last = None
    for _, line in _lines(files, clicks):
        rows += 1
        try:
            moment = clicks.time(line.values) if line.values else None
        except Unmapped:
            moment = None
        if moment:
            behind += last is not None and moment < last - OUT_OF_ORDER
            first, last = (
                (min(first, moment), max(last, moment)) if first and last else (moment, moment)
            )
    if first is None or last is None:
        raise BadInput(
            f"{files[0]}: none of {rows} rows has a moment; "
            "check column, format and zone of [timestamp] in the map"
        )
    return LogSummary(rows, first, last, behind)


def shift_of(log: LogSummary, *, now: datetime, to_now: bool, speed: float | None) -> timedelta:
    """The shift of every moment, in milliseconds: the last row is now, or, at a pace, the first."""
    if not to_now:
        return timedelta(0)
    shift = now - (log.last if speed is None else log.first)
    return timedelta(milliseconds=shift // timedelta(milliseconds=1))


def check_age(log: LogSummary, shift: timedelta, *, now: datetime, max_age: timedelta) -> None:
    """Refuse a log that validation would reject.

    Raises:
        BadInput: the oldest row is too old, or the newest lies in the future.
    """
    if log.first + shift < now - max_age:
        raise BadInput(
            f"the log begins {canonical_time(log.first + shift)[:16]}Z, and clicks older than "
            f"{max_age / timedelta(hours=1):g} h become dead letters; add --shift-to-now, or raise "
            "MAX_EVENT_AGE_HOURS for validate_clicks and for this command, or replay a shorter part"
        )
    if log.last + shift > now + timedelta(minutes=1) and log.last <= now + timedelta(minutes=1):
        return  # At a pace, future rows are sent when they are due.
    if log.last > now + timedelta(minutes=1):
        raise BadInput(
            f"the log ends {canonical_time(log.last)[:16]}Z, in the future; "
            "check zone and format of [timestamp] in the map"
        )


def replay(
    files: Sequence[Path],
    clicks: ClickMap,
    sender: "TrackedProducer",
    log: LogSummary,
    *,
    shift: timedelta,
    speed: float | None,
    say: Callable[[str], None],
    stopping: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> ReplayReport:
    """Send every row that can be mapped.

    Rows sent again with the same shift have the same event ids, so they count once.

    Args:
        speed: multiple of the pace of the log; None sends as fast as possible.
    """
    unmapped: Counter[str] = Counter()
    examples: dict[str, str] = {}
    read = sent = 0
    began = reported = clock()
    ids = {file: digest(file) for file in files}
    for file, line in _lines(files, clicks):
        if stopping():
            break
        read += 1
        try:
            moment, key, value = _message(clicks, ids[file], line, shift)
        except (Unmapped, InvalidClick) as error:
            reason = _reason(error)
            unmapped[reason] += 1
            examples.setdefault(reason, f"{file.name} row {line.number}: {error.value!r}")
            continue
        if speed is not None:
            due = began + (moment - shift - log.first).total_seconds() / speed
            _wait_until(due, sender, clock, sleep, stopping)
        sender.send(key, value)
        sent += 1
        if clock() - reported > PROGRESS_SECONDS:
            reported = clock()
            say(_progress(read, log.rows, moment, sent / (reported - began)))
    sender.flush()
    return ReplayReport(read, sent, unmapped, examples, read < log.rows)


def _reason(error: Unmapped | InvalidClick) -> str:
    return str(error) if isinstance(error, Unmapped) else f"{error.field}: {error.rule}"


def _progress(read: int, rows: int, moment: datetime, rate: float) -> str:
    return (
        f"  {read:,} of {rows:,} rows ({read / rows:.0%}), "
        f"up to {canonical_time(moment)[:19]}Z, {rate:,.0f} a second"
    )


def _message(
    clicks: ClickMap, content: bytes, line: LogLine, shift: timedelta
) -> tuple[datetime, bytes, bytes]:
    if line.values is None:
        raise Unmapped("row", line.error, "")
    moment = clicks.time(line.values) + shift
    fields = clicks.fields(line.values, moment)
    if "event_id" not in fields:
        place = b"%b|%d|%d" % (content, line.number, shift // timedelta(milliseconds=1))
        fields["event_id"] = _uuid(hashlib.blake2b(place, digest_size=16).hexdigest())
    message = msgspec.json.encode(fields)
    click = decode(message)
    return moment, partition_key(click.geo, click.platform).encode(), message


def _uuid(digits: str) -> str:
    """UUIDv8 (RFC 9562, custom bits) from 32 hex digits of a hash."""
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def _wait_until(
    due: float,
    sender: "TrackedProducer",
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    stopping: Callable[[], bool],
) -> None:
    while (ahead := due - clock()) > MAX_AHEAD_SECONDS and not stopping():
        sender.poll()
        sleep(min(ahead, MAX_AHEAD_SECONDS))


def _lines(files: Sequence[Path], clicks: ClickMap) -> Iterator[tuple[Path, LogLine]]:
    return ((file, line) for file in files for line in lines(file, clicks.columns))
