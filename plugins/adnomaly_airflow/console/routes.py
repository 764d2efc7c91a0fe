"""What the page asks: one route for each view, one for each action."""

import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from threading import Lock
from typing import Any, Final

import msgspec
from fastapi import APIRouter, HTTPException, Request, Response

from adnomaly.errors import AdnomalyError, Unavailable
from adnomaly.features import FEATURES
from adnomaly.incidents.decisions import (
    FRAUD_KINDS,
    MAX_COMMENT,
    Decision,
    Incident,
    worst_first,
)
from adnomaly.monitoring import reconciliation, stages
from adnomaly.wiring import Backends, connect
from adnomaly_airflow.console.security import ACTS, READS, Author, MayAct

RECENT: Final = timedelta(days=14)
AROUND: Final = timedelta(minutes=60)
LOOK_SECONDS: Final = 2.0
"""A look at the path is shared by everybody who asks within this time."""
RATE_SPAN: Final = timedelta(minutes=1)
"""Rates are over this time or a little more: windows and objects of the lake come once a minute."""

router = APIRouter()


@lru_cache(maxsize=1)
def backends() -> Backends:
    """Those of the API server's process."""
    return connect()


class _Looks:
    """The newest look at the path, and what each stage had done a minute earlier."""

    def __init__(self) -> None:
        self._lock, self._at, self._last = Lock(), 0.0, b""
        self._marks: list[tuple[datetime, dict[str, stages.PreviousCounts]]] = []

    def newest(self) -> bytes:
        with self._lock:
            if not self._last or time.monotonic() - self._at > LOOK_SECONDS:
                self._last = msgspec.json.encode(self._look())
                self._at = time.monotonic()
            return self._last

    def _look(self) -> dict[str, Any]:
        b, problems = backends(), []
        seen = b.collector.collect()

        def asked(question: Any, otherwise: Any) -> Any:
            try:
                return question()
            except AdnomalyError as error:
                problems.append(str(error).splitlines()[0])
                return otherwise

        before = self._before(seen) or asked(lambda: b.health.before(seen.at), {})
        counts = asked(b.collector.count, None)
        return {
            "at": seen.at,
            "stages": stages.evaluate_stages(seen, before),
            "ledger": [_line(line) for line in reconciliation.equations(counts)] if counts else [],
            "changes": asked(lambda: b.health.changes(seen.at - timedelta(days=1)), []),
            "serving": seen.serving,
            "problems": problems,
        }

    def _before(self, seen: stages.Snapshot) -> dict[str, stages.PreviousCounts]:
        """The newest earlier look that is old enough, and not so old that the page was closed meanwhile."""
        old = [(at, mark) for at, mark in self._marks if RATE_SPAN <= seen.at - at < 2 * RATE_SPAN]
        young = [(at, mark) for at, mark in self._marks if seen.at - at < RATE_SPAN]
        self._marks = [
            *old[-1:],
            *young,
            (
                seen.at,
                {
                    name: stages.PreviousCounts(seen.at, total)
                    for name, total in seen.totals.items()
                },
            ),
        ]
        return old[-1][1] if old else {}


_looks = _Looks()


def _json(value: Any) -> Response:
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return Response(body, media_type="application/json", headers={"cache-control": "no-store"})


def _line(line: reconciliation.Equation) -> dict[str, Any]:
    return msgspec.to_builtins(line) | {"difference": line.difference, "balanced": line.balanced}


def _shown(incident: Incident, now: datetime) -> dict[str, Any]:
    return msgspec.to_builtins(incident) | {
        "who": incident.who,
        "status": incident.status_at(now),
        "is_over": incident.is_over(now),
    }


@router.get("/api/me", dependencies=READS)
def me(author: Author, acts: MayAct) -> Response:
    """Who is looking, and what the forms offer."""
    features = [
        {"name": f.name, "label": f.label or f.name, "low": f.low, "high": f.high} for f in FEATURES
    ]
    return _json(
        {
            "name": author,
            "may_act": acts,
            "fraud_kinds": FRAUD_KINDS,
            "longest_comment": MAX_COMMENT,
            "features": features,
        }
    )


@router.get("/api/now", dependencies=READS)
def now() -> Response:
    """The path of a click, live."""
    return _json(_looks.newest())


@router.get("/api/dead-letters", dependencies=READS)
def dead_letters() -> Response:
    """What the gate turned away lately, by reason."""
    return _json(backends().dead_letters.reasons())


class Replay(msgspec.Struct, forbid_unknown_fields=True):
    """Which dead letters are to be sent again."""

    field: str
    rule: str


@router.post("/api/dead-letters/replay", dependencies=ACTS)
async def replay(request: Request, author: Author) -> Response:
    """Send the dead letters of one reason into the stream again."""
    asked = _decoded(await request.body(), Replay)
    return _json(
        {"sent": await _in_thread(backends().dead_letters.replay, asked.field, asked.rule, author)}
    )


@router.get("/api/incidents", dependencies=READS)
def incidents() -> Response:
    """Open and recent ones, worst first."""
    at = datetime.now(UTC)
    found = worst_first(backends().incidents.recent(at - RECENT), at)
    return _json({"at": at, "incidents": [_shown(incident, at) for incident in found]})


@router.get("/api/incident", dependencies=READS)
def incident(id: str) -> Response:
    """All about one."""
    b, at = backends(), datetime.now(UTC)
    found = b.incidents.get(id)
    if found is None:
        raise HTTPException(404, f"id: there is no incident {id[:200]!r}")
    return _json(
        {
            "at": at,
            "incident": _shown(found, at),
            "evidence": b.incidents.evidence(id),
            "course": [_point(row) for row in b.evidence.scored_windows(found, AROUND, AROUND)],
            "examples": b.evidence.examples(found),
            "history": b.incidents.history(id),
        }
    )


def _point(row: dict[str, Any]) -> dict[str, Any]:
    explained = row.pop("explanation") or {}
    return row | {name: explained.get(name) or {} for name in ("expected", "low", "high", "z")}


@router.post("/api/incident/decide", dependencies=ACTS)
async def decide(id: str, request: Request, author: Author) -> Response:
    """Decide about one, as the user who is logged in."""
    decision, at = _decoded(await request.body(), Decision), datetime.now(UTC)
    try:
        decided = await _in_thread(backends().incidents.decide, id, decision, author, at)
    except KeyError:
        raise HTTPException(404, f"id: there is no incident {id[:200]!r}") from None
    return _json(_shown(decided, at))


@router.get("/api/model", dependencies=READS)
def model() -> Response:
    """Champion and challenger, who was live when, how much was alerted, and whether inputs have moved."""
    b, at, problems = backends(), datetime.now(UTC), []
    try:
        catalog = b.catalog.entries()
    except Unavailable as error:
        catalog, problems = [], [str(error)]
    return _json(
        {
            "at": at,
            "models": catalog,
            "live": b.model_history.live(),
            "volume": b.model_history.volume(at - RECENT),
            "health": b.model_history.health(at),
            "budget_per_day": b.settings.alerts_per_day,
            "problems": problems,
            "links": {"mlflow": b.settings.mlflow_tracking_uri},
        }
    )


def _decoded(body: bytes, kind: type) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HTTPException(422, str(error)) from None


async def _in_thread(call: Any, *arguments: Any) -> Any:
    from starlette.concurrency import run_in_threadpool

    return await run_in_threadpool(call, *arguments)
