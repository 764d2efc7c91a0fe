"""The cached status of all stages, for the page *Now*."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, Final, TypeVar

import msgspec

from adnomaly import streams
from adnomaly.errors import AdnomalyError
from adnomaly.monitoring import reconciliation
from adnomaly.monitoring.servers import server_states
from adnomaly.monitoring.stages import PreviousCounts, Snapshot, evaluate_stages
from adnomaly.wiring import Backends

T = TypeVar("T")

CACHE_SECONDS: Final = 2.0
"""Requests within this time share one status."""
RATE_SPAN: Final = timedelta(minutes=1)
"""Shortest span of a rate: windows and objects of the lake come once a minute."""
CHANGES_SPAN: Final = timedelta(days=1)


class StatusCache:
    """The newest status as JSON. Keeps the totals of earlier snapshots for rates. Thread-safe."""

    def __init__(self, backends: Callable[[], Backends]) -> None:
        self._backends = backends
        self._lock, self._collected_s, self._json = Lock(), 0.0, b""
        self._earlier: list[Snapshot] = []

    def newest(self) -> bytes:
        """The status, collected at most CACHE_SECONDS ago."""
        with self._lock:
            if not self._json or time.monotonic() - self._collected_s > CACHE_SECONDS:
                self._json = msgspec.json.encode(self._collect())
                self._collected_s = time.monotonic()
            return self._json

    def _collect(self) -> dict[str, Any]:
        b = self._backends()
        problems: list[str] = []
        snapshot = b.collector.collect()

        def or_default(call: Callable[[], T], default: T) -> T:
            try:
                return call()
            except AdnomalyError as error:
                problems.append(str(error).splitlines()[0])
                return default

        no_counts: dict[str, PreviousCounts] = {}
        no_changes: list[dict[str, Any]] = []
        before = self._before(snapshot) or or_default(
            lambda: b.health.before(snapshot.at), no_counts
        )
        counts = or_default(lambda: b.collector.count(), None)
        return {
            "at": snapshot.at,
            "stages": evaluate_stages(snapshot, before),
            "columns": streams.columns(),
            "servers": server_states(snapshot),
            "ledger": [_equation(e) for e in reconciliation.equations(counts)] if counts else [],
            "comparison": or_default(lambda: b.comparisons.newest(), None),
            "changes": or_default(lambda: b.health.changes(snapshot.at - CHANGES_SPAN), no_changes),
            "serving": snapshot.serving,
            "problems": problems,
        }

    def _before(self, snapshot: Snapshot) -> dict[str, PreviousCounts]:
        """Totals of the newest snapshot that is RATE_SPAN old, and not older than twice that."""
        ages = [(snapshot.at - earlier.at, earlier) for earlier in self._earlier]
        old = [earlier for age, earlier in ages if RATE_SPAN <= age < 2 * RATE_SPAN]
        young = [earlier for age, earlier in ages if age < RATE_SPAN]
        self._earlier = [*old[-1:], *young, snapshot]
        if not old:
            return {}
        at: datetime = old[-1].at
        return {stage: PreviousCounts(at, total) for stage, total in old[-1].totals.items()}


def _equation(equation: reconciliation.Equation) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(equation)
    return plain | {"difference": equation.difference, "balanced": equation.balanced}
