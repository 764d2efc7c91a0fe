"""Write weeks of normal traffic into the lake, from the traffic model that feeds the stream."""

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from adnomaly.attacks import Attack, moment
from adnomaly.errors import InvalidSetting
from adnomaly.generator_state import GeneratorFiles, HistorySpan, SentSpans
from adnomaly.home import Home
from adnomaly.settings import Settings
from adnomaly.synthetic.click_source import ClickSource
from adnomaly.synthetic.encode import to_table
from adnomaly.synthetic.traffic import Traffic, minute_of

if TYPE_CHECKING:
    from adnomaly.stores.lake import Lake, LakeObject

SOURCE = "history"
"""Source of the objects in the lake's manifest."""

HOUR = timedelta(hours=1)
_PROGRESS_SECONDS = 5

log = logging.getLogger(__name__)


def generate_history(
    lake: "Lake",
    traffic: Traffic,
    *,
    start: datetime,
    end: datetime,
    attacks: Sequence[Attack] = (),
    sent: SentSpans | None = None,
) -> int:
    """Write every click of [start, end), one object per hour; returns the number of clicks.

    Idempotent: each hour replaces its object, with equal clicks for an equal seed. Spans in `sent`
    are left out, because the stream's consumers store those. One hour is written while the next is
    generated, so the lake is used from one other thread.

    Raises:
        InvalidSetting: start or end is not a full hour, or start is not before end.
    """
    hours = list(_hours(start, end))
    source, began = ClickSource(traffic), time.monotonic()
    written, reported = 0, began
    pending: Future[LakeObject] | None = None
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="lake") as writer:
        for done, hour in enumerate(hours, 1):
            table = hour_of_clicks(source, hour, attacks, sent or SentSpans())
            _finish(pending)
            pending = (
                writer.submit(lake.write_history, hour, table, SOURCE) if table.num_rows else None
            )
            written += table.num_rows
            if time.monotonic() - reported >= _PROGRESS_SECONDS:
                reported = time.monotonic()
                _report(hour, done, len(hours), written, reported - began)
        _finish(pending)
    span, seconds = f"{_text(start)} to {_text(end)}", time.monotonic() - began
    log.info(
        "history: %s clicks in %d hours from %s, in %.0f s",
        f"{written:,}",
        len(hours),
        span,
        seconds,
    )
    return written


def run(
    lake: "Lake",
    settings: Settings,
    *,
    days: float = 1,
    end: str | None = None,
    base_eps: float | None = None,
    replace: bool = False,
    attacks: Sequence[str] = (),
    now: datetime,
) -> int:
    """Generate history from the plain parameters of a DAG or a command line; record ground truth.

    Args:
        days: length of the history, rounded to hours.
        end: ISO 8601 or relative (`-2h`), rounded down to the hour; default: last UTC midnight.
        base_eps: mean clicks per second; default: of the history that is there, else of the
            generator.
        replace: overwrite hours that were generated at another rate.
        attacks: `kind:GEO:platform:start:duration[:strength]`, none by default.

    Raises:
        InvalidSetting: hours have a history of another rate, and `replace` is false.
    """
    until = (
        _whole_hour(moment(end, now=now))
        if end
        else now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    )
    begin = until - round(days * 24) * HOUR
    files = GeneratorFiles(Home.of(settings))
    before = files.read_history()
    rate = base_eps or before.base_eps or files.read_plan().rate(settings.base_eps)
    span = HistorySpan(begin, until, rate)
    if (there := before.of_another_rate(span)) and not replace:
        raise InvalidSetting(
            f"base_eps {rate:g}: {_text(there.start)} to {_text(there.end)} has a history of"
            f" {there.base_eps:g} clicks per second; give that rate, choose other hours, or set"
            " replace to overwrite them"
        )
    traffic = Traffic.from_settings(settings, base_eps=rate)
    planned = [Attack.parse(text, now=now) for text in attacks]
    clicks = generate_history(
        lake, traffic, start=begin, end=until, attacks=planned, sent=files.read_progress()
    )
    files.plant(planned, after=begin)
    files.write_history(before.with_span(span))
    return clicks


def hour_of_clicks(
    source: ClickSource, hour: datetime, attacks: Sequence[Attack], sent: SentSpans
) -> pa.Table:
    """The clicks of one hour that were not sent live, as stored."""
    clicks = source.clicks(minute_of(hour), 60, attacks)
    if sent.sent:
        clicks = clicks.take(~sent.covers(clicks.time_us))
    return to_table(clicks, source)


def _hours(start: datetime, end: datetime) -> Iterator[datetime]:
    if start >= end or any(m != _whole_hour(m) for m in (start, end)):
        raise InvalidSetting(f"history needs whole hours and start < end, got {start} and {end}")
    return (start + i * HOUR for i in range((end - start) // HOUR))


def _whole_hour(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _finish(writing: "Future[LakeObject] | None") -> None:
    """Wait for the hour being written; re-raise its error."""
    if writing is not None:
        writing.result()


def _report(hour: datetime, done: int, total: int, written: int, seconds: float) -> None:
    left = seconds / done * (total - done)
    log.info(
        "history: %d of %d hours, up to %s, %s clicks, %s/s, about %.0f s left",
        done,
        total,
        _text(hour),
        f"{written:,}",
        f"{written / seconds:,.0f}",
        left,
    )


def _text(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%MZ}"
