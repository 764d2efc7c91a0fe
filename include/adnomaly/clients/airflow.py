"""Airflow's REST API: trigger a DAG, follow its tasks, read their results."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx

from adnomaly.errors import JobFailed, Unavailable

FINISHED: Final = frozenset({"success", "failed"})
"""Final states of a run."""

_UNAUTHORIZED, _NOT_FOUND = 401, 404


class TaskState(NamedTuple):
    """One task of a run; `state` is None before it is scheduled."""

    task_id: str
    state: str | None
    try_number: int


class Airflow:
    """One Airflow, as one of its users. Logs in on demand, and again after the token has expired.

    Every method raises `Unavailable` while the API server does not answer.
    """

    def __init__(self, url: str, user: str, password: str, *, timeout_s: float = 20) -> None:
        self._credentials = {"username": user, "password": password}
        self._http = httpx.Client(base_url=url, timeout=timeout_s, trust_env=False)

    def knows(self, dag_id: str) -> bool:
        """Whether the DAG processor has parsed this DAG."""
        return (
            self._request("GET", f"/dags/{dag_id}", tolerate=_NOT_FOUND).status_code != _NOT_FOUND
        )

    def import_errors(self) -> list[str]:
        """Import errors of DAG files, one line each."""
        errors = self._request("GET", "/importErrors").json()["import_errors"]
        return [f"{e['filename']}: {e['stack_trace'].strip().splitlines()[-1]}" for e in errors]

    def set_paused(self, dag_id: str, paused: bool) -> None:
        """Pause or unpause a DAG. Idempotent."""
        self._request("PATCH", f"/dags/{dag_id}", json={"is_paused": paused})

    def trigger(
        self, dag_id: str, conf: Mapping[str, Any], *, logical_date: datetime | None = None
    ) -> str:
        """Start a run with these params; returns its id. The run of a paused DAG stays queued.

        Raises:
            JobFailed: the params were refused, or a run of this logical date exists already.
        """
        body = {"logical_date": logical_date and logical_date.isoformat(), "conf": dict(conf)}
        run = self._request("POST", f"/dags/{dag_id}/dagRuns", json=body).json()
        return str(run["dag_run_id"])

    def has_run_of(self, dag_id: str, logical_date: datetime) -> bool:
        """Whether a run of this logical date exists."""
        moment = logical_date.isoformat()
        runs = self._request(
            "GET",
            f"/dags/{dag_id}/dagRuns",
            params={"logical_date_gte": moment, "logical_date_lte": moment},
        )
        return bool(runs.json()["total_entries"])

    def active_run(self, dag_id: str) -> str | None:
        """The oldest queued or running run; None when there is none."""
        query = {"state": ["queued", "running"], "order_by": "run_after", "limit": 1}
        runs = self._request("GET", f"/dags/{dag_id}/dagRuns", params=query).json()["dag_runs"]
        return runs[0]["dag_run_id"] if runs else None

    def run_state(self, dag_id: str, run_id: str) -> str:
        """`queued`, `running`, `success` or `failed`."""
        return str(self._request("GET", _run(dag_id, run_id)).json()["state"])

    def tasks(self, dag_id: str, run_id: str) -> list[TaskState]:
        """Every task of a run with its state."""
        tasks = self._request("GET", f"{_run(dag_id, run_id)}/taskInstances").json()
        return [
            TaskState(t["task_id"], t["state"], t["try_number"]) for t in tasks["task_instances"]
        ]

    def returned(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Return value of a task (XCom)."""
        return self._request(
            "GET", f"{_run(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/return_value"
        ).json()["value"]

    def links(self, dag_id: str, run_id: str, task_id: str) -> dict[str, str | None]:
        """Extra links of a task: name -> URL, None until it is known."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{task_id}/links"
        links: dict[str, str | None] = self._request("GET", path).json()["extra_links"]
        return links

    def log_tail(self, dag_id: str, run_id: str, task: TaskState, *, lines: int = 15) -> list[str]:
        """Last log lines of a task's newest try: its own and errors."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{task.task_id}/logs/{max(task.try_number, 1)}"
        log = self._request(
            "GET", path, tolerate=_NOT_FOUND, headers={"accept": "application/json"}
        )
        content = log.json().get("content", []) if log.is_success else []
        return [_line(entry) for entry in content if _is_relevant(entry)][-lines:]

    def _request(
        self, method: str, path: str, *, tolerate: int = 0, **arguments: Any
    ) -> httpx.Response:
        """One request with a token; logs in first, and once more when the token is refused."""
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
                f"Airflow refuses the login of {self._credentials['username']}: {answer.status_code}; "
                "AIRFLOW_ADMIN_PASSWORD must be the one it was started with"
            )
        self._http.headers["authorization"] = f"Bearer {answer.json()['access_token']}"


def _run(dag_id: str, run_id: str) -> str:
    return f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"


def _is_relevant(entry: Any) -> bool:
    """Whether an entry is the task's own or an error, not noise of Airflow or Python's warnings."""
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
