"""`adnomaly replay`: send files to the topic of clicks, and report every row."""

import re
import signal
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
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
    """Scan the files, send their rows and report the outcome of every row.

    Raises:
        BadInput: the map or a file cannot be used; nothing was sent.
        Unavailable: Kafka cannot be reached.
    """
    settings = load_settings()
    pace = _pace(speed)
    clicks = load(map_file, settings.hash_salt.get_secret_value().encode())
    say(f"reading {', '.join(file.name for file in files)}")
    log = send.scan(files, clicks)
    now = datetime.now(UTC)
    shift = send.shift_of(log, now=now, to_now=to_now, speed=pace)
    send.check_age(log, shift, now=now, max_age=settings.max_event_age)
    say(
        f"  {log.rows:,} rows, {_moment(log.first)} to {_moment(log.last)}"
        + (f", moved by {_duration(shift)}" if shift else "")
    )
    if log.behind:
        say(
            f"  {log.behind:,} rows are more than 30 s behind earlier ones: "
            "table and lake take them, live windows count them as late; sort the log"
        )
    topic_id(settings.kafka_bootstrap, topic)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    producer = TrackedProducer(settings.kafka_bootstrap, topic)
    report = send.replay(
        files, clicks, producer, log, shift=shift, speed=pace, say=say, stopping=stop.is_set
    )
    _say_report(report, producer.delivered, topic, say)


def _say_report(report: send.ReplayReport, delivered: int, topic: str, say: Say) -> None:
    lost = sum(report.unmapped.values())
    say(
        f"{'stopped: ' if report.stopped else ''}{report.read:,} rows read = "
        f"{report.sent:,} sent + {lost:,} that could not be mapped"
    )
    for reason, count in report.unmapped.most_common():
        say(f"  {count:>9,}  {reason}; first {report.examples[reason]}")
    say(
        f"Kafka acknowledged {delivered:,} messages in {topic}. Next: make tail, make status; "
        "alerts follow with the windows (make logs P=score_windows)"
    )


def _pace(speed: str) -> float | None:
    """Parse --speed; `max` is None.

    Raises:
        BadInput: it is neither max nor a multiple above 0.
    """
    if speed == "max":
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)x", speed)
    if match is None or float(match[1]) <= 0:
        raise BadInput(
            f"--speed is {speed!r}; "
            "write max, or a multiple of the pace of the log such as 1x or 60x"
        )
    return float(match[1])


def _moment(moment: datetime) -> str:
    return canonical_time(moment)[:19] + "Z"


def _duration(shift: timedelta) -> str:
    return (
        f"{shift / timedelta(days=1):+.1f} days"
        if abs(shift) > timedelta(days=2)
        else f"{shift / timedelta(minutes=1):+.1f} minutes"
    )
