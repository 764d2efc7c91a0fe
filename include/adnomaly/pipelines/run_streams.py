"""Start, stop and show the always-on processes, and plan what the generator sends."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from adnomaly.home import Home
from adnomaly.stores.bundles import BundleStore
from adnomaly.streams import START_ORDER, with_role

if TYPE_CHECKING:
    from adnomaly.clients.supervisord import Supervisor
    from adnomaly.settings import Settings

CONSUMERS: Final = with_role("consumer")
SCORING: Final = with_role("scoring")
"""Started only with a bundle to serve."""

GENERATOR: Final = with_role("generator")

log = logging.getLogger(__name__)


def write_plan(
    settings: "Settings",
    *,
    begin: str | None,
    attacks: Sequence[str],
    base_eps: float | None,
    now: datetime,
) -> str:
    """Write the plan of the generator; returns it in one line.

    Attacks of the previous plan that are not over yet stay in it.

    Args:
        begin: ISO 8601 or relative (`-2h`): from when to send. Nothing is sent twice.
        attacks: `kind:GEO:platform:start:duration[:strength]`.
        base_eps: clicks per second instead of BASE_EPS, until that setting changes; None keeps the
            value of the previous plan.
        now: the reference of relative times.

    Raises:
        ValueError: an attack or a time is malformed; the message has the expected form.
    """
    # DAG files must not load numpy.
    from adnomaly.attacks import Attack, moment
    from adnomaly.generator_state import GeneratorFiles, Plan

    files = GeneratorFiles(Home.of(settings))
    previous, sent_until = files.read_plan(), files.read_progress().next
    lasting = [a for a in previous.attacks if a.end > (sent_until or now)]
    new = [Attack.parse(text, now=now) for text in attacks]
    plan = Plan(
        begin=moment(begin, now=now) if begin else None,
        attacks=tuple(dict.fromkeys([*lasting, *new])),
        base_eps=previous.base_eps if base_eps is None else base_eps,
        instead_of=previous.instead_of if base_eps is None else settings.base_eps,
    )
    files.write_plan(plan)
    return msgspec.json.encode(plan).decode()


def prepare(
    settings: "Settings",
    create: Sequence[Callable[[], object]],
    *,
    begin: str | None,
    attacks: Sequence[str],
    base_eps: float | None,
    now: datetime,
) -> list[str]:
    """Create what the streams need; returns the programs to start after the consumers.

    Args:
        create: idempotent functions that create missing topics and tables.
    """
    for create_missing in create:
        create_missing()
    plan = write_plan(settings, begin=begin, attacks=attacks, base_eps=base_eps, now=now)
    log.info("plan: %s", plan)
    scoring = scoring_programs(Home.of(settings))
    if not scoring:
        log.warning(
            "no bundle to serve yet: starting without scoring;"
            " run deploy_detector, then run_streams again"
        )
    return [*scoring, *GENERATOR]


def scoring_programs(home: Home) -> list[str]:
    """The scoring programs; none before the first `deploy_detector`."""
    return list(SCORING) if BundleStore(home.bundles).current() else []


def stop_streams(supervisor: "Supervisor") -> list[str]:
    """Stop every stream, writers before readers, each after its batch; returns those that ran."""
    return supervisor.stop(START_ORDER[::-1])


def status(supervisor: "Supervisor") -> dict[str, str]:
    """State and uptime of each stream, in start order."""
    programs = supervisor.programs()
    return {
        name: f"{programs[name].state} for {programs[name].uptime_s} s"
        if name in programs
        else "unknown"
        for name in START_ORDER
    }
