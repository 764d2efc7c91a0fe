"""History of models for the page *Model*: deployments, alert volume, drift."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from adnomaly.clients.postgres import one
from adnomaly.monitoring.drift import DriftMeasure
from adnomaly.stores.windows import DISJOINT

if TYPE_CHECKING:
    from adnomaly.clients.postgres import Postgres

_DEPLOYED: Final = """
INSERT INTO deployments (model_version, run_id, deployed_at)
SELECT %(version)s, %(run_id)s, %(at)s WHERE %(version)s IS DISTINCT FROM (
    SELECT model_version FROM deployments ORDER BY deployed_at DESC LIMIT 1
)
"""
_LIVE: Final = """
SELECT deployed_at, model_version, run_id, lead(deployed_at) OVER (ORDER BY deployed_at)
FROM deployments ORDER BY 1 DESC LIMIT 20
"""
_VOLUME: Final = """
SELECT date_trunc('day', began AT TIME ZONE 'UTC')::date, count(*),
    count(*) FILTER (WHERE status = 'confirmed'), count(*) FILTER (WHERE status = 'false_alarm')
FROM incidents WHERE kind = 'anomaly' AND began > %s GROUP BY 1 ORDER BY 1
"""
_SCORED: Final = f"""
SELECT anomaly_score, coalesce(explanation -> 'z', '{{}}') FROM anomaly_results
WHERE model_version = %s AND window_end > %s AND {DISJOINT}
"""
_UNCONFIRMED: Final = """
SELECT (
    SELECT count(*) FROM incidents
    WHERE kind = 'anomaly' AND began > %(since)s AND status <> 'confirmed'
), coalesce(extract(epoch FROM max(window_end) - min(window_end)) / 86400, 0)::float8
FROM anomaly_results WHERE window_end > %(since)s
"""
_SAVE: Final = """
INSERT INTO model_health (at, model_version, measure, subject, value, most)
VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
_HEALTH: Final = """
SELECT at, model_version, measure, subject, value, most FROM model_health
WHERE at > %s ORDER BY at DESC, measure, subject LIMIT 2000
"""


class ModelHistory:
    """Every method raises `Unavailable` without PostgreSQL."""

    def __init__(self, postgres: "Postgres") -> None:
        self._postgres = postgres

    def deployed(self, version: str, run_id: str, at: datetime) -> None:
        """Record that a bundle went live. No effect if it is live already."""
        with self._postgres.connection() as connection:
            connection.execute(_DEPLOYED, {"version": version, "run_id": run_id, "at": at})

    def live(self) -> list[dict[str, Any]]:
        """The newest deployments, newest first; `until` is None for the live one."""
        return self._rows(_LIVE, (), ("deployed_at", "model_version", "run_id", "until"))

    def volume(self, since: datetime) -> list[dict[str, Any]]:
        """Incidents by UTC day: all, confirmed, false alarms."""
        return self._rows(_VOLUME, (since,), ("day", "incidents", "confirmed", "false_alarms"))

    def save(self, version: str, measured: Iterable[DriftMeasure], at: datetime) -> None:
        """Save the measurements of one run."""
        rows = [(at, version, *m) for m in measured]
        with self._postgres.connection() as connection, connection.cursor() as cursor:
            cursor.executemany(_SAVE, rows)

    def health(self, now: datetime, days: float = 14) -> list[dict[str, Any]]:
        """The measurements of the last days, newest first."""
        return self._rows(
            _HEALTH,
            (now - timedelta(days=days),),
            ("at", "model_version", "measure", "subject", "value", "most"),
        )

    def scored(self, version: str, since: datetime) -> list[tuple[float | None, dict[str, float]]]:
        """Scores and deviations (z) by a model since a moment, of windows that do not overlap."""
        with self._postgres.connection() as connection:
            return connection.execute(_SCORED, (version, since)).fetchall()

    def unconfirmed_incidents(self, since: datetime) -> tuple[int, float]:
        """Incidents since a moment that nobody confirmed, and the days with scored windows."""
        with self._postgres.connection() as connection:
            incidents, days = one(connection.execute(_UNCONFIRMED, {"since": since}))
            return incidents, days

    def _rows(
        self, query: str, values: tuple[object, ...], names: tuple[str, ...]
    ) -> list[dict[str, Any]]:
        with self._postgres.connection() as connection:
            return [dict(zip(names, row, strict=True)) for row in connection.execute(query, values)]
