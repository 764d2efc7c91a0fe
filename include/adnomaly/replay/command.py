"""`adnomaly replay`: from files to the topic of clicks, with what was found before and what became of it after."""

import re
import signal
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from adnomaly.clients.kafka.admin import topic_id
from adnomaly.clients.kafka.producer import TrackedProducer
from adnomaly.errors import BadInput
from adnomaly.events import canonical_time
from adnomaly.replay import send
from adnomaly.replay.mapping import load
from adnomaly.settings import load_settings

Say = Callable[[str], None]


def replay(
    files: Sequence[Path], map_file: Path, *, speed: str, to_now: bool, topic: str, say: Say
) -> None:
    """Look at the files, send them, and say what became of every row.

    Raises:
        BadInput: the map or a file cannot be used; nothing was sent.
        Unavailable: Kafka cannot be reached.
    """
    settings = load_settings()
    pace = _pace(speed)
    clicks = load(map_file, settings.hash_salt.get_secret_value().encode())
    say(f"looking at {', '.join(file.name for file in files)}")
    log = send.look(files, clicks)
    now = send.now()
    shift = send.shift_of(log, now=now, to_now=to_now, speed=pace)
    send.check_age(log, shift, now=now, max_age=settings.max_event_age)
    say(
        f"  {log.rows:,} rows, {_moment(log.first)} to {_moment(log.last)}"
        + (f", moved by {_length(shift)}" if shift else "")
    )
    if log.behind:
        say(
            f"  {log.behind:,} rows lie more than 30 s behind earlier ones: table and lake take them, live windows count them as late; sort the log"
        )
    topic_id(settings.kafka_bootstrap, topic)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    outbox = TrackedProducer(settings.kafka_bootstrap, topic)
    report = send.replay(
        files, clicks, outbox, log, shift=shift, speed=pace, say=say, stopping=stop.is_set
    )
    _tell(report, outbox.delivered, topic, say)


def _tell(report: send.Report, delivered: int, topic: str, say: Say) -> None:
    lost = sum(report.unmapped.values())
    say(
        f"{'stopped: ' if report.stopped else ''}{report.read:,} rows read = {report.sent:,} sent + {lost:,} that could not be mapped"
    )
    for reason, count in report.unmapped.most_common():
        say(f"  {count:>9,}  {reason}; first {report.examples[reason]}")
    say(
        f"Kafka acknowledged {delivered:,} messages in {topic}. Next: make tail, make status; alerts come with the windows (make logs P=score_windows)"
    )


def _pace(speed: str) -> float | None:
    """`max` is None.

    Raises:
        BadInput: it is neither max nor a multiple above 0.
    """
    if speed == "max":
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)x", speed)
    if match is None or float(match[1]) <= 0:
        raise BadInput(
            f"--speed is {speed!r}; write max, or a multiple of the log's own pace such as 1x or 60x"
        )
    return float(match[1])


def _moment(moment: object) -> str:
    return canonical_time(moment)[:19] + "Z"  # type: ignore[arg-type]


def _length(shift: timedelta) -> str:
    return (
        f"{shift / timedelta(days=1):+.1f} days"
        if abs(shift) > timedelta(days=2)
        else f"{shift / timedelta(minutes=1):+.1f} minutes"
    )
