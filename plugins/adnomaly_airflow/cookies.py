"""Protect Airflow's login from other pages of the same host.

The login form sets its cookie by script, so scripts can read it. Cookies ignore ports: a page of
Flink, MLflow or Ray could read it, or frame the UI. The middleware sets the cookie again as
HttpOnly and allows frames of the same origin only.
"""

from http.cookies import CookieError, SimpleCookie
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE: Final = "_token"


class HttpOnlyCookieMiddleware:
    """ASGI middleware: HttpOnly token on documents outside /auth, same-origin frames everywhere."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("content-security-policy", "frame-ancestors 'self'")
                token = _token(scope)
                if (
                    token
                    and _is_document(headers)
                    and not scope["path"].startswith("/auth")
                    and not _sets_token(headers)
                ):
                    secure = "; Secure" if scope.get("scheme") == "https" else ""
                    headers.append(
                        "set-cookie", f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax{secure}"
                    )
            await send(message)

        await self.app(scope, receive, send_protected)


def _token(scope: Scope) -> str:
    """The token of the request; empty without one or with invalid characters."""
    header = b"; ".join(value for name, value in scope["headers"] if name == b"cookie").decode(
        "latin-1"
    )
    try:
        cookies = SimpleCookie(header)
    except CookieError:
        return ""
    token = cookies[COOKIE].value if COOKIE in cookies else ""
    return token if token.isascii() and all(c.isalnum() or c in "-_." for c in token) else ""


def _is_document(headers: MutableHeaders) -> bool:
    return headers.get("content-type", "").startswith("text/html")


def _sets_token(headers: MutableHeaders) -> bool:
    return any(value.startswith(f"{COOKIE}=") for value in headers.getlist("set-cookie"))
