"""Incidents and decisions in PostgreSQL. What an incident says of windows is taken from `anomaly_results`, so taking it up again is safe."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from adnomaly.errors import DecisionOutdated
from adnomaly.incidents.decisions import OPERATIONS, SELF, Decision, Incident, after
from adnomaly.incidents.evidence import Evidence

if TYPE_CHECKING:
    from adnomaly.clients.postgres import Postgres

_COLUMNS: Final = sql.SQL(", ").join(map(sql.Identifier, Incident.__struct_fields__))

_FROM_WINDOWS: Final = """
INSERT INTO incidents (incident_id, kind, geo, platform, began, last_seen, windows, peak_score, model_version, summary)
SELECT incident_id, 'anomaly', geo, platform, min(window_start), max(window_end), count(DISTINCT window_end), max(anomaly_score),
    (array_agg(model_version ORDER BY window_end DESC))[1],
    (array_agg(explanation ->> 'summary' ORDER BY anomaly_score DESC NULLS LAST))[1]
FROM anomaly_results WHERE incident_id = ANY(%s) GROUP BY incident_id, geo, platform
ON CONFLICT (incident_id) DO UPDATE SET last_seen = EXCLUDED.last_seen, windows = EXCLUDED.windows, peak_score = EXCLUDED.peak_score,
    model_version = EXCLUDED.model_version, summary = EXCLUDED.summary, updated_at = now()
