"""Follows one run of a DAG from outside: each change of a task's state is a line, and a wait shows the task's last log line."""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from adnomaly.clients.airflow import Airflow, TaskState
from adnomaly.errors import JobFailed, Unavailable
from stack.progress import Progress

PATIENCE_SECONDS = 300
"""How long Airflow may be out of reach while a run is followed."""

_SHOWN = {"running", "deferred", "success", "failed", "up_for_retry", "upstream_failed"}


def run_dag(
    airflow: Airflow,
    progress: Progress,
    dag_id: str,
    conf: Mapping[str, Any],
    *,
    logical_date: datetime | None = None,
) -> str:
    """Trigger a DAG and follow it to its end; returns the run's id. Runs that are under way already are waited for first.

    Args:
        logical_date: gives the run that date, when no run has it yet. The schedule then leaves the date to this run.

    Raises:
        JobFailed: the run failed; with the last lines of the log.
    """
    settle(airflow, progress, dag_id)
    date = (
        None if logical_date is None or airflow.has_run_of(dag_id, logical_date) else logical_date
    )
    run_id = airflow.trigger(dag_id, conf, logical_date=date)
    airflow.set_paused(dag_id, False)
    follow(airflow, progress, dag_id, run_id)
    return run_id


def settle(airflow: Airflow, progress: Progress, dag_id: str) -> None:
    """Wait for the runs of a DAG that are under way: of an earlier attempt that was interrupted, or woken by an asset."""
    while earlier := airflow.active_run(dag_id):
        airflow.set_paused(dag_id, False)
        progress.say(f"   {dag_id}: waiting for {earlier}, which is under way already")
        follow(airflow, progress, dag_id, earlier, must_succeed=False)


def follow(
    airflow: Airflow, progress: Progress, dag_id: str, run_id: str, *, must_succeed: bool = True
) -> None:
    """Report a run until it has ended.

    Raises:
        JobFailed: it ended in failure, and `must_succeed`.
    """
    seen: dict[str, str | None] = {}
    began, reached = time.monotonic(), time.monotonic()
    while True:
        try:
            state, tasks = airflow.run_state(dag_id, run_id), airflow.tasks(dag_id, run_id)
            reached = time.monotonic()
        except Unavailable as error:
            if time.monotonic() - reached > PATIENCE_SECONDS:
                raise
            progress.waiting(lambda error=error: f"   {error}; still trying")
            time.sleep(2)
            continue
        _report(progress, dag_id, tasks, seen)
        if state in ("success", "failed"):
            break
        progress.waiting(
            lambda state=state, tasks=tasks: _wait_line(
                airflow, dag_id, run_id, state, tasks, time.monotonic() - began
            )
        )
        time.sleep(1)
    if state == "failed" and must_succeed:
        raise JobFailed(f"{dag_id} failed\n{_failures(airflow, dag_id, run_id, tasks)}")


def _report(
    progress: Progress, dag_id: str, tasks: list[TaskState], seen: dict[str, str | None]
) -> None:
    for task in tasks:
        if seen.get(task.task_id) != task.state and task.state in _SHOWN:
            progress.say(f"   {dag_id}.{task.task_id}: {task.state}")
        seen[task.task_id] = task.state


def _wait_line(
    airflow: Airflow, dag_id: str, run_id: str, state: str, tasks: list[TaskState], seconds: float
) -> str:
    """Which task is waited for, since when, and what it said last."""
    current = [task for task in tasks if task.state in ("running", "deferred", "up_for_retry")]
    if not current:
        return f"   {dag_id}: {state} for {seconds:.0f} s, its next task waits for the scheduler"
    try:
        said = airflow.log_tail(dag_id, run_id, current[0], lines=1)
    except (Unavailable, JobFailed):
        said = []
    return f"   {dag_id}.{current[0].task_id}: {current[0].state}, {seconds:.0f} s so far" + (
        f": {said[0].splitlines()[0][:150]}" if said and said[0] else ""
    )


def _failures(airflow: Airflow, dag_id: str, run_id: str, tasks: list[TaskState]) -> str:
    failed = [task for task in tasks if task.state == "failed"]
    return "\n".join(
        f"--- {task.task_id}\n" + "\n".join(airflow.log_tail(dag_id, run_id, task))
        for task in failed
    )
