"""Airflow's REST API: trigger a DAG, watch its tasks, read what they returned."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx

from adnomaly.errors import JobFailed, Unavailable

FINISHED: Final = frozenset({"success", "failed"})
"""States of a run after which nothing changes any more."""

_UNAUTHORIZED, _NOT_FOUND = 401, 404


class TaskState(NamedTuple):
    """One task of a run; `state` is None before the scheduler has looked at it."""

    task_id: str
    state: str | None
    try_number: int


class Airflow:
    """One Airflow, as one of its users. Logs in when it must and again when the token has expired.

    Every method raises `Unavailable` while the API server does not answer.
    """

    def __init__(self, url: str, user: str, password: str, *, timeout_s: float = 20) -> None:
        self._credentials = {"username": user, "password": password}
        self._http = httpx.Client(base_url=url, timeout=timeout_s, trust_env=False)

    def knows(self, dag_id: str) -> bool:
        """Whether the DAG processor has read this DAG."""
        return (
            self._request("GET", f"/dags/{dag_id}", tolerate=_NOT_FOUND).status_code != _NOT_FOUND
        )

    def import_errors(self) -> list[str]:
        """What keeps DAG files from being read, one line each."""
        errors = self._request("GET", "/importErrors").json()["import_errors"]
        return [f"{e['filename']}: {e['stack_trace'].strip().splitlines()[-1]}" for e in errors]

    def set_paused(self, dag_id: str, paused: bool) -> None:
        """Pause or unpause a DAG. Idempotent."""
        self._request("PATCH", f"/dags/{dag_id}", json={"is_paused": paused})

    def trigger(
        self, dag_id: str, conf: Mapping[str, Any], *, logical_date: datetime | None = None
    ) -> str:
        """A new run with these params; returns its id. The DAG must not be paused for the run to begin.

        Raises:
            JobFailed: the form was refused, or a run of this logical date exists already.
        """
        body = {"logical_date": logical_date and logical_date.isoformat(), "conf": dict(conf)}
        return self._request("POST", f"/dags/{dag_id}/dagRuns", json=body).json()["dag_run_id"]

    def has_run_of(self, dag_id: str, logical_date: datetime) -> bool:
        """Whether a run of this logical date exists."""
        moment = logical_date.isoformat()
        found = self._request(
            "GET",
            f"/dags/{dag_id}/dagRuns",
            params={"logical_date_gte": moment, "logical_date_lte": moment},
        )
        return bool(found.json()["total_entries"])

    def active_run(self, dag_id: str) -> str | None:
        """The oldest run that is queued or running, whoever started it; None when there is none."""
        query = {"state": ["queued", "running"], "order_by": "run_after", "limit": 1}
        runs = self._request("GET", f"/dags/{dag_id}/dagRuns", params=query).json()["dag_runs"]
        return runs[0]["dag_run_id"] if runs else None

    def run_state(self, dag_id: str, run_id: str) -> str:
        """`queued`, `running`, `success` or `failed`."""
        return self._request("GET", _run(dag_id, run_id)).json()["state"]

    def tasks(self, dag_id: str, run_id: str) -> list[TaskState]:
        """Every task of a run with its state."""
        found = self._request("GET", f"{_run(dag_id, run_id)}/taskInstances").json()[
            "task_instances"
        ]
        return [TaskState(t["task_id"], t["state"], t["try_number"]) for t in found]

    def watch(
        self,
        dag_id: str,
        run_id: str,
        *,
        every_s: float = 1.0,
        sleep: Callable[[float], object] = time.sleep,
    ) -> Iterator[tuple[str, list[TaskState]]]:
        """State of the run and of its tasks, again and again, up to and with the final one."""
        while True:
            state = self.run_state(dag_id, run_id)
            yield state, self.tasks(dag_id, run_id)
            if state in FINISHED:
                return
            sleep(every_s)

    def returned(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """What a task returned."""
        return self._request(
            "GET", f"{_run(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/return_value"
        ).json()["value"]

    def links(self, dag_id: str, run_id: str, task_id: str) -> dict[str, str | None]:
        """The buttons on a task's page: name -> URL, None before there is one."""
        return self._request("GET", f"{_run(dag_id, run_id)}/taskInstances/{task_id}/links").json()[
            "extra_links"
        ]

    def log_tail(self, dag_id: str, run_id: str, task: TaskState, *, lines: int = 15) -> list[str]:
        """The last lines of what a task itself logged in its newest try, and its errors."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{task.task_id}/logs/{max(task.try_number, 1)}"
        found = self._request(
            "GET", path, tolerate=_NOT_FOUND, headers={"accept": "application/json"}
        )
        content = found.json().get("content", []) if found.is_success else []
        return [_line(entry) for entry in content if _speaks_of_work(entry)][-lines:]

    def _request(
        self, method: str, path: str, *, tolerate: int = 0, **arguments: Any
    ) -> httpx.Response:
        """One call with the token; logs in first, and once more when the token is refused."""
        try:
            if "authorization" not in self._http.headers:
                self._login()
            answer = self._http.request(method, f"/api/v2{path}", **arguments)
            if answer.status_code == _UNAUTHORIZED:
                self._login()
                answer = self._http.request(method, f"/api/v2{path}", **arguments)
        except httpx.TransportError as error:
            raise Unavailable(
                f"Airflow does not answer on {self._http.base_url} ({error}): `make status`, then `make up`"
            ) from error
        if answer.is_success or answer.status_code == tolerate:
            return answer
        if answer.is_server_error:
            raise Unavailable(
                f"Airflow answers {answer.status_code} to {method} {path}: {answer.text[:300]}"
            )
        raise JobFailed(
            f"Airflow refuses {method} {path}: {answer.status_code} {answer.text[:500]}"
        )

    def _login(self) -> None:
        self._http.headers.pop("authorization", None)
        answer = self._http.post("/auth/token", json=self._credentials)
        if answer.is_server_error:
            raise Unavailable(f"Airflow's login answers {answer.status_code}")
        if not answer.is_success:
            raise JobFailed(
                f"Airflow refuses the login of {self._credentials['username']}: {answer.status_code}. "
                "Is AIRFLOW_ADMIN_PASSWORD the one it was started with?"
            )
        self._http.headers["authorization"] = f"Bearer {answer.json()['access_token']}"


def _run(dag_id: str, run_id: str) -> str:
    return f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"


def _speaks_of_work(entry: Any) -> bool:
    """Whether an entry is the task's own or an error: Airflow and Python's warnings say much that tells nothing."""
    if not isinstance(entry, dict):
        return False
    logger = entry.get("logger", "")
    return entry.get("level") in ("error", "critical") or not (
        logger in ("", "task", "py.warnings") or logger.startswith("airflow.")
    )


def _line(entry: dict[str, Any]) -> str:
    """One log entry as text, an exception as its type and message."""
    causes = [
        f"{cause['exc_type']}: {cause['exc_value']}" for cause in entry.get("error_detail") or ()
    ]
    return "\n  ".join([entry.get("event", ""), *causes])
