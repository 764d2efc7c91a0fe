"""Apply decisions and rules to stored incidents. Each method is one transaction."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from adnomaly.errors import DecisionOutdated
from adnomaly.incidents.decisions import (
    OPERATIONS,
    SELF,
    Decision,
    Incident,
    after,
    worsened_comment,
)

if TYPE_CHECKING:
    import psycopg

    from adnomaly.stores.incidents import IncidentStore

RECOVERED: Final = "clicks came again, in the window that ended {:%Y-%m-%d %H:%M} UTC"
OPERATIONS_RECOVERED: Final = "recovered"


class IncidentService:
    """Decide, reopen, report and resolve. Methods raise `Unavailable` without PostgreSQL."""

    def __init__(self, store: "IncidentStore") -> None:
        self._store = store

    def decide(self, incident_id: str, decision: Decision, author: str, now: datetime) -> Incident:
        """Record a decision and apply it, both or neither; returns the changed incident.

        Raises:
            KeyError: there is no such incident.
            InvalidDecision: a field is invalid; the message names it.
            DecisionOutdated: somebody decided meanwhile; the message says who and what.
        """
        valid = decision.validated(now)
        with self._store.transaction() as connection:
            incident = self._store.lock(connection, incident_id)
            if incident is None:
                raise KeyError(incident_id)
            if incident.revision != valid.revision:
                author, action = self._store.last_decision(connection, incident_id)
                raise DecisionOutdated(
                    f"{author} has decided meanwhile ({action}): reload the incident, then decide"
                )
            return self._apply(connection, incident, valid, author, now)

    def reopen_worsened(self, now: datetime) -> list[str]:
        """Reopen snoozed incidents that became much worse, and notify; returns their ids."""
        with self._store.transaction() as connection:
            snoozed = self._store.lock_snoozed(connection, now)
            worsened = [incident for incident in snoozed if incident.is_much_worse()]
            for incident in worsened:
                reopen = Decision(
                    action="reopen",
                    revision=incident.revision,
                    comment=worsened_comment(incident),
                )
                changed = self._apply(connection, incident, reopen, SELF, now)
                self._store.notify(connection, incident.incident_id, changed.revision, "much worse")
        return [incident.incident_id for incident in worsened]

    def resolve_recovered(self, now: datetime) -> list[str]:
        """Resolve silences and outages that have clicks again; returns their ids."""
        with self._store.transaction() as connection:
            recovered = self._store.recovered(connection)
            for incident_id, window_end in recovered.items():
                self._resolve(connection, incident_id, RECOVERED.format(window_end), now)
        return list(recovered)

    def report(self, stage: str, summary: str, now: datetime) -> str:
        """Open an operations incident about a stage, or extend the active one; returns its id."""
        with self._store.transaction() as connection:
            prefix = f"{OPERATIONS}:{stage}@"
            active = self._store.active(connection, OPERATIONS)
            incident_id = next(
                (i.incident_id for i in active if i.incident_id.startswith(prefix)),
                f"{prefix}{now:%Y-%m-%dT%H:%M:%SZ}",
            )
            self._store.upsert(
                connection,
                incident_id=incident_id,
                kind=OPERATIONS,
                geo=None,
                platform=None,
                began=now,
                last_seen=now,
                model_version=None,
                summary=summary,
            )
            self._store.announce(connection)
        return incident_id

    def resolve_operations(self, still: Sequence[str], now: datetime) -> list[str]:
        """Resolve the active operations incidents except `still`; returns the resolved ids."""
        with self._store.transaction() as connection:
            active = self._store.active(connection, OPERATIONS)
            over = [i.incident_id for i in active if i.incident_id not in still]
            for incident_id in over:
                self._resolve(connection, incident_id, OPERATIONS_RECOVERED, now)
        return over

    def _resolve(
        self, connection: "psycopg.Connection", incident_id: str, comment: str, now: datetime
    ) -> None:
        incident = self._store.lock(connection, incident_id)
        if incident is None:
            return
        decision = Decision(action="comment", revision=incident.revision, comment=comment)
        self._apply(connection, incident, decision, SELF, now)
        self._store.update(connection, incident_id, {"status": "resolved"})

    def _apply(
        self,
        connection: "psycopg.Connection",
        incident: Incident,
        decision: Decision,
        author: str,
        now: datetime,
    ) -> Incident:
        changed = after(incident, decision)
        self._store.insert_decision(
            connection, incident.incident_id, changed["revision"], decision, author, now
        )
        self._store.update(connection, incident.incident_id, changed)
        return msgspec.structs.replace(incident, **changed)
