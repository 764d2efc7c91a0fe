"""Incidents and decisions in PostgreSQL: SQL only, the rules are in `incidents.service`.

Incidents about windows are derived from `anomaly_results`, so re-processing is idempotent.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from adnomaly.incidents.decisions import Decision, Incident
from adnomaly.incidents.evidence import Evidence

if TYPE_CHECKING:
    from adnomaly.clients.postgres import Postgres

_COLUMNS: Final = sql.SQL(", ").join(map(sql.Identifier, Incident.__struct_fields__))

_UPSERT_FROM_WINDOWS: Final = """
INSERT INTO incidents (
    incident_id, kind, geo, platform, began, last_seen, windows, peak_score, model_version, summary
)
SELECT incident_id, 'anomaly', geo, platform, min(window_start), max(window_end),
    count(DISTINCT window_end), max(anomaly_score),
    (array_agg(model_version ORDER BY window_end DESC))[1],
    (array_agg(explanation ->> 'summary' ORDER BY anomaly_score DESC NULLS LAST))[1]
FROM anomaly_results WHERE incident_id = ANY(%s) GROUP BY incident_id, geo, platform
ON CONFLICT (incident_id) DO UPDATE SET last_seen = EXCLUDED.last_seen, windows = EXCLUDED.windows,
    peak_score = EXCLUDED.peak_score, model_version = EXCLUDED.model_version,
    summary = EXCLUDED.summary, updated_at = now()
WHERE (incidents.last_seen, incidents.windows)
    IS DISTINCT FROM (EXCLUDED.last_seen, EXCLUDED.windows)
RETURNING incident_id
"""
_UPSERT: Final = """
INSERT INTO incidents AS old (
    incident_id, kind, geo, platform, began, last_seen, windows, model_version, summary
)
VALUES (
    %(incident_id)s, %(kind)s, %(geo)s, %(platform)s, %(began)s, %(last_seen)s, 0,
    %(model_version)s, %(summary)s
)
ON CONFLICT (incident_id)
DO UPDATE SET last_seen = EXCLUDED.last_seen, summary = EXCLUDED.summary, updated_at = now()
"""
_ANNOUNCE: Final = """
INSERT INTO notifications (incident_id, revision, reason)
SELECT incident_id, 0, 'new' FROM incidents i
WHERE NOT EXISTS (SELECT FROM notifications n WHERE n.incident_id = i.incident_id)
ON CONFLICT DO NOTHING
"""
_MISSED: Final = """
SELECT DISTINCT r.incident_id FROM anomaly_results r LEFT JOIN incidents i USING (incident_id)
WHERE r.incident_id IS NOT NULL AND r.window_end > %s
    AND (i.incident_id IS NULL OR r.window_end > i.last_seen)
"""
_SAVE_EVIDENCE: Final = """
UPDATE incidents SET evidence = %s, clicks = %s, suspect_clicks = %s, money_at_risk = %s
WHERE incident_id = %s
"""
_RECOVERED: Final = """
SELECT i.incident_id, min(f.window_end) FROM incidents i JOIN feature_aggregates f
ON f.window_start >= i.last_seen
    AND (i.geo IS NULL OR (f.geo, f.platform) = (i.geo, i.platform))
WHERE i.kind NOT IN ('anomaly', 'operations') AND i.status IN ('open', 'acknowledged', 'snoozed')
GROUP BY i.incident_id
"""
_HISTORY: Final = """
SELECT revision, action, fraud_kind, until, comment, author, decided_at FROM decisions
WHERE incident_id = %s ORDER BY revision
"""
_LAST_DECISION: Final = """
SELECT author, action FROM decisions WHERE incident_id = %s ORDER BY revision DESC LIMIT 1
"""
_INSERT_DECISION: Final = """
INSERT INTO decisions (
    incident_id, revision, action, fraud_kind, until, comment, author, decided_at
)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""
_NOTIFY: Final = "INSERT INTO notifications (incident_id, revision, reason) VALUES (%s, %s, %s)"


