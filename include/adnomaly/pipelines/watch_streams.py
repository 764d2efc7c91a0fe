"""Does the path of a click flow? Start again what fell, up to a limit; keep what was seen; raise an incident about what stays wrong."""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from adnomaly.errors import AdnomalyError, StreamsUnhealthy
from adnomaly.monitoring.stages import PATH, Before, Limits, Seen, Stage, judge, wrong
from adnomaly.pipelines.run_streams import STREAMS, Program

FALLEN: Final = frozenset({"EXITED", "FATAL", "UNKNOWN"})
"""States of a program that is meant to run and that its supervisor has given up. STOPPED is none: that was asked for."""

COUNTED: Final = timedelta(minutes=10)
"""Restarts within this time count against the limit."""

log = logging.getLogger(__name__)


class Starts(Protocol):
    """Who knows how often a program was started."""

    def since(self, program: str, moment_s: float) -> int: ...
    def give_up(self, program: str, reason: str) -> None: ...
    def given_up(self) -> dict[str, str]: ...
    def last_words(self, program: str) -> str: ...


class Programs(Protocol):
    """Whoever owns the processes."""

    @property
    def starts(self) -> Starts: ...
    def programs(self) -> Mapping[str, Program]: ...
    def start(self, names: Sequence[str], *, again: bool = False) -> list[str]: ...
    def stop(self, names: Sequence[str]) -> list[str]: ...


class Sight(Protocol):
    """Whoever can look at the whole path."""

    def look(self) -> Seen: ...


class Health(Protocol):
    """Where it is kept what was seen."""

    def before(self, now: datetime) -> dict[str, Before]: ...
    def red(self, now: datetime) -> set[str]: ...
    def save(self, stages: Sequence[Stage], at: datetime) -> None: ...
    def close_accounts(self, now: datetime) -> None: ...


class Incidents(Protocol):
    """Where people are told."""

    def report(self, stage: str, summary: str, now: datetime) -> str: ...
    def resolve_operations(self, still: Sequence[str], now: datetime) -> list[str]: ...


def restart_fallen(supervisor: Programs, *, most: int, now: datetime) -> dict[str, list[str]]:
    """Start every program that ended although it should run, and give up streams that keep ending.

    A stream that was started more than `most` times after the first within ten minutes, by its supervisor or by us, is stopped,
    and its last words are kept as the reason. What was stopped on purpose stays so.

    Returns:
        `restarted` and `given_up`: names.
    """
    starts, known = supervisor.starts, supervisor.programs()
    hopeless = [
        n
        for n in STREAMS
        if n in known and n not in starts.given_up() and known[n].state != "STOPPED"
    ]
    hopeless = [n for n in hopeless if starts.since(n, (now - COUNTED).timestamp()) > most + 1]
    for name in hopeless:
        reason = f"restarted {most} times within {COUNTED // timedelta(minutes=1)} minutes; its last words: {starts.last_words(name)}"
        log.error("%s is given up: %s", name, reason)
        starts.give_up(name, reason)
    supervisor.stop(hopeless)
    fallen = [
        name for name, program in known.items() if program.state in FALLEN and name not in hopeless
    ]
    for name in fallen:
        log.warning("%s has fallen: starting it again", name)
    return {"restarted": supervisor.start(fallen, again=True), "given_up": hopeless}


def check(sight: Sight, health: Health, incidents: Incidents, limits: Limits) -> dict[str, str]:
    """Look at the whole path, keep what was seen, and raise an incident about what is red for the second time or given up.

    Returns:
        stage -> its state and why.

    Raises:
        StreamsUnhealthy: one line for each stage that is red.
    """
    seen = sight.look()
    stages = judge(seen, _or_nothing(lambda: health.before(seen.at), {}), limits)
    red = wrong(stages)
    for stage in stages:
        log.log(
            logging.ERROR if stage in red else logging.INFO,
            "%s: %s, %s",
            stage.title,
            stage.state,
            stage.reason,
        )
    _or_nothing(lambda: _keep(health, incidents, seen, stages), None)
    if red:
        raise StreamsUnhealthy("\n".join(f"{s.title}: {s.reason}; {s.todo}" for s in red))
    return {s.name: s.state if s.reason == "well" else f"{s.state}: {s.reason}" for s in stages}


def _keep(health: Health, incidents: Incidents, seen: Seen, stages: Sequence[Stage]) -> None:
    again = health.red(seen.at)
    health.save(stages, seen.at)
    programs = {arrow.name: arrow.program for arrow in PATH}
    lasting = [s for s in wrong(stages) if s.name in again or programs[s.name] in seen.given_up]
    still = [incidents.report(s.name, f"{s.title}: {s.reason}", seen.at) for s in lasting]
    # What is red for the first time is neither reported nor over.
    if all(s in lasting for s in wrong(stages)):
        incidents.resolve_operations(still, seen.at)
    health.close_accounts(seen.at)


def _or_nothing(ask: Any, otherwise: Any) -> Any:
    """The answer; when a store is away, what is wrong is told in the run alone."""
    try:
        return ask()
    except AdnomalyError as error:
        log.error("%s", error)
        return otherwise
