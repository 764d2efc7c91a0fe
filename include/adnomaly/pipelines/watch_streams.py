"""Do the streams run and keep up? Programs, the window job, lag of the sinks, age of the newest window."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from adnomaly.errors import AdnomalyError, StreamsUnhealthy
from adnomaly.pipelines.run_streams import GENERATOR, STREAMS, Program
from adnomaly.ports import StreamedWindows

FALLEN: Final = frozenset({"EXITED", "FATAL", "UNKNOWN"})
"""States of a program that is meant to run and that its supervisor has given up. STOPPED is none: that was asked for."""

_MEANT_TO_RUN: Final = FALLEN | {"STARTING", "RUNNING", "BACKOFF"}

_SINKS: Final = frozenset({"store_clicks", "archive_clicks"})
_WINDOW_MAKERS: Final = frozenset({*GENERATOR, "validate_clicks", "window_job", "publish_features"})


log = logging.getLogger(__name__)


class Finding(NamedTuple):
    """One thing that was looked at."""

    name: str
    text: str
    well: bool = True


class Programs(Protocol):
    """Whoever owns the processes."""

    def programs(self) -> Mapping[str, Program]: ...
    def start(self, names: Sequence[str]) -> list[str]: ...


class WindowJob(Protocol):
    """Whoever runs the window job."""

    def window_job_state(self) -> str | None: ...


class Sinks(Protocol):
    """Whoever knows how far the sinks are."""

    def lags(self) -> Mapping[str, int]: ...


def restart_fallen(supervisor: Programs) -> list[str]:
    """Start every program that ended although it should run; returns their names. What was stopped on purpose stays so."""
    fallen = [name for name, program in supervisor.programs().items() if program.state in FALLEN]
    for name in fallen:
        log.warning("%s has fallen: starting it again", name)
    return supervisor.start(fallen)


def check(
    supervisor: Programs, flink: WindowJob, sinks: Sinks, windows: StreamedWindows, *, max_lag: int, max_age_s: int, now: datetime
) -> dict[str, str]:
    """What was looked at and found well, one line each; nothing is asked about streams that are stopped.

    Raises:
        StreamsUnhealthy: one line for each thing that is not as it should be.
    """
    programs = supervisor.programs()
    meant = {name for name in STREAMS if name in programs and programs[name].state in _MEANT_TO_RUN}
    found = [_program(name, programs[name]) for name in STREAMS if name in meant]
    if "window_job" in meant:
        found.append(_asked("flink", lambda: _job(flink.window_job_state())))
    if meant & _SINKS:
        found.append(_asked("lag", lambda: _lag({s: n for s, n in sinks.lags().items() if s in meant}, max_lag)))
    # The generator says when windows are due: other producers may be silent for as long as they like.
    if meant >= _WINDOW_MAKERS:
        uptime_s = min(programs[name].uptime_s for name in _WINDOW_MAKERS)
        found.append(_asked("windows", lambda: _age(windows.span(), now, max_age_s, uptime_s)))
    wrong = [f"{finding.name}: {finding.text}" for finding in found if not finding.well]
    if wrong:
        raise StreamsUnhealthy("\n".join(wrong))
    return {finding.name: finding.text for finding in found}


def _asked(name: str, question: Callable[[], Finding]) -> Finding:
    """The answer, or why there is none."""
    try:
        return question()
    except AdnomalyError as error:
        return Finding(name, str(error), well=False)


def _program(name: str, program: Program) -> Finding:
    if program.state in ("RUNNING", "STARTING"):
        return Finding(name, f"{program.state} for {program.uptime_s} s")
    return Finding(name, f"{program.state}, its log is logs/{name}.log", well=False)


def _job(state: str | None) -> Finding:
    return Finding("flink", f"the window job is {state or 'not there'}", well=state == "RUNNING")


def _lag(lags: Mapping[str, int], most: int) -> Finding:
    text = ", ".join(f"{sink} is {messages:,} messages behind" for sink, messages in sorted(lags.items()))
    return Finding("lag", text or "nothing stored yet", well=max(lags.values(), default=0) <= most)


def _age(span: tuple[datetime, datetime] | None, now: datetime, most_s: int, uptime_s: int) -> Finding:
    """Streams that came up a moment ago are given the time to close their first window."""
    if uptime_s < most_s:
        return Finding("windows", f"not judged: the streams have run for {uptime_s} s only")
    if span is None:
        return Finding("windows", "none has been closed yet", well=False)
    age_s = (now - span[1]).total_seconds()
    return Finding("windows", f"the newest ended {age_s:.0f} s ago", well=age_s <= most_s)
