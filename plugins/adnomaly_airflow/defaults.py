"""How every DAG of ours behaves unless it says otherwise. House rules; tests/dags holds the DAGs to them."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from airflow.timetables.interval import CronDataIntervalTimetable
from airflow.timetables.trigger import CronTriggerTimetable

TAGS: Final = frozenset({"streams", "features", "model", "watch"})
"""The closed set: what a DAG is about."""

DAY_AFTER: Final = CronDataIntervalTimetable("30 0 * * *", timezone="UTC")
"""Daily, half an hour after midnight UTC, when the late clicks of the day are in."""

HOUR_AFTER: Final = CronDataIntervalTimetable("30 1 * * *", timezone="UTC")
"""Daily, an hour after that."""

EVERY_MINUTE: Final = "* * * * *"

HOURLY: Final = "17 * * * *"

NIGHTLY: Final = "45 3 * * *"
"""When little else runs."""

SWEEP: Final = CronTriggerTimetable("*/5 * * * *", timezone="UTC")
"""Behind a wake-up that can be lost."""

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
    """Arguments of `@dag`: one run at a time, no runs for the past, `timeout` per task and thrice that per run.

    Args:
        waits: time that a run may wait for a person beside that.
    """
    return {
        "tags": list(tags),
        "start_date": datetime(2026, 1, 1, tzinfo=UTC),
        "catchup": False,
        "max_active_runs": 1,
        "dagrun_timeout": 3 * timeout + waits,
        "default_args": _TASK | {"retries": retries, "execution_timeout": timeout},
    }
