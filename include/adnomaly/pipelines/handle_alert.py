"""From alerts to incidents that people decide about, and to those who want to be told."""

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from adnomaly.alerts import ANOMALY

if TYPE_CHECKING:
    from adnomaly.clients.postgres import Postgres
    from adnomaly.stores.alerts import AlertTopic
    from adnomaly.stores.evidence import EvidenceStore
    from adnomaly.stores.incidents import IncidentStore

SWEPT: Final = timedelta(days=2)
"""How far back anomalous windows are looked for whose alert was missed."""

log = logging.getLogger(__name__)


def take_up(
    alerts: "AlertTopic",
    incidents: "IncidentStore",
    weighing: "EvidenceStore",
    postgres: "Postgres",
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
        changed.extend(incidents.upsert_from_windows(connection, list(named)))
        for message in messages:
            if message["kind"] != ANOMALY:
                incidents.upsert(connection, **_silence(message))
        incidents.announce(connection)

    count = alerts.consume(effect)
    if missed := incidents.find_missed(now - SWEPT):
        with postgres.connection() as connection:
            effect(connection, [{"kind": ANOMALY, "incident_id": name} for name in missed])
    for name in dict.fromkeys(changed):
        _attach_evidence(incidents, weighing, name)
    woken, settled = incidents.reopen_worsened(now), incidents.resolve_recovered(now)
    log.info(
        "%d alerts; incidents changed: %s; woken: %s; over: %s",
        count,
        changed or "none",
        woken or "none",
        settled or "none",
    )
    return {"alerts": count, "incidents": len(changed), "woken": len(woken), "over": len(settled)}


def _attach_evidence(incidents: "IncidentStore", weighing: "EvidenceStore", name: str) -> None:
    incident = incidents.get(name)
    evidence = incident and weighing.attribute_clicks(incident)
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
