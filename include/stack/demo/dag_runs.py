"""Runs a DAG and prints each change of a task's state, and log lines while it waits."""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from adnomaly.clients.airflow import Airflow, TaskState
from adnomaly.errors import JobFailed, Unavailable
from stack.progress import Progress

PATIENCE_SECONDS: Final = 300
"""How long Airflow may be unavailable while a run is followed."""

_SHOWN: Final = {"running", "deferred", "success", "failed", "up_for_retry", "upstream_failed"}


def run_dag(
    airflow: Airflow,
    progress: Progress,
    dag_id: str,
    conf: Mapping[str, Any],
    *,
    logical_date: datetime | None = None,
) -> str:
    """Trigger a DAG and follow the run to its end; returns its id. Waits for active runs first.

    Args:
        logical_date: of the run, unless a run has that date; the schedule then skips this date.

    Raises:
        JobFailed: the run failed; with the last lines of the log.
    """
    wait_for_active_runs(airflow, progress, dag_id)
    date = (
        None if logical_date is None or airflow.has_run_of(dag_id, logical_date) else logical_date
    )
    run_id = airflow.trigger(dag_id, conf, logical_date=date)
    airflow.set_paused(dag_id, False)
    follow(airflow, progress, dag_id, run_id)
    return run_id


def wait_for_active_runs(airflow: Airflow, progress: Progress, dag_id: str) -> None:
    """Wait for active runs of a DAG, from an interrupted attempt or started by an asset."""
    while run_id := airflow.active_run(dag_id):
        airflow.set_paused(dag_id, False)
        progress.say(f"   {dag_id}: waiting for the active run {run_id}")
        follow(airflow, progress, dag_id, run_id, must_succeed=False)


def follow(
    airflow: Airflow, progress: Progress, dag_id: str, run_id: str, *, must_succeed: bool = True
) -> None:
    """Report a run until it has ended.

    Raises:
        JobFailed: it failed, and `must_succeed`.
        Unavailable: Airflow has not answered for PATIENCE_SECONDS.
    """
    states: dict[str, str | None] = {}
    start = answered = time.monotonic()
    while True:
        try:
            state, tasks = airflow.run_state(dag_id, run_id), airflow.tasks(dag_id, run_id)
            answered = time.monotonic()
        except Unavailable as error:
            if time.monotonic() - answered > PATIENCE_SECONDS:
                raise
            problem = str(error)
            progress.waiting(lambda: f"   {problem}; retrying")  # noqa: B023 - called at once
            time.sleep(2)
            continue
        _report(progress, dag_id, tasks, states)
        if state in ("success", "failed"):
            break
        line = (airflow, dag_id, run_id, state, tasks, time.monotonic() - start)
        progress.waiting(lambda: _wait_line(*line))  # noqa: B023 - called at once
        time.sleep(1)
    if state == "failed" and must_succeed:
        raise JobFailed(f"{dag_id} failed\n{_failures(airflow, dag_id, run_id, tasks)}")


def _report(
    progress: Progress, dag_id: str, tasks: list[TaskState], states: dict[str, str | None]
) -> None:
    """Print the tasks whose state differs from `states`, and update `states`."""
    for task in tasks:
        if states.get(task.task_id) != task.state and task.state in _SHOWN:
            progress.say(f"   {dag_id}.{task.task_id}: {task.state}")
        states[task.task_id] = task.state


def _wait_line(
    airflow: Airflow, dag_id: str, run_id: str, state: str, tasks: list[TaskState], seconds: float
) -> str:
    """The current task, the seconds since the start of the run, and the task's last log line."""
    current = [task for task in tasks if task.state in ("running", "deferred", "up_for_retry")]
    if not current:
        return f"   {dag_id}: {state} for {seconds:.0f} s, its next task waits for the scheduler"
    task = current[0]
    try:
        tail = airflow.log_tail(dag_id, run_id, task, lines=1)
    except (Unavailable, JobFailed):
        tail = []
    last = f": {tail[0].splitlines()[0][:150]}" if tail and tail[0] else ""
    return f"   {dag_id}.{task.task_id}: {task.state}, {seconds:.0f} s so far{last}"


def _failures(airflow: Airflow, dag_id: str, run_id: str, tasks: list[TaskState]) -> str:
    failed = [task for task in tasks if task.state == "failed"]
    return "\n".join(
        f"--- {task.task_id}\n" + "\n".join(airflow.log_tail(dag_id, run_id, task))
        for task in failed
    )
