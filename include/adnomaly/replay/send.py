"""Replays files: looks at all of them first, then sends what can be mapped, at the speed that was asked for."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
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
"""Clicks that come later than this behind others are late for the stream of windows."""
SAY_SECONDS: Final = 2.0
MOMENT_SECONDS: Final = 0.2
"""Paced sending rests when it is so far ahead."""


class Log(NamedTuple):
    """What a first look at the files found.

    Attributes:
        rows: lines of all files, those without a moment included.
        behind: rows more than 30 s behind an earlier row.
    """

    rows: int
    first: datetime
    last: datetime
    behind: int


class Report(NamedTuple):
    """What became of the rows: read = sent + unmapped. `examples` has a place and a value for each reason."""

    read: int
    sent: int
    unmapped: Counter[str]
    examples: dict[str, str]
    stopped: bool


def look(files: Sequence[Path], clicks: ClickMap) -> Log:
    """The rows and the time that the files cover.

    Raises:
        BadInput: no row has a moment.
    """
    rows = behind = 0
    first = last = None
    for _, line in _all(files, clicks):
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
            f"{files[0]}: none of {rows} rows has a moment; look at [timestamp] in the map: its column, format and zone"
        )
    return Log(rows, first, last, behind)


def shift_of(log: Log, *, now: datetime, to_now: bool, speed: float | None) -> timedelta:
    """By how much every moment moves: the last row ends now, or, at a pace, the first one is now. Whole milliseconds."""
    if not to_now:
        return timedelta(0)
    shift = now - (log.last if speed is None else log.first)
    return timedelta(milliseconds=shift // timedelta(milliseconds=1))


def check_age(log: Log, shift: timedelta, *, now: datetime, max_age: timedelta) -> None:
    """Refuse to send what the gate would turn away.

    Raises:
        BadInput: the oldest row is too old, or the newest lies in the future.
    """
    if log.first + shift < now - max_age:
        raise BadInput(
            f"the log begins {canonical_time(log.first + shift)[:16]}Z, and clicks older than {max_age / timedelta(hours=1):g} h become dead letters; "
            f"add --shift-to-now, or raise MAX_EVENT_AGE_HOURS for the gate and for this command, or replay a shorter part"
        )
    if log.last + shift > now + timedelta(minutes=1) and log.last <= now + timedelta(minutes=1):
        return  # at a pace, what is still to come is sent when its time comes
    if log.last > now + timedelta(minutes=1):
        raise BadInput(
            f"the log ends {canonical_time(log.last)[:16]}Z, in the future; look at [timestamp] zone and format in the map"
        )


def replay(
    files: Sequence[Path],
    clicks: ClickMap,
    sender: "TrackedProducer",
    log: Log,
    *,
    shift: timedelta,
    speed: float | None,
    say: Callable[[str], None],
    stopping: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Report:
    """Send every row that can be mapped; what is sent twice with the same shift has the same ids, and counts once.

    Args:
        speed: multiple of the log's own pace; None sends as fast as it can.
    """
    unmapped: Counter[str] = Counter()
    examples: dict[str, str] = {}
    read = sent = 0
    began = said = clock()
    ids = {file: digest(file) for file in files}
    for file, line in _all(files, clicks):
        if stopping():
            break
        read += 1
        try:
            moment, key, value = _message(clicks, ids[file], line, shift)
        except (Unmapped, InvalidClick) as error:
            reason = str(error) if isinstance(error, Unmapped) else f"{error.field}: {error.rule}"
            unmapped[reason] += 1
            examples.setdefault(reason, f"{file.name} row {line.number}: {error.value!r}")
            continue
        if speed is not None:
            _rest(
                began + (moment - shift - log.first).total_seconds() / speed,
                sender,
                clock,
                sleep,
                stopping,
            )
        sender.send(key, value)
        sent += 1
        if clock() - said > SAY_SECONDS:
            said = clock()
            rate = sent / (said - began)
            say(
                f"  {read:,} of {log.rows:,} rows ({read / log.rows:.0%}), up to {canonical_time(moment)[:19]}Z, {rate:,.0f} a second"
            )
    sender.flush()
    return Report(read, sent, unmapped, examples, read < log.rows)


def _message(
    clicks: ClickMap, content: bytes, line: LogLine, shift: timedelta
) -> tuple[datetime, bytes, bytes]:
    if line.values is None:
        raise Unmapped("row", line.wrong, "")
    moment = clicks.time(line.values) + shift
    fields = clicks.fields(line.values, moment)
    if "event_id" not in fields:
        place = b"%b|%d|%d" % (content, line.number, shift // timedelta(milliseconds=1))
        fields["event_id"] = _uuid(hashlib.blake2b(place, digest_size=16).hexdigest())
    message = msgspec.json.encode(fields)
    click = decode(message)
    return moment, partition_key(click.geo, click.platform).encode(), message


def _uuid(digits: str) -> str:
    """Of version 8 (RFC 9562: bits of one's own choice), from 32 hex digits of a hash."""
    return f"{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-{'89ab'[int(digits[16], 16) & 3]}{digits[17:20]}-{digits[20:]}"


def _rest(
    due: float,
    sender: "TrackedProducer",
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    stopping: Callable[[], bool],
) -> None:
    while (ahead := due - clock()) > MOMENT_SECONDS and not stopping():
        sender.poll()
        sleep(min(ahead, MOMENT_SECONDS))


def _all(files: Sequence[Path], clicks: ClickMap) -> Iterator[tuple[Path, LogLine]]:
    return ((file, line) for file in files for line in lines(file, clicks.columns))


def now() -> datetime:
    return datetime.now(UTC)
