"""Parameters and interval of a run, as plain values for a pipeline."""

import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from airflow.sdk import Param

from adnomaly.home import Home

ATTACK: Final = r"^\w+:[A-Z]{2}:\w+:.+:\d+[smhd](:[0-9.]+)?$"

DAY_HINT: Final = "UTC day; empty: the day of the run's interval"


def optional_day(title: str) -> Param:
    """A form field for a day, optional."""
    return Param(None, type=["null", "string"], format="date", title=title, description_md=DAY_HINT)


def day_of_run(dag_run: Any) -> date:
    """The UTC day of a run's interval; the day before the run if it has none."""
    start: datetime = dag_run.data_interval_start or dag_run.run_after - timedelta(days=1)
    return start.date()


def day(params: Mapping[str, Any], name: str, dag_run: Any) -> date:
    """The day in the form, else the day of the run."""
    return date.fromisoformat(params[name]) if params[name] else day_of_run(dag_run)


def work_folder(home: Home, dag_run: Any) -> Path:
    """The work folder of a run, the same for all its tasks and tries."""
    return home.work / re.sub(r"[^A-Za-z0-9._-]+", "_", dag_run.run_id)


def instant(params: Mapping[str, Any], name: str) -> datetime | None:
    """The time in the form; None when it is empty."""
    return datetime.fromisoformat(params[name]) if params[name] else None
