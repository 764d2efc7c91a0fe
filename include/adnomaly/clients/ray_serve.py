"""Ray Serve's REST API: deploy, follow and delete the scoring application."""

import logging
import time
from datetime import timedelta
from pathlib import Path
from string import Template
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import yaml

from adnomaly.errors import BundleRejected, InvalidSetting, JobFailed, Unavailable
from adnomaly.settings import ROOT

APPLICATION: Final = "detector"
ABSENT: Final = "ABSENT"
POLL_SECONDS: Final = 0.5
SAME_ANSWERS: Final = 6
"""Consecutive answers that must name the new version: the proxy spreads connections over both
replicas.
"""

log = logging.getLogger("ray_serve")


class Serving:
    """The scoring application on one Ray cluster. Every method raises Unavailable while Ray cannot
    be reached.
    """

    def __init__(self, dashboard_url: str, serving_url: str, token: str, *, metrics: Path) -> None:
        self._metrics = metrics
        self._applications = f"{dashboard_url.rstrip('/')}/api/serve/applications/"
        self._url = serving_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}

    def deploy(self, bundle: Path, *, timeout: timedelta = timedelta(minutes=3)) -> None:
        """Deploy a bundle; returns when every replica serves it. Idempotent.

        Raises:
            BundleRejected: the replicas refused it and keep the previous one; /v1/model gives the
                reason.
            JobFailed: the application does not start, or not within `timeout`.
        """
        self.begin(bundle)
        deadline, missing = time.monotonic() + timeout.total_seconds(), "not asked yet"
        while missing := self.missing(bundle.name):
            if time.monotonic() > deadline:
                raise JobFailed(
                    f"model {bundle.name} is not served in time: {missing}. See logs/ray.log"
                )
            time.sleep(POLL_SECONDS)

    def begin(self, bundle: Path) -> None:
        """Start a deployment, after deleting a failed one; `missing` tells its progress."""
        if self.status() == "DEPLOY_FAILED":
            self.delete()
        self.put(bundle)

    def put(self, bundle: Path) -> None:
        """Configure the application with this bundle; it starts in the background."""
        self._metrics.mkdir(parents=True, exist_ok=True)
        self._ask("PUT", json=self._config(bundle))

    def delete(self, *, timeout: timedelta = timedelta(seconds=60)) -> None:
        """Delete the application and wait until it is gone. Idempotent; Ray Serve itself stays up.

        Raises:
            JobFailed: it still exists after `timeout`.
        """
        self._ask("PUT", json=self._config(Path("/none/none")) | {"applications": []})
        deadline = time.monotonic() + timeout.total_seconds()
        while (state := self.status()) != ABSENT:
            if time.monotonic() > deadline:
                raise JobFailed(
                    f"the application is still {state} after {timeout.total_seconds():.0f} s"
                )
            time.sleep(POLL_SECONDS)

    def _config(self, bundle: Path) -> dict[str, Any]:
        values = {
            "port": urlsplit(self._url).port,
            "root": ROOT,
            "metrics": self._metrics,
            "bundle": bundle,
        }
        template = Template((ROOT / "serving" / "serve.yaml").read_text())
        config: dict[str, Any] = yaml.safe_load(template.substitute(values))
        return config

    def status(self) -> str:
        """`RUNNING`, `DEPLOYING`, `DEPLOY_FAILED`, `UNHEALTHY`, `DELETING`, or `ABSENT`."""
        return str(self._application().get("status", ABSENT))

    def served(self) -> dict[str, Any]:
        """Answer of /v1/model: `model_version`, `loaded_at`, `reload_error`, `card`.

        Raises:
            Unavailable: no replica answers.
        """
        try:
            answer = httpx.get(f"{self._url}/v1/model", timeout=5)
            answer.raise_for_status()
            model: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(f"{self._url}/v1/model does not answer: {error}") from None
        return model

    def ready(self) -> bool:
        """Whether /readyz answers 200: a model is loaded and reproduces its sentinel rows."""
        try:
            return httpx.get(f"{self._url}/readyz", timeout=5).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def missing(self, version: str) -> str:
        """Why not every replica serves this version yet, in words; empty when all do.

        Raises:
            BundleRejected: the replicas refused it and keep the previous one.
            JobFailed: the application does not start.
        """
        application = self._application()
        state = application.get("status", ABSENT)
        if state in ("DEPLOY_FAILED", "UNHEALTHY"):
            raise JobFailed(f"the application is {state}: {application.get('message', '')[:500]}")
        if state != "RUNNING":
            return f"the application is {state}"
        return (
            ""
            if all(self._serves(version) for _ in range(SAME_ANSWERS))
            else "a replica serves another version"
        )

    def _serves(self, version: str) -> bool:
        try:
            model = self.served()
        except Unavailable:
            return False
        refused = model["reload_error"] or ""
        if refused.startswith(f"{version}:"):
            raise BundleRejected(
                f"the replicas refuse {refused}; {model['model_version']} is still served"
            )
        return bool(model["model_version"] == version)

    def _application(self) -> dict[str, Any]:
        application: dict[str, Any] = self._ask("GET").get("applications", {}).get(APPLICATION, {})
        return application

    def _ask(self, method: str, **content: Any) -> dict[str, Any]:
        try:
            answer = httpx.request(
                method, self._applications, headers=self._headers, timeout=30, **content
            )
        except httpx.TransportError as error:
            raise Unavailable(
                f"Ray's dashboard {self._applications} does not answer: {error}"
            ) from None
        if answer.status_code in (401, 403):
            raise InvalidSetting(
                "RAY_AUTH_TOKEN is not the one this Ray cluster was started with; restart Ray after `make setup`"
            )
        if answer.status_code >= 500:
            raise Unavailable(f"Ray's dashboard answers {answer.status_code}: {answer.text[:300]}")
        if answer.is_error:
            raise JobFailed(
                f"Ray refuses the application, {answer.status_code}: {answer.text[:500]}"
            )
        body: dict[str, Any] = answer.json() if answer.content else {}
        return body
