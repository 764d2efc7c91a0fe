"""State of all stages by minute, and running totals for the reconciliation."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from adnomaly.clients.kafka.admin import topic_id
from adnomaly.clients.kafka.reader import messages_from, watermarks
from adnomaly.features import VOLUME
from adnomaly.monitoring.stages import PreviousCounts, Stage, as_row
from adnomaly.stores.windows import DISJOINT
from adnomaly.topics import LATE_TOPIC
from adnomaly.windows import SIZE, SLIDE

if TYPE_CHECKING:
    from adnomaly.clients.postgres import Postgres

SETTLED: Final = timedelta(minutes=30)
"""Windows that ended longer ago do not change any more."""
_LOCK: Final = 7_262_107
"""Advisory lock of the running totals."""

_SAVE: Final = """
INSERT INTO stream_health (at, stage, state, reason, total, rate, lag, freshness_s)
VALUES (
    %(at)s, %(stage)s, %(state)s, %(reason)s, %(total)s, %(rate)s, %(lag)s, %(freshness_s)s
) ON CONFLICT DO NOTHING
"""
_RED: Final = """
SELECT stage FROM stream_health
WHERE state = 'red' AND at = (SELECT max(at) FROM stream_health WHERE at > %s)
"""
_BEFORE: Final = """
SELECT DISTINCT ON (stage) stage, at, total FROM stream_health
WHERE at > %s AND total IS NOT NULL ORDER BY stage, at DESC
"""
_CHANGES: Final = """
SELECT at, stage, state, reason FROM (
    SELECT at, stage, state, reason,
        lag(state) OVER (PARTITION BY stage ORDER BY at) AS earlier
    FROM stream_health WHERE at > %s
) AS all_rows
WHERE earlier IS DISTINCT FROM state AND (earlier IS NOT NULL OR state = 'red')
ORDER BY at DESC LIMIT 100
"""
_WINDOWED: Final = f"""
WITH begun AS (SELECT coalesce((SELECT up_to FROM ledger WHERE account = 'windowed'), 0) AS up_to),
more AS (
    SELECT sum({VOLUME}) AS clicks, extract(epoch FROM max(window_end))::bigint AS up_to
    FROM feature_aggregates, begun
    WHERE window_end > to_timestamp(begun.up_to) AND window_end <= %s AND {DISJOINT}
)
INSERT INTO ledger (account, clicks, up_to)
SELECT 'windowed', clicks, up_to FROM more WHERE clicks IS NOT NULL
ON CONFLICT (account)
DO UPDATE SET clicks = ledger.clicks + EXCLUDED.clicks, up_to = EXCLUDED.up_to
"""
_EARLY: Final = f"""
INSERT INTO ledger (account, clicks) SELECT 'early', count(*) FROM clickstream_events, (
    SELECT min(window_start) AS first FROM feature_aggregates WHERE {DISJOINT}
) AS f WHERE "timestamp" < f.first AND f.first IS NOT NULL HAVING max(f.first) IS NOT NULL
ON CONFLICT (account) DO NOTHING
"""
_LATE: Final = """
INSERT INTO ledger (account, clicks, up_to) VALUES (%s, %s, %s)
ON CONFLICT (account)
DO UPDATE SET clicks = ledger.clicks + EXCLUDED.clicks, up_to = EXCLUDED.up_to
"""


class _LateClick(msgspec.Struct):
    timestamp: str
    missed_windows: int


class StreamHealthStore:
    """Methods raise `Unavailable` without PostgreSQL or Kafka."""

    def __init__(self, postgres: "Postgres", bootstrap: str) -> None:
        self._postgres, self._bootstrap = postgres, bootstrap

    def save(self, stages: Sequence[Stage], at: datetime) -> None:
        """Save the stages of one moment."""
        with self._postgres.connection() as connection, connection.cursor() as cursor:
            cursor.executemany(_SAVE, [as_row(stage, at) for stage in stages])

    def before(self, now: datetime) -> dict[str, PreviousCounts]:
        """The newest total of each stage, at most ten minutes old."""
        with self._postgres.connection() as connection:
            rows = connection.execute(_BEFORE, (now - timedelta(minutes=10),))
            return {stage: PreviousCounts(at, total) for stage, at, total in rows}

    def red(self, now: datetime) -> set[str]:
        """Stages that were red in the newest run, at most three minutes ago."""
        with self._postgres.connection() as connection:
            return {stage for (stage,) in connection.execute(_RED, (now - timedelta(minutes=3),))}

    def changes(self, since: datetime) -> list[dict[str, Any]]:
        """Changes of state, newest first."""
        with self._postgres.connection() as connection:
            return [
                dict(zip(("at", "stage", "state", "reason"), row, strict=True))
                for row in connection.execute(_CHANGES, (since,))
            ]

    def update_totals(self, now: datetime) -> None:
        """Add settled windows, clicks before the first one, and late clicks, each once."""
        with self._postgres.connection() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            connection.execute(_EARLY)
            connection.execute(_WINDOWED, (now - SETTLED,))
        self._count_late()

    def _count_late(self) -> None:
        """Add the late clicks that are missing in the disjoint windows."""
        account = f"late {topic_id(self._bootstrap, LATE_TOPIC.name)}"
        [(low, _)] = watermarks(self._bootstrap, LATE_TOPIC.name).values()
        with self._postgres.connection() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            row = connection.execute(
                "SELECT up_to FROM ledger WHERE account = %s", (account,)
            ).fetchone()
            messages = messages_from(
                self._bootstrap, LATE_TOPIC.name, 0, max(low, row[0] if row else low)
            )
            if not messages:
                return
            clicks = (msgspec.json.decode(m.value() or b"", type=_LateClick) for m in messages)
            late = sum(map(_is_missing, clicks))
            connection.execute(_LATE, (account, late, (messages[-1].offset() or 0) + 1))


def _is_missing(click: _LateClick) -> bool:
    """Whether a late click missed the window that ends at a multiple of the windows' length."""
    moment = datetime.fromisoformat(click.timestamp).timestamp()
    size, slide = SIZE.total_seconds(), SLIDE.total_seconds()
    first_end, disjoint_end = moment // slide * slide + slide, moment // size * size + size
    return disjoint_end <= first_end + (click.missed_windows - 1) * slide
