"""A model slot with a scorer that is simple enough to predict."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from serving.api import create_api
from serving.metrics import ApiMetrics
from serving.slot import ModelSlot

ROW = {"ctr_avg": 0.02, "bounce_rate_avg": 0.35, "event_count": 100}
CONTEXT = {"geo": "US", "platform": "web", "timestamp": "2026-11-22T20:05:00Z"}


class RuleScorer:
    """A scorer whose score is the bounce rate, with threshold 0.5 and the only known entity US web.

    A folder named `bad…` fails to load.
    """

    def __init__(self, folder: Path) -> None:
        if folder.name.startswith("bad"):
            raise ValueError("the manifest lies")
        self.version, self.card = folder.name, {"trained": "never"}
        self.healthy = True

    def score_rows(self, rows: Sequence[Mapping[str, Any]]) -> list[SimpleNamespace]:
        return [self._score(row) for row in rows]

    def _score(self, row: Mapping[str, Any]) -> SimpleNamespace:
        score = row["bounce_rate_avg"]
        known = (row.get("geo"), row.get("platform")) == ("US", "web") and "timestamp" in row
        return SimpleNamespace(
            anomaly_score=score,
            is_anomaly=score >= 0.5,
            threshold=0.5,
            baseline="entity" if known else "global",
            features=("ctr_avg", "bounce_rate_avg", "event_count"),
            expected={"bounce_rate_avg": 0.36},
            z={"bounce_rate_avg": (score - 0.36) / 0.02},
            share={"bounce_rate_avg": 1.0},
        )

    def check_sentinels(self) -> None:
        if not self.healthy:
            raise ValueError("a sentinel changed sides")


@pytest.fixture
def slot() -> ModelSlot:
    slot = ModelSlot(RuleScorer)
    assert slot.offer(Path("v1"))
    return slot


@pytest.fixture
def empty_slot() -> ModelSlot:
    return ModelSlot(RuleScorer)


class AsgiBridge(httpx.BaseTransport):
    """Lets a plain client ask an ASGI application in this process."""

    def __init__(self, slot: ModelSlot) -> None:
        self._transport = httpx.ASGITransport(app=create_api(slot, ApiMetrics()))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return asyncio.run(self._ask(request))

    async def _ask(self, request: httpx.Request) -> httpx.Response:
        response = await self._transport.handle_async_request(request)
        return httpx.Response(
            response.status_code, headers=response.headers, content=await response.aread()
        )


@pytest.fixture
def client(slot: ModelSlot) -> httpx.Client:
    return httpx.Client(transport=AsgiBridge(slot), base_url="http://api")


@pytest.fixture
def empty_client(empty_slot: ModelSlot) -> httpx.Client:
    return httpx.Client(transport=AsgiBridge(empty_slot), base_url="http://api")
