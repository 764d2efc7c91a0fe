"""Defaults of all DAGs; tests/dags checks them."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from airflow.timetables.interval import CronDataIntervalTimetable
from airflow.timetables.trigger import CronTriggerTimetable

TAGS: Final = frozenset({"streams", "features", "model", "watch"})
"""The closed set of tags."""

DAY_AFTER: Final = CronDataIntervalTimetable("30 0 * * *", timezone="UTC")
"""Daily at 00:30 UTC, after the late clicks of the day."""

HOUR_AFTER: Final = CronDataIntervalTimetable("30 1 * * *", timezone="UTC")
"""Daily at 01:30 UTC."""

EVERY_MINUTE: Final = "* * * * *"

HOURLY: Final = "17 * * * *"

NIGHTLY: Final = "45 3 * * *"
"""At 03:45 UTC, when little else runs."""

SWEEP: Final = CronTriggerTimetable("*/5 * * * *", timezone="UTC")
"""Every five minutes, in case an asset event is lost."""

_TASK: Final[dict[str, Any]] = {
    "owner": "adnomaly",
    "retries": 2,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=5),
    "execution_timeout": timedelta(minutes=30),
}


def dag_arguments(
    *tags: str,
    retries: int = 2,
    timeout: timedelta = timedelta(minutes=30),
    waits: timedelta = timedelta(0),
) -> dict[str, Any]:
    """Arguments of `@dag`: one run at a time, no catch-up.

    Args:
        timeout: of a task; a run may take three times as long.
        waits: additional time of a run to wait for a person.
    """
    return {
        "tags": list(tags),
        "start_date": datetime(2026, 1, 1, tzinfo=UTC),
        "catchup": False,
        "max_active_runs": 1,
        "dagrun_timeout": 3 * timeout + waits,
        "default_args": _TASK | {"retries": retries, "execution_timeout": timeout},
    }
