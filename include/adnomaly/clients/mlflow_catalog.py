"""Listing of the model registry over MLflow's REST API, as its client library takes seconds to
import.
"""

from datetime import UTC, datetime
from typing import Any, Final

import httpx
import msgspec

from adnomaly.clients.mlflow import MODEL
from adnomaly.errors import Unavailable

CALL_SECONDS: Final = 5.0
MAX_LISTED: Final = 10
WITH_METRICS: Final = 4
"""Newest models listed with metrics; models with a role always have them."""


class CatalogEntry(msgspec.Struct, kw_only=True):
    """One registered model. `roles` are the registry's aliases; `metrics` those on planted
    attacks.
    """

    number: str
    model_version: str
    roles: list[str]
    registered_at: datetime
    decision: str
    link: str
    metrics: dict[str, float] = {}


class ModelCatalog:
    """Every method raises `Unavailable` while MLflow does not answer."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def entries(self) -> list[CatalogEntry]:
        """The newest registered models, newest first, always with champion and challenger."""
        with httpx.Client(
            base_url=f"{self._url}/api/2.0/mlflow", timeout=CALL_SECONDS, trust_env=False
        ) as client:
            aliases = self._aliases(client)
            versions = self._ask(
                client, "model-versions/search", filter=f"name='{MODEL}'", max_results="200"
            ).get("model_versions", [])
            newest = sorted(versions, key=lambda v: -int(v["version"]))
            listed = [v for i, v in enumerate(newest) if i < MAX_LISTED or v["version"] in aliases]
            entries = [_entry(v, aliases.get(v["version"], []), self._url) for v in listed]
            for i, (entry, raw) in enumerate(zip(entries, listed, strict=True)):
                if entry.roles or i < WITH_METRICS:
                    entry.metrics = self._metrics(client, raw["run_id"])
        return entries

    def newest(self) -> datetime | None:
        """Time of the last registration; None before the first one."""
        return max((entry.registered_at for entry in self.entries()), default=None)

    def _aliases(self, client: httpx.Client) -> dict[str, list[str]]:
        """Aliases by model version."""
        model = self._ask(client, "registered-models/get", name=MODEL).get("registered_model", {})
        aliases: dict[str, list[str]] = {}
        for alias in model.get("aliases", []):
            aliases.setdefault(alias["version"], []).append(alias["alias"])
        return aliases

    def _metrics(self, client: httpx.Client, run_id: str) -> dict[str, float]:
        run = self._ask(client, "runs/get", run_id=run_id).get("run", {})
        return {m["key"]: float(m["value"]) for m in run.get("data", {}).get("metrics", [])}

    def _ask(self, client: httpx.Client, path: str, **query: str) -> dict[str, Any]:
        try:
            answer = client.get(f"/{path}", params=query)
        except httpx.HTTPError as error:
            raise Unavailable(f"MLflow at {self._url} does not answer: {error}") from error
        if answer.status_code == httpx.codes.NOT_FOUND:
            return {}
        if answer.is_error:
            raise Unavailable(f"MLflow answers {answer.status_code}: {answer.text[:200]}")
        body: dict[str, Any] = answer.json()
        return body


def _entry(raw: dict[str, Any], roles: list[str], url: str) -> CatalogEntry:
    tags = {tag["key"]: tag["value"] for tag in raw.get("tags", [])}
    return CatalogEntry(
        number=raw["version"],
        model_version=tags.get("bundle_version", ""),
        roles=roles,
        registered_at=datetime.fromtimestamp(raw["creation_timestamp"] / 1000, UTC),
        decision=raw.get("description", ""),
        link=f"{url}/#/models/{MODEL}/versions/{raw['version']}",
    )
