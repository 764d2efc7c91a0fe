"""Watch the streams: restart crashed programs, save the state of all stages, report incidents."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from adnomaly.errors import AdnomalyError, StreamsUnhealthy
from adnomaly.monitoring.stages import (
    ENDED,
    OK,
    Limits,
    PreviousCounts,
    Snapshot,
    Stage,
    evaluate_stages,
    red_stages,
)
from adnomaly.streams import STAGES, START_ORDER

if TYPE_CHECKING:
    from adnomaly.clients.supervisord import Supervisor
    from adnomaly.incidents.service import IncidentService
    from adnomaly.monitoring.collector import StatusCollector
    from adnomaly.stores.stream_health import StreamHealthStore

T = TypeVar("T")

RESTART_SPAN: Final = timedelta(minutes=10)
"""Restarts within this time count against the maximum."""

log = logging.getLogger(__name__)


def restart_fallen(
    supervisor: "Supervisor", *, max_restarts: int, now: datetime
) -> dict[str, list[str]]:
    """Restart programs that ended without being stopped; give up streams that crash repeatedly.

    A stream that was restarted more than `max_restarts` times within RESTART_SPAN, by supervisord
    or by this function, is stopped. Its last error is kept as the reason.

    Returns:
        `restarted` and `given_up`: names.
    """
    history, programs = supervisor.starts, supervisor.programs()
    since, earlier = (now - RESTART_SPAN).timestamp(), history.given_up()
    given_up = [
        name
        for name in START_ORDER
        if name in programs
        and programs[name].state != "STOPPED"
        and name not in earlier
        and history.since(name, since) > max_restarts + 1
    ]
    for name in given_up:
        reason = (
            f"restarted {max_restarts} times within {RESTART_SPAN // timedelta(minutes=1)} minutes;"
            f" last error: {history.last_error(name)}"
        )
        log.error("gave up %s: %s", name, reason)
        history.give_up(name, reason)
    supervisor.stop(given_up)
    ended = [
        name
        for name, program in programs.items()
        if program.state in ENDED and name not in given_up
    ]
    for name in ended:
        log.warning("%s is %s: restarting it", name, programs[name].state)
    return {"restarted": supervisor.start(ended, again=True), "given_up": given_up}


def check(
    collector: "StatusCollector",
    health: "StreamHealthStore",
    incidents: "IncidentService",
    limits: Limits,
) -> dict[str, str]:
    """Evaluate all stages and save the result.

    A stage that is red for the second time, or given up, becomes an incident.

    Returns:
        By stage, its state and reason.

    Raises:
        StreamsUnhealthy: one line for each red stage.
    """
    snapshot = collector.collect()
    unknown: dict[str, PreviousCounts] = {}
    before = _or_default(lambda: health.before(snapshot.at), unknown)
    stages = evaluate_stages(snapshot, before, limits)
    red = red_stages(stages)
    for stage in stages:
        level = logging.ERROR if stage in red else logging.INFO
        log.log(level, "%s: %s, %s", stage.title, stage.state, stage.reason)
    _or_default(lambda: _save(health, incidents, snapshot, stages), None)
    if red:
        raise StreamsUnhealthy("\n".join(f"{s.title}: {s.reason}; {s.todo}" for s in red))
    return {s.name: s.state if s.reason == OK else f"{s.state}: {s.reason}" for s in stages}


def _save(
    health: "StreamHealthStore",
    incidents: "IncidentService",
    snapshot: Snapshot,
    stages: Sequence[Stage],
) -> None:
    red_before = health.red(snapshot.at)
    health.save(stages, snapshot.at)
    given_up = {s.stage for s in STAGES if s.name in snapshot.given_up}
    red = red_stages(stages)
    lasting = [s for s in red if s.name in red_before or s.name in given_up]
    still = [incidents.report(s.name, f"{s.title}: {s.reason}", snapshot.at) for s in lasting]
    # A stage that is red for the first time is neither reported nor recovered.
    if all(s in lasting for s in red):
        incidents.resolve_operations(still, snapshot.at)
    health.update_totals(snapshot.at)


def _or_default(call: Callable[[], T], default: T) -> T:
    """The result; the default when a store is unavailable, which is logged."""
    try:
        return call()
    except AdnomalyError as error:
        log.error("%s", error)
        return default
