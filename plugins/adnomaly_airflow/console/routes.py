"""Routes of the page: one for each view, one for each action."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, TypeVar

import msgspec
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool

from adnomaly.clients.mlflow_catalog import CatalogEntry
from adnomaly.errors import Unavailable
from adnomaly.features import FEATURES
from adnomaly.incidents.decisions import (
    FRAUD_KINDS,
    MAX_COMMENT,
    Decision,
    Incident,
    worst_first,
)
from adnomaly.wiring import Backends, connect
from adnomaly_airflow.console.security import ACTS, READS, Author, MayAct
from adnomaly_airflow.console.status_cache import StatusCache

T = TypeVar("T")

RECENT: Final = timedelta(days=14)
AROUND: Final = timedelta(minutes=60)
"""Windows shown before and after an incident."""

router = APIRouter()


@lru_cache(maxsize=1)
def backends() -> Backends:
    """The backends of the API server's process."""
    return connect()


_status = StatusCache(backends)


def _json(value: Any) -> Response:
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return Response(body, media_type="application/json", headers={"cache-control": "no-store"})


def _shown(incident: Incident, now: datetime) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(incident)
    return plain | {
        "who": incident.who,
        "status": incident.status_at(now),
        "is_over": incident.is_over(now),
    }


@router.get("/api/me", dependencies=READS)
def me(author: Author, acts: MayAct) -> Response:
    """The user, and the choices of the forms."""
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
    """The live status of all stages."""
    return _json(_status.newest())


@router.get("/api/dead-letters", dependencies=READS)
def dead_letters() -> Response:
    """The newest dead letters of the validation, by reason."""
    return _json(backends().dead_letters.reasons())


class Replay(msgspec.Struct, forbid_unknown_fields=True):
    """The reason whose dead letters to send again."""

    field: str
    rule: str


@router.post("/api/dead-letters/replay", dependencies=ACTS)
async def replay(request: Request, author: Author) -> Response:
    """Send the dead letters of one reason to the stream again."""
    reason = _decoded(await request.body(), Replay)
    store = backends().dead_letters
    return _json({"sent": await run_in_threadpool(store.replay, reason.field, reason.rule, author)})


@router.get("/api/incidents", dependencies=READS)
def incidents() -> Response:
    """Open and recent incidents, worst first."""
    at = datetime.now(UTC)
    recent = worst_first(backends().incidents.recent(at - RECENT), at)
    return _json({"at": at, "incidents": [_shown(incident, at) for incident in recent]})


@router.get("/api/incident", dependencies=READS)
def one_incident(id: str) -> Response:
    """One incident with its evidence, windows, examples and history."""
    b, at = backends(), datetime.now(UTC)
    incident = b.incidents.get(id)
    if incident is None:
        raise _unknown(id)
    return _json(
        {
            "at": at,
            "incident": _shown(incident, at),
            "evidence": b.incidents.evidence(id),
            "windows": [
                _window(row) for row in b.evidence.scored_windows(incident, AROUND, AROUND)
            ],
            "examples": b.evidence.examples(incident),
            "history": b.incidents.history(id),
        }
    )


def _window(row: dict[str, Any]) -> dict[str, Any]:
    explained = row.pop("explanation") or {}
    return row | {name: explained.get(name) or {} for name in ("expected", "low", "high", "z")}


@router.post("/api/incident/decide", dependencies=ACTS)
async def decide(id: str, request: Request, author: Author) -> Response:
    """Decide about an incident as the logged-in user."""
    decision, at = _decoded(await request.body(), Decision), datetime.now(UTC)
    try:
        decided = await run_in_threadpool(
            backends().incident_service.decide, id, decision, author, at
        )
    except KeyError:
        raise _unknown(id) from None
    return _json(_shown(decided, at))


@router.get("/api/model", dependencies=READS)
def model() -> Response:
    """Champion and challenger, deployments, alert volume and drift."""
    b, at = backends(), datetime.now(UTC)
    catalog: list[CatalogEntry] = []
    problems: list[str] = []
    try:
        catalog = b.catalog.entries()
    except Unavailable as error:
        problems.append(str(error))
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


def _unknown(id: str) -> HTTPException:
    return HTTPException(404, f"id: there is no incident {id[:200]!r}")


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HTTPException(422, str(error)) from None
