"""Which model was live when, how much it alerted, and whether its inputs have moved: the tables behind the page *Model*."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from adnomaly.monitoring.drift import DriftMeasure

if TYPE_CHECKING:
    from adnomaly.clients.postgres import Postgres

_DEPLOYED: Final = """
INSERT INTO deployments (model_version, run_id, deployed_at)
SELECT %(version)s, %(run_id)s, %(at)s WHERE %(version)s IS DISTINCT FROM (
    SELECT model_version FROM deployments ORDER BY deployed_at DESC LIMIT 1
)
"""
_LIVE: Final = """
SELECT deployed_at, model_version, run_id, lead(deployed_at) OVER (ORDER BY deployed_at) FROM deployments ORDER BY 1 DESC LIMIT 20
"""
_VOLUME: Final = """
SELECT date_trunc('day', began AT TIME ZONE 'UTC')::date, count(*), count(*) FILTER (WHERE status = 'confirmed'),
    count(*) FILTER (WHERE status = 'false_alarm') FROM incidents WHERE kind = 'anomaly' AND began > %s GROUP BY 1 ORDER BY 1
"""
_JUDGED: Final = """
SELECT anomaly_score, coalesce(explanation -> 'z', '{}') FROM anomaly_results
WHERE model_version = %s AND window_end > %s AND date_bin('5 minutes', window_end, 'epoch') = window_end
"""
_UNJUST: Final = """
SELECT (SELECT count(*) FROM incidents WHERE kind = 'anomaly' AND began > %(since)s AND status <> 'confirmed'),
    coalesce(extract(epoch FROM max(window_end) - min(window_end)) / 86400, 0)::float8 FROM anomaly_results WHERE window_end > %(since)s
"""
_HEALTH: Final = """
SELECT at, model_version, measure, subject, value, most FROM model_health
WHERE at > %s ORDER BY at DESC, measure, subject LIMIT 2000
"""


class ModelHistory:
    """Every method raises `Unavailable` while PostgreSQL is away."""

    def __init__(self, postgres: "Postgres") -> None:
        self._postgres = postgres

    def deployed(self, version: str, run_id: str, at: datetime) -> None:
        """A bundle is live from now on; deploying what is live already says nothing."""
        with self._postgres.connection() as connection:
            connection.execute(_DEPLOYED, {"version": version, "run_id": run_id, "at": at})

    def live(self) -> list[dict[str, Any]]:
        """Who was live when, newest first; `until` is None for the one that is."""
        return self._rows(_LIVE, (), ("deployed_at", "model_version", "run_id", "until"))

    def volume(self, since: datetime) -> list[dict[str, Any]]:
        """Incidents of each UTC day, and what people said of them."""
        return self._rows(_VOLUME, (since,), ("day", "incidents", "confirmed", "false_alarms"))

    def keep(self, version: str, measured: Iterable[DriftMeasure], at: datetime) -> None:
        """What was measured at a moment."""
        rows = [(at, version, *m) for m in measured]
        with self._postgres.connection() as connection, connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO model_health (at, model_version, measure, subject, value, most) VALUES (%s, %s, %s, %s, %s, %s)"
                " ON CONFLICT DO NOTHING",
                rows,
            )

    def health(self, now: datetime, days: float = 14) -> list[dict[str, Any]]:
        """What was measured in the last days, newest first."""
        return self._rows(
            _HEALTH,
            (now - timedelta(days=days),),
            ("at", "model_version", "measure", "subject", "value", "most"),
        )

    def judged(self, version: str, since: datetime) -> list[tuple[float | None, dict[str, float]]]:
        """Score and deviations of the windows that a model judged since a moment, of each entity those that do not overlap."""
        with self._postgres.connection() as connection:
            return connection.execute(_JUDGED, (version, since)).fetchall()

    def unjust_incidents(self, since: datetime) -> tuple[int, float]:
        """Incidents since a moment that nobody confirmed as fraud, and the days of that time in which windows were judged."""
        with self._postgres.connection() as connection:
            return connection.execute(_UNJUST, {"since": since}).fetchone()

    def _rows(
        self, query: str, values: tuple[object, ...], names: tuple[str, ...]
    ) -> list[dict[str, Any]]:
        with self._postgres.connection() as connection:
            return [dict(zip(names, row, strict=True)) for row in connection.execute(query, values)]
