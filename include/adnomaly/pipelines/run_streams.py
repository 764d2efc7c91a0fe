"""The always-on processes: which there are, in which order they start and stop, and what the generator shall send."""

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

CONSUMERS: Final = with_role("consumer")
SCORING: Final = with_role("scoring")
"""Started once there is a bundle to serve."""

GENERATOR: Final = with_role("generator")

log = logging.getLogger(__name__)


def write_plan(
    home: Home, *, begin: str | None, attacks: Sequence[str], base_eps: float | None, now: datetime
) -> str:
    """Tell the generator what to send; returns the plan in one line.

    Attacks of the plan before that are not over yet stay in it, so planting another one does not cut them off.

    Args:
        begin: ISO 8601 or relative (`-2h`): from where to send. What was sent already is never sent again.
        attacks: `kind:GEO:platform:start:duration[:strength]`.
        base_eps: clicks per second instead of BASE_EPS; None keeps what the plan before said.
        now: what relative moments refer to.

    Raises:
        ValueError: an attack or a moment is malformed; the message has the form that is expected.
    """
    # Numerical libraries come with them, which reading a DAG file should not wait for.
    from adnomaly.attacks import Attack, moment
    from adnomaly.generator_state import GeneratorFiles, Plan

    files = GeneratorFiles(home)
    before, sent_until = files.read_plan(), files.read_progress().next
    lasting = [a for a in before.attacks if a.end > (sent_until or now)]
    wanted = [Attack.parse(text, now=now) for text in attacks]
    plan = Plan(
        begin=moment(begin, now=now) if begin else None,
        attacks=tuple(dict.fromkeys([*lasting, *wanted])),
        base_eps=before.base_eps if base_eps is None else base_eps,
    )
    files.write_plan(plan)
    return msgspec.json.encode(plan).decode()


def prepare(
    home: Home,
    create: Sequence[Callable[[], object]],
    *,
    begin: str | None,
    attacks: Sequence[str],
    base_eps: float | None,
    now: datetime,
) -> list[str]:
    """Everything the streams need before they start; returns the programs to start after the consumers.

    Args:
        create: create the topics and tables that are missing; each is safe to repeat.
    """
    for missing in create:
        missing()
    log.info("plan: %s", write_plan(home, begin=begin, attacks=attacks, base_eps=base_eps, now=now))
    scoring = scoring_programs(home)
    if not scoring:
        log.warning(
            "no bundle to serve yet: starting without scoring. deploy_detector brings one; then run this again"
        )
    return [*scoring, *GENERATOR]


def scoring_programs(home: Home) -> list[str]:
    """The scoring programs when there is a bundle to serve, else none: `deploy_detector` brings one."""
    return list(SCORING) if BundleStore(home.bundles).current() else []


def stop_streams(supervisor: "Supervisor") -> list[str]:
    """Stop every stream, writers before readers, each after it has finished its batch; returns those that ran."""
    return supervisor.stop(START_ORDER[::-1])


def status(supervisor: "Supervisor") -> dict[str, str]:
    """Each stream and its state with uptime, in starting order."""
    known = supervisor.programs()
    return {
        name: f"{known[name].state} for {known[name].uptime_s} s" if name in known else "unknown"
        for name in START_ORDER
    }
