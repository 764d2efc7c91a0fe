"""Windows and clicks of an incident, and its evidence."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from psycopg import sql

from adnomaly.clients.postgres import one
from adnomaly.events import COLUMNS
from adnomaly.features import FEATURES, VOLUME
from adnomaly.incidents.decisions import Incident
from adnomaly.incidents.evidence import DIMENSIONS, Evidence, ValueCounts, attribute_clicks
from adnomaly.windows import SIZE

if TYPE_CHECKING:
    from adnomaly.clients.postgres import Postgres

PAST: Final = timedelta(hours=24)
"""Reference time before the incident, as far as clicks are stored."""
MIN_PAST: Final = timedelta(minutes=30)
"""A shorter reference time is not used."""
MAX_WINDOWS: Final = 1500
EXAMPLES: Final = 20

_OF_ENTITY: Final = """
geo = %(geo)s AND platform = %(platform)s
    AND "timestamp" >= %(since)s AND "timestamp" < %(until)s
"""

_GROUPS: Final = f"""
SELECT {{dimension}}, count(*) FILTER (WHERE "timestamp" >= %(began)s),
    coalesce(avg(cpc) FILTER (WHERE "timestamp" >= %(began)s), 0),
    count(*) FILTER (WHERE "timestamp" < %(began)s)
FROM clickstream_events WHERE {_OF_ENTITY} GROUP BY 1
"""
_SPAN: Final = f"""
SELECT min("timestamp"), coalesce(avg(cpc) FILTER (WHERE "timestamp" >= %(began)s), 0)
FROM clickstream_events WHERE {_OF_ENTITY}
"""
_EXPECTED: Final = f"""
SELECT avg((explanation -> 'expected' ->> '{VOLUME}')::float8) FROM anomaly_results
WHERE incident_id = %s
"""
_SCORED_WINDOWS: Final = """
SELECT DISTINCT ON (window_end)
    window_end, anomaly_score, threshold, is_anomaly, {features}, explanation
FROM anomaly_results
WHERE geo = %s AND platform = %s AND window_end > %s AND window_end <= %s
ORDER BY window_end, scored_at DESC LIMIT %s
"""
_EXAMPLES: Final = f"""
SELECT {{columns}} FROM clickstream_events WHERE {_OF_ENTITY}
ORDER BY "timestamp" DESC LIMIT %(limit)s
"""


class EvidenceStore:
    """Windows and clicks of one incident. Methods raise `Unavailable` without PostgreSQL."""

    def __init__(self, postgres: "Postgres") -> None:
        self._postgres = postgres

    def attribute_clicks(self, incident: Incident) -> Evidence | None:
        """The evidence of an incident; None without windows of an entity."""
        if incident.geo is None or not incident.windows:
            return None
        span = {
            "geo": incident.geo,
            "platform": incident.platform,
            "since": incident.began - PAST,
            "began": incident.began,
            "until": incident.last_seen,
        }
        with self._postgres.connection() as connection:
            first, cpc = one(connection.execute(_SPAN, span))
            groups = {
                name: [
                    ValueCounts(*row)
                    for row in connection.execute(
                        sql.SQL(_GROUPS).format(dimension=sql.Identifier(name)), span
                    )
                ]
                for name in DIMENSIONS
            }
            [expected] = one(connection.execute(_EXPECTED, (incident.incident_id,)))
        length = incident.last_seen - incident.began
        past = max(timedelta(0), incident.began - first) if first else timedelta(0)
        past = past if past >= MIN_PAST else timedelta(0)
        return attribute_clicks(
            {name: [g for g in values if g.clicks] for name, values in groups.items()},
            minutes=length / timedelta(minutes=1),
            past_minutes=past / timedelta(minutes=1),
            expected_clicks=None if expected is None else expected * (length / SIZE),
            cpc=float(cpc),
            before=sum(g.before for g in next(iter(groups.values()))),
        )

    def scored_windows(
        self, incident: Incident, before: timedelta, behind: timedelta
    ) -> list[dict[str, Any]]:
        """Scored windows of the entity around an incident, by window_end, with explanations."""
        if incident.geo is None:
            return []
        names = [f.name for f in FEATURES]
        query = sql.SQL(_SCORED_WINDOWS).format(
            features=sql.SQL(", ").join(map(sql.Identifier, names))
        )
        span = incident.began - before, incident.last_seen + behind
        with self._postgres.connection() as connection:
            rows = connection.execute(
                query, (incident.geo, incident.platform, *span, MAX_WINDOWS)
            ).fetchall()
        keys = ("window_end", "anomaly_score", "threshold", "is_anomaly", *names, "explanation")
        return [dict(zip(keys, row, strict=True)) for row in rows]

    def examples(self, incident: Incident) -> list[dict[str, Any]]:
        """The newest raw clicks of an incident."""
        if incident.geo is None:
            return []
        names = [c.name for c in COLUMNS]
        columns = sql.SQL(", ").join(map(sql.Identifier, names))
        query = sql.SQL(_EXAMPLES).format(columns=columns)
        span = {
            "geo": incident.geo,
            "platform": incident.platform,
            "since": incident.began,
            "until": incident.last_seen,
            "limit": EXAMPLES,
        }
        with self._postgres.connection() as connection:
            return [dict(zip(names, row, strict=True)) for row in connection.execute(query, span)]