class IncidentStore:
    """Methods with a connection run in the caller's transaction, the others in one of their own.

    They raise `Unavailable` without PostgreSQL.
    """

    def __init__(self, postgres: "Postgres") -> None:
        self._postgres = postgres

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection]:
        """One transaction: committed at the end of the block, rolled back when it raises."""
        with self._postgres.connection() as connection:
            yield connection

    # Write

    def upsert_from_windows(self, connection: psycopg.Connection, ids: Sequence[str]) -> list[str]:
        """Insert or update incidents from their anomalous windows; returns the changed ids."""
        return [name for (name,) in connection.execute(_UPSERT_FROM_WINDOWS, (list(ids),))]

    def upsert(self, connection: psycopg.Connection, **columns: Any) -> None:
        """Insert an incident without windows (silence, outage, operations), or extend it."""
        connection.execute(_UPSERT, columns)

    def announce(self, connection: psycopg.Connection) -> None:
        """Queue a notification for every incident that has none."""
        connection.execute(_ANNOUNCE)

    def notify(
        self, connection: psycopg.Connection, incident_id: str, revision: int, reason: str
    ) -> None:
        """Queue a notification about a revision of an incident."""
        connection.execute(_NOTIFY, (incident_id, revision, reason))

    def save_evidence(self, incident_id: str, evidence: Evidence) -> None:
        """Replace the evidence of an incident."""
        values = evidence.clicks, evidence.suspect_clicks, evidence.money_at_risk
        with self._postgres.connection() as connection:
            connection.execute(
                _SAVE_EVIDENCE, (Jsonb(msgspec.to_builtins(evidence)), *values, incident_id)
            )

    def insert_decision(
        self,
        connection: psycopg.Connection,
        incident_id: str,
        revision: int,
        decision: Decision,
        author: str,
        at: datetime,
    ) -> None:
        """Add a decision to the history."""
        values = decision.action, decision.fraud_kind, decision.until, decision.comment
        connection.execute(_INSERT_DECISION, (incident_id, revision, *values, author, at))

    def update(
        self, connection: psycopg.Connection, incident_id: str, changed: Mapping[str, Any]
    ) -> None:
        """Set columns of an incident."""
        assign = sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name))
            for name in changed
        )
        query = "UPDATE incidents SET {}, updated_at = now() WHERE incident_id = %(incident)s"
        connection.execute(sql.SQL(query).format(assign), {**changed, "incident": incident_id})

    # Read and lock

    def lock(self, connection: psycopg.Connection, incident_id: str) -> Incident | None:
        """One incident, its row locked; None when there is none."""
        where = sql.SQL("WHERE incident_id = %s FOR UPDATE")
        return next(iter(self._select(connection, where, (incident_id,))), None)

    def lock_snoozed(self, connection: psycopg.Connection, now: datetime) -> list[Incident]:
        """Incidents whose snooze lasts beyond `now`, their rows locked."""
        where = sql.SQL("WHERE status = 'snoozed' AND snoozed_until > %s FOR UPDATE")
        return self._select(connection, where, (now,))

    def active(self, connection: psycopg.Connection, kind: str) -> list[Incident]:
        """Incidents of a kind that are open, acknowledged or snoozed."""
        where = sql.SQL("WHERE kind = %s AND status IN ('open', 'acknowledged', 'snoozed')")
        return self._select(connection, where, (kind,))

    def recovered(self, connection: psycopg.Connection) -> dict[str, datetime]:
        """Active silences and outages that have windows again: id and end of the first window."""
        return dict(connection.execute(_RECOVERED).fetchall())

    def last_decision(self, connection: psycopg.Connection, incident_id: str) -> tuple[str, str]:
        """Author and action of the newest decision; `nobody`, `nothing` without one."""
        row = connection.execute(_LAST_DECISION, (incident_id,)).fetchone()
        return (row[0], row[1]) if row else ("nobody", "nothing")

    def find_missed(self, since: datetime) -> list[str]:
        """Incidents with anomalous windows since a moment that they do not include yet."""
        with self._postgres.connection() as connection:
            return [name for (name,) in connection.execute(_MISSED, (since,))]

    def get(self, incident_id: str) -> Incident | None:
        """One incident; None when there is none."""
        with self._postgres.connection() as connection:
            where = sql.SQL("WHERE incident_id = %s")
            return next(iter(self._select(connection, where, (incident_id,))), None)

    def recent(self, since: datetime) -> list[Incident]:
        """Incidents last seen since a moment, and all that are open or acknowledged."""
        where = sql.SQL("WHERE last_seen > %s OR status IN ('open', 'acknowledged')")
        with self._postgres.connection() as connection:
            return self._select(connection, where, (since,))

    def evidence(self, incident_id: str) -> dict[str, Any] | None:
        """The stored evidence of an incident; None without."""
        query = "SELECT evidence FROM incidents WHERE incident_id = %s"
        with self._postgres.connection() as connection:
            row = connection.execute(query, (incident_id,)).fetchone()
            return row[0] if row else None

    def history(self, incident_id: str) -> list[dict[str, Any]]:
        """Every decision about an incident, oldest first."""
        with self._postgres.connection() as connection:
            cursor = connection.execute(_HISTORY, (incident_id,))
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    @staticmethod
    def _select(
        connection: psycopg.Connection, where: sql.SQL, values: Sequence[object]
    ) -> list[Incident]:
        query = sql.SQL("SELECT {} FROM incidents {}").format(_COLUMNS, where)
        rows = connection.execute(query, values)
        return [Incident(**dict(zip(Incident.__struct_fields__, row, strict=True))) for row in rows]
