"""From alerts to incidents that people decide about, and to those who want to be told."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from adnomaly.alerts import ANOMALY
from adnomaly.incidents.decisions import Incident
from adnomaly.incidents.evidence import Evidence

SWEPT: Final = timedelta(days=2)
"""How far back anomalous windows are looked for whose alert was missed."""

log = logging.getLogger(__name__)


class Alerts(Protocol):
    """The topic of alerts, each of which takes effect once."""

    def take(self, effect: Callable[[Any, list[dict[str, Any]]], object]) -> int: ...


class Incidents(Protocol):
    """Where incidents are kept."""

    def take_up(self, connection: Any, ids: Sequence[str]) -> list[str]: ...
    def take_up_else(self, connection: Any, **columns: Any) -> None: ...
    def announce(self, connection: Any) -> None: ...
    def forgotten(self, since: datetime) -> list[str]: ...
    def get(self, incident_id: str) -> Incident | None: ...
    def save_evidence(self, incident_id: str, evidence: Evidence) -> None: ...
    def wake(self, now: datetime) -> list[str]: ...
    def settle(self, now: datetime) -> list[str]: ...


class Weighing(Protocol):
    """Whoever knows the clicks of an incident."""

    def weigh(self, incident: Incident) -> Evidence | None: ...


class Transactions(Protocol):
    """A database."""

    def connection(self) -> Any: ...


def take_up(
    alerts: Alerts,
    incidents: Incidents,
    weighing: Weighing,
    postgres: Transactions,
    *,
    now: datetime,
) -> dict[str, int]:
    """Take up every alert since the last time, and anomalous windows whose alert was missed. Repeating it changes nothing.

    Raises:
        Unavailable: Kafka or PostgreSQL does not answer.
    """
    changed: list[str] = []

    def effect(connection: Any, messages: list[dict[str, Any]]) -> None:
        named = dict.fromkeys(m["incident_id"] for m in messages if m["kind"] == ANOMALY)
        changed.extend(incidents.take_up(connection, list(named)))
        for message in messages:
            if message["kind"] != ANOMALY:
                incidents.take_up_else(connection, **_silence(message))
        incidents.announce(connection)

    count = alerts.take(effect)
    if missed := incidents.forgotten(now - SWEPT):
        with postgres.connection() as connection:
            effect(connection, [{"kind": ANOMALY, "incident_id": name} for name in missed])
    for name in dict.fromkeys(changed):
        _weigh(incidents, weighing, name)
    woken, settled = incidents.wake(now), incidents.settle(now)
    log.info(
        "%d alerts; incidents changed: %s; woken: %s; over: %s",
        count,
        changed or "none",
        woken or "none",
        settled or "none",
    )
    return {"alerts": count, "incidents": len(changed), "woken": len(woken), "over": len(settled)}


def _weigh(incidents: Incidents, weighing: Weighing, name: str) -> None:
    incident = incidents.get(name)
    evidence = incident and weighing.weigh(incident)
    if evidence:
        incidents.save_evidence(name, evidence)


def _silence(message: Mapping[str, Any]) -> dict[str, Any]:
    """An alert about missing windows, as an incident."""
    since = datetime.fromisoformat(message["since"])
    return {
        "incident_id": message["incident_id"],
        "kind": message["kind"],
        "geo": message["geo"],
        "platform": message["platform"],
        "began": since,
        "last_seen": since,
        "model_version": message["model_version"],
        "summary": message["explanation"]["summary"],
    }