WHERE (incidents.last_seen, incidents.windows) IS DISTINCT FROM (EXCLUDED.last_seen, EXCLUDED.windows)
RETURNING incident_id
"""

_ELSE: Final = """
INSERT INTO incidents AS old (incident_id, kind, geo, platform, began, last_seen, windows, model_version, summary)
VALUES (%(incident_id)s, %(kind)s, %(geo)s, %(platform)s, %(began)s, %(last_seen)s, 0, %(model_version)s, %(summary)s)
ON CONFLICT (incident_id) DO UPDATE SET last_seen = EXCLUDED.last_seen, summary = EXCLUDED.summary, updated_at = now()
"""

_FORGOTTEN: Final = """
SELECT DISTINCT r.incident_id FROM anomaly_results r LEFT JOIN incidents i USING (incident_id)
WHERE r.incident_id IS NOT NULL AND r.window_end > %s AND (i.incident_id IS NULL OR r.window_end > i.last_seen)
"""

_BACK: Final = """
SELECT i.incident_id, min(f.window_end) FROM incidents i JOIN feature_aggregates f
ON f.window_start >= i.last_seen AND (i.geo IS NULL OR (f.geo, f.platform) = (i.geo, i.platform))
WHERE i.kind NOT IN ('anomaly', 'operations') AND i.status IN ('open', 'acknowledged', 'snoozed') GROUP BY i.incident_id
"""


class IncidentStore:
    """What people decide about. Every method is one transaction, and raises `Unavailable` while PostgreSQL is away."""

    def __init__(self, postgres: "Postgres") -> None:
        self._postgres = postgres

    def upsert_from_windows(self, connection: psycopg.Connection, ids: Sequence[str]) -> list[str]:
        """Open incidents of anomalous windows, or bring them up to date, in the caller's transaction; returns those that changed."""
        return [name for (name,) in connection.execute(_FROM_WINDOWS, (list(ids),))]

    def upsert(self, connection: psycopg.Connection, **columns: Any) -> None:
        """Open an incident without windows (a silence, an outage, something of ours that does not run), or say that it lasts."""
        connection.execute(_ELSE, columns)

    def announce(self, connection: psycopg.Connection) -> None:
        """A notification for every incident that nobody was told about."""
        connection.execute(
            "INSERT INTO notifications (incident_id, revision, reason) SELECT incident_id, 0, 'new' FROM incidents i"
            " WHERE NOT EXISTS (SELECT FROM notifications n WHERE n.incident_id = i.incident_id) ON CONFLICT DO NOTHING"
        )

    def find_missed(self, since: datetime) -> list[str]:
        """Incidents that anomalous windows since a moment belong to, and that are not taken up as far as that."""
        with self._postgres.connection() as connection:
            return [name for (name,) in connection.execute(_FORGOTTEN, (since,))]

    def save_evidence(self, incident_id: str, evidence: Evidence) -> None:
        """What the incident touches; replaces what was known."""
        with self._postgres.connection() as connection:
            connection.execute(
                "UPDATE incidents SET evidence = %s, clicks = %s, suspect_clicks = %s, money_at_risk = %s WHERE incident_id = %s",
                (
                    Jsonb(msgspec.to_builtins(evidence)),
                    evidence.clicks,
                    evidence.suspect_clicks,
                    evidence.money_at_risk,
                    incident_id,
                ),
            )

    def get(self, incident_id: str) -> Incident | None:
        """One incident; None when there is none of this name."""
        found = self._select(sql.SQL("WHERE incident_id = %s"), (incident_id,))
        return found[0] if found else None

    def recent(self, since: datetime) -> list[Incident]:
        """Those last seen since a moment, and those that still wait for a decision."""
        return self._select(
            sql.SQL("WHERE last_seen > %s OR status IN ('open', 'acknowledged')"), (since,)
        )

    def evidence(self, incident_id: str) -> dict[str, Any] | None:
        """What the incident touches, as it was kept."""
        with self._postgres.connection() as connection:
            row = connection.execute(
                "SELECT evidence FROM incidents WHERE incident_id = %s", (incident_id,)
            ).fetchone()
            return row[0] if row else None

    def history(self, incident_id: str) -> list[dict[str, Any]]:
        """Everything that was decided about an incident, oldest first."""
        query = "SELECT revision, action, fraud_kind, until, comment, author, decided_at FROM decisions WHERE incident_id = %s ORDER BY 1"
        with self._postgres.connection() as connection:
            cursor = connection.execute(query, (incident_id,))
            names = [column.name for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def decide(self, incident_id: str, decision: Decision, author: str, now: datetime) -> Incident:
        """Write a decision down and let it take effect, or neither; returns the incident as it is then.

        Raises:
            KeyError: there is no such incident.
            InvalidDecision: naming the field.
            DecisionOutdated: somebody has decided since; the message says who and what.
        """
        checked = decision.validated(now)
        with self._postgres.connection() as connection:
            found = self._rows(
                connection, sql.SQL("WHERE incident_id = %s FOR UPDATE"), (incident_id,)
            )
            if not found:
                raise KeyError(incident_id)
            if found[0].revision != checked.revision:
                raise DecisionOutdated(_since(connection, incident_id))
            return self._decided(connection, found[0], checked, author, now)

    def reopen_worsened(self, now: datetime) -> list[str]:
        """Let snoozed incidents that have become much worse speak again; returns their names."""
        with self._postgres.connection() as connection:
            asleep = self._rows(
                connection,
                sql.SQL("WHERE status = 'snoozed' AND snoozed_until > %s FOR UPDATE"),
                (now,),
            )
            woken = [incident for incident in asleep if incident.is_much_worse()]
            for incident in woken:
                comment = f"much worse than when it was put to sleep: score {incident.peak_score or 0:.2f} ({incident.snoozed_score or 0:.2f} then), "
                comment += f"money at risk {incident.money_at_risk:.2f} ({incident.snoozed_money or 0:.2f} then)"
                self._decided(
                    connection,
                    incident,
                    Decision(action="reopen", revision=incident.revision, comment=comment),
                    SELF,
                    now,
                )
                connection.execute(
                    "INSERT INTO notifications (incident_id, revision, reason) VALUES (%s, %s, 'much worse')",
                    (incident.incident_id, incident.revision + 1),
                )
        return [incident.incident_id for incident in woken]

    def resolve_recovered(self, now: datetime) -> list[str]:
        """End silences and outages whose clicks have come again; returns their names."""
        with self._postgres.connection() as connection:
            back = dict(connection.execute(_BACK).fetchall())
            for incident_id, moment in back.items():
                self._resolve(
                    connection,
                    incident_id,
                    f"clicks came again, in the window that ended {moment:%Y-%m-%d %H:%M} UTC",
                    now,
                )
        return list(back)

    def report(self, stage: str, summary: str, now: datetime) -> str:
        """An incident about a stage of ours, or, while there is one, that it lasts; returns its name."""
        with self._postgres.connection() as connection:
            query = "SELECT incident_id FROM incidents WHERE kind = %s AND incident_id LIKE %s AND status IN ('open', 'acknowledged', 'snoozed')"
            row = connection.execute(query, (OPERATIONS, f"{OPERATIONS}:{stage}@%")).fetchone()
            name = row[0] if row else f"{OPERATIONS}:{stage}@{now:%Y-%m-%dT%H:%M:%SZ}"
            nowhere = {"geo": None, "platform": None, "model_version": None}
            self.upsert(
                connection,
                incident_id=name,
                kind=OPERATIONS,
                began=now,
                last_seen=now,
                summary=summary,
                **nowhere,
            )
            self.announce(connection)
        return name

    def resolve_operations(self, still: Sequence[str], now: datetime) -> list[str]:
        """End the incidents about our own processes apart from those named; returns what ended."""
        with self._postgres.connection() as connection:
            where = sql.SQL(
                "WHERE kind = %s AND status IN ('open', 'acknowledged', 'snoozed') AND incident_id <> ALL(%s)"
            )
            over = [i.incident_id for i in self._rows(connection, where, (OPERATIONS, list(still)))]
            for incident_id in over:
                self._resolve(connection, incident_id, "it is well again", now)
        return over

    def _resolve(
        self, connection: psycopg.Connection, incident_id: str, comment: str, now: datetime
    ) -> None:
        [incident] = self._rows(
            connection, sql.SQL("WHERE incident_id = %s FOR UPDATE"), (incident_id,)
        )
        self._decided(
            connection,
            incident,
            Decision(action="comment", revision=incident.revision, comment=comment),
            SELF,
            now,
        )
        connection.execute(
            "UPDATE incidents SET status = 'resolved' WHERE incident_id = %s", (incident_id,)
        )

    def _decided(
        self,
        connection: psycopg.Connection,
        incident: Incident,
        decision: Decision,
        author: str,
        now: datetime,
    ) -> Incident:
        changed = after(incident, decision)
        connection.execute(
            "INSERT INTO decisions (incident_id, revision, action, fraud_kind, until, comment, author, decided_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            (
                incident.incident_id,
                changed["revision"],
                decision.action,
                decision.fraud_kind,
                decision.until,
                decision.comment,
                author,
                now,
            ),
        )
        assign = sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name))
            for name in changed
        )
        connection.execute(
            sql.SQL(
                "UPDATE incidents SET {}, updated_at = now() WHERE incident_id = %(name)s"
            ).format(assign),
            changed | {"name": incident.incident_id},
        )
        return msgspec.structs.replace(incident, **changed)

    def _select(self, where: sql.SQL, values: Sequence[object]) -> list[Incident]:
        with self._postgres.connection() as connection:
            return self._rows(connection, where, values)

    @staticmethod
    def _rows(
        connection: psycopg.Connection, where: sql.SQL, values: Sequence[object]
    ) -> list[Incident]:
        rows = connection.execute(
            sql.SQL("SELECT {} FROM incidents {}").format(_COLUMNS, where), values
        )
        return [Incident(**dict(zip(Incident.__struct_fields__, row, strict=True))) for row in rows]


def _since(connection: psycopg.Connection, incident_id: str) -> str:
    row = connection.execute(
        "SELECT author, action FROM decisions WHERE incident_id = %s ORDER BY revision DESC LIMIT 1",
        (incident_id,),
    ).fetchone()
    who, what = row or ("nobody", "nothing")
    return f"{who} has decided meanwhile ({what}): look again, then decide"
