"""Readiness: each check asks the server itself, and says why it is not ready yet."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable

import psycopg

from adnomaly.errors import Unavailable
from adnomaly.home import Home
from adnomaly.settings import Settings
from stack.ports import is_open, port

Check = Callable[[Settings], str | None]
"""None when the server works, else what is still missing."""

MAX_START_S = 180.0


def wait_for(settings: Settings, name: str, *, patience_s: float = MAX_START_S) -> float:
    """Wait until a server works; returns the seconds it took.

    Raises:
        Unavailable: it did not within `patience_s`; the message says what was missing and where its log is.
    """
    began = time.monotonic()
    while problem := CHECKS[name](settings):
        if time.monotonic() - began > patience_s:
            raise Unavailable(
                f"{name} is not ready after {patience_s:.0f} s: {problem}; see {Home.of(settings).log(name)}"
            )
        time.sleep(0.3)
    return time.monotonic() - began


def _port_open(name: str) -> Check:
    return lambda settings: (
        None if is_open(port(settings, name)) else f"nothing listens on port {port(settings, name)}"
    )


def _http(name: str, path: str, *, token: bool = False, contains: str = "") -> Check:
    def check(settings: Settings) -> str | None:
        request = urllib.request.Request(f"http://127.0.0.1:{port(settings, name)}{path}")
        if token:
            request.add_header(
                "Authorization", f"Bearer {settings.ray_auth_token.get_secret_value()}"
            )
        try:
            with urllib.request.urlopen(request, timeout=3) as answer:
                body = answer.read().decode(errors="replace")
        except (OSError, urllib.error.URLError) as error:
            return f"{path}: {error}"
        return None if contains in body else f"{path} does not say {contains!r} yet"

    return check


def _kafka(settings: Settings) -> str | None:
    if problem := _port_open("kafka")(settings):
        return problem
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    try:
        AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 0}).list_topics(
            timeout=3
        )
    except KafkaException as error:
        return str(error)
    return None


def _postgres(settings: Settings) -> str | None:
    try:
        psycopg.connect(settings.postgres_url("postgres"), connect_timeout=3).close()
    except psycopg.Error as error:
        return str(error).splitlines()[0]
    return None


def _heartbeat(job: str) -> Check:
    """A process of Airflow that serves nothing: its heartbeat, as the api-server reports it."""
    return _http("api-server", "/api/v2/monitor/health", contains=f'"{job}":{{"status":"healthy"')


CHECKS: dict[str, Check] = {
    "kafka": _kafka,
    "postgres": _postgres,
    "redis": _port_open("redis"),
    "s3": _http("s3", "/healthz"),
    "jobmanager": _http("jobmanager", "/overview"),
    "taskmanager": _http("jobmanager", "/overview", contains='"taskmanagers":1'),
    "ray": _http("ray", "/api/serve/applications/", token=True),
    "mlflow": _http("mlflow", "/health"),
    "api-server": _http("api-server", "/api/v2/monitor/health"),
    "scheduler": _heartbeat("scheduler"),
    "dag-processor": _heartbeat("dag_processor"),
    "triggerer": _heartbeat("triggerer"),
}
