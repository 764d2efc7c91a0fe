"""Does the path of a click flow? Start again what fell, up to a limit; keep what was seen; raise an incident about what stays wrong."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from adnomaly.errors import AdnomalyError, StreamsUnhealthy
from adnomaly.monitoring.stages import (
    STAGES,
    Limits,
    Snapshot,
    Stage,
    evaluate_stages,
    red_stages,
)
from adnomaly.streams import START_ORDER

if TYPE_CHECKING:
    from adnomaly.clients.supervisord import Supervisor
    from adnomaly.monitoring.collector import StatusCollector
    from adnomaly.stores.incidents import IncidentStore
    from adnomaly.stores.stream_health import StreamHealthStore

FALLEN: Final = frozenset({"EXITED", "FATAL", "UNKNOWN"})
"""States of a program that is meant to run and that its supervisor has given up. STOPPED is none: that was asked for."""

COUNTED: Final = timedelta(minutes=10)
"""Restarts within this time count against the limit."""

log = logging.getLogger(__name__)


def restart_fallen(supervisor: "Supervisor", *, most: int, now: datetime) -> dict[str, list[str]]:
    """Start every program that ended although it should run, and give up streams that keep ending.

    A stream that was started more than `most` times after the first within ten minutes, by its supervisor or by us, is stopped,
    and its last words are kept as the reason. What was stopped on purpose stays so.

    Returns:
        `restarted` and `given_up`: names.
    """
    starts, known = supervisor.starts, supervisor.programs()
    hopeless = [
        n
        for n in START_ORDER
        if n in known and n not in starts.given_up() and known[n].state != "STOPPED"
    ]
    hopeless = [n for n in hopeless if starts.since(n, (now - COUNTED).timestamp()) > most + 1]
    for name in hopeless:
        reason = f"restarted {most} times within {COUNTED // timedelta(minutes=1)} minutes; its last words: {starts.last_error(name)}"
        log.error("%s is given up: %s", name, reason)
        starts.give_up(name, reason)
    supervisor.stop(hopeless)
    fallen = [
        name for name, program in known.items() if program.state in FALLEN and name not in hopeless
    ]
    for name in fallen:
        log.warning("%s has fallen: starting it again", name)
    return {"restarted": supervisor.start(fallen, again=True), "given_up": hopeless}


def check(
    collector: "StatusCollector",
    health: "StreamHealthStore",
    incidents: "IncidentStore",
    limits: Limits,
) -> dict[str, str]:
    """Look at the whole path, keep what was seen, and raise an incident about what is red for the second time or given up.

    Returns:
        stage -> its state and why.

    Raises:
        StreamsUnhealthy: one line for each stage that is red.
    """
    seen = collector.collect()
    stages = evaluate_stages(seen, _or_nothing(lambda: health.before(seen.at), {}), limits)
    red = red_stages(stages)
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


def _keep(
    health: "StreamHealthStore", incidents: "IncidentStore", seen: Snapshot, stages: Sequence[Stage]
) -> None:
    again = health.red(seen.at)
    health.save(stages, seen.at)
    programs = {spec.name: spec.program for spec in STAGES}
    lasting = [
        s for s in red_stages(stages) if s.name in again or programs[s.name] in seen.given_up
    ]
    still = [incidents.report(s.name, f"{s.title}: {s.reason}", seen.at) for s in lasting]
    # What is red for the first time is neither reported nor over.
    if all(s in lasting for s in red_stages(stages)):
        incidents.resolve_operations(still, seen.at)
    health.update_totals(seen.at)


def _or_nothing(ask: Any, otherwise: Any) -> Any:
    """The answer; when a store is away, what is wrong is told in the run alone."""
    try:
        return ask()
    except AdnomalyError as error:
        log.error("%s", error)
        return otherwise
