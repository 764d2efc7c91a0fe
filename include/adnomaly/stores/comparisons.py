"""Results of comparing the stream with the batch, one for each UTC day: `window_comparisons`."""

from datetime import date, datetime
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from psycopg.rows import class_row

from adnomaly.clients.postgres import one

if TYPE_CHECKING:
    from adnomaly.clients.postgres import Postgres

_SAVE: Final = """
INSERT INTO window_comparisons (day, outcome, compared, reason, at)
VALUES (%(day)s, %(outcome)s, %(compared)s, %(reason)s, %(at)s)
ON CONFLICT (day) DO UPDATE SET outcome = EXCLUDED.outcome, compared = EXCLUDED.compared,
    reason = EXCLUDED.reason, at = EXCLUDED.at
"""
_NEWEST: Final = """
SELECT day, outcome, compared, reason, at FROM window_comparisons ORDER BY day DESC LIMIT 1
"""
_SKIPPED: Final = """
SELECT count(*) FROM window_comparisons AS c
WHERE outcome = 'skipped' AND day < %(day)s AND NOT EXISTS (
    SELECT FROM window_comparisons AS other
    WHERE other.outcome <> 'skipped' AND other.day > c.day AND other.day < %(day)s
)
"""


class DayComparison(msgspec.Struct, frozen=True):
    """The newest result for one day. `reason` says what differs, or why nothing was compared."""

    day: date
    outcome: Literal["equal", "differs", "skipped"]
    compared: int
    reason: str
    at: datetime


class ComparisonStore:
    """Every method raises `Unavailable` without PostgreSQL."""

    def __init__(self, postgres: "Postgres") -> None:
        self._postgres = postgres

    def save(self, comparison: DayComparison) -> None:
        """Replace the result of its day."""
        with self._postgres.connection() as connection:
            connection.execute(_SAVE, msgspec.structs.asdict(comparison))

    def newest(self) -> DayComparison | None:
        """The result of the newest day; None before the first comparison."""
        with (
            self._postgres.connection() as connection,
            connection.cursor(row_factory=class_row(DayComparison)) as cursor,
        ):
            return cursor.execute(_NEWEST).fetchone()

    def skipped_before(self, day: date) -> int:
        """How many days in a row before `day` were skipped; days without a result do not count."""
        with self._postgres.connection() as connection:
            [skipped] = one(connection.execute(_SKIPPED, {"day": day}))
        return int(skipped)
