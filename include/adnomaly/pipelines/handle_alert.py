"""Turn alerts into incidents with evidence, and apply the rules of open incidents."""

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from adnomaly.alerts import ANOMALY

if TYPE_CHECKING:
    import psycopg

    from adnomaly.incidents.service import IncidentService
    from adnomaly.stores.alerts import AlertTopic
    from adnomaly.stores.evidence import EvidenceStore
    from adnomaly.stores.incidents import IncidentStore

LOOK_BACK: Final = timedelta(days=2)
"""Anomalous windows this recent are checked for missed alerts."""

log = logging.getLogger(__name__)


def update_incidents(
    alerts: "AlertTopic",
    incidents: "IncidentStore",
    service: "IncidentService",
    evidence: "EvidenceStore",
    *,
    now: datetime,
) -> dict[str, int]:
    """Apply every new alert, and anomalous windows whose alert was missed. Idempotent.

    Returns:
        Numbers of alerts, of changed, reopened (`woken`) and resolved (`over`) incidents.

    Raises:
        Unavailable: Kafka or PostgreSQL does not answer.
    """
    changed: list[str] = []

    def apply(connection: "psycopg.Connection", messages: list[dict[str, Any]]) -> None:
        changed.extend(_apply(connection, incidents, messages))

    count = alerts.consume(apply)
    if missed := incidents.find_missed(now - LOOK_BACK):
        with incidents.transaction() as connection:
            apply(connection, [{"kind": ANOMALY, "incident_id": name} for name in missed])
    for incident_id in dict.fromkeys(changed):
        _attach_evidence(incidents, evidence, incident_id)
    reopened, resolved = service.reopen_worsened(now), service.resolve_recovered(now)
    log.info(
        "%d alerts; incidents changed: %s; reopened: %s; resolved: %s",
        count,
        changed or "none",
        reopened or "none",
        resolved or "none",
    )
    return {
        "alerts": count,
        "incidents": len(changed),
        "woken": len(reopened),
        "over": len(resolved),
    }


def _apply(
    connection: "psycopg.Connection", incidents: "IncidentStore", messages: list[dict[str, Any]]
) -> list[str]:
    """Insert or update the alerts' incidents in the caller's transaction; returns changed ids."""
    ids = dict.fromkeys(m["incident_id"] for m in messages if m["kind"] == ANOMALY)
    changed = incidents.upsert_from_windows(connection, list(ids))
    for message in messages:
        if message["kind"] != ANOMALY:
            incidents.upsert(connection, **_silence(message))
    incidents.announce(connection)
    return changed


def _attach_evidence(
    incidents: "IncidentStore", evidence: "EvidenceStore", incident_id: str
) -> None:
    incident = incidents.get(incident_id)
    attributed = incident and evidence.attribute_clicks(incident)
    if attributed:
        incidents.save_evidence(incident_id, attributed)


def _silence(message: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of the incident of an alert about missing windows."""
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
