"""Access control: Airflow's login and roles, same-origin requests, limited bodies."""

from typing import Annotated, Final
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import (
    AccessView,
    DagAccessEntity,
    DagDetails,
)
from airflow.api_fastapi.core_api.security import (
    GetUserDep,
    requires_access_dag,
    requires_access_view,
)
from fastapi import Depends, HTTPException, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adnomaly.streams import INCIDENTS

MAX_BODY: Final = 64 * 1024


def same_origin(request: Request) -> None:
    """Refuse cross-origin requests; cookies do not distinguish ports of a host.

    A client without an origin, which is no browser, needs a bearer token.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        same = site == "same-origin"
    elif origin is not None:
        same = urlsplit(origin).netloc == request.headers.get("host")
    else:
        same = request.headers.get("authorization", "").lower().startswith("bearer ")
    if not same:
        raise HTTPException(
            403,
            "this request comes from another page;"
            " use the page Adnomaly itself, or send a bearer token",
        )


def json_only(request: Request) -> None:
    """Refuse the content types that an HTML form can send."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "content-type: must be application/json")


def may_act(user: GetUserDep) -> bool:
    """Whether the user may decide and trigger: roles op and admin, not viewer."""
    manager = get_auth_manager()
    return manager.is_authorized_dag(
        method="PUT",
        access_entity=DagAccessEntity.RUN,
        details=DagDetails(id=INCIDENTS.name),
        user=user,
    )


def name_of(user: GetUserDep) -> str:
    """The name of the logged-in user."""
    return user.get_name()


READS: Final = [Depends(requires_access_view(AccessView.PLUGINS))]
ACTS: Final = [
    Depends(same_origin),
    Depends(json_only),
    Depends(requires_access_dag("PUT", DagAccessEntity.RUN, param_dag_id=INCIDENTS.name)),
]
MayAct = Annotated[bool, Depends(may_act)]
Author = Annotated[str, Depends(name_of)]


class SmallBodies:
    """ASGI middleware: answers 413 to a body over 64 KiB without reading all of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = next(
            (value for name, value in scope["headers"] if name == b"content-length"), b"0"
        )
        if not length.isdigit() or int(length) > MAX_BODY:
            await _refuse(send)
            return
        parts: list[Message] = []
        size = 0
        while not parts or parts[-1].get("more_body"):
            parts.append(await receive())
            size += len(parts[-1].get("body", b""))
            if size > MAX_BODY:
                await _refuse(send)
                return
        rest = iter(parts)

        async def again() -> Message:
            return next(rest, None) or await receive()

        await self._app(scope, again, send)


async def _refuse(send: Send) -> None:
    detail = f"the body is larger than {MAX_BODY // 1024} KiB; shorten the comment"
    body = f'{{"detail":"{detail}"}}'.encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
