"""Other pages of the host can neither read the token's cookie nor frame the UI."""

import asyncio
from http.cookies import SimpleCookie

import pytest
from adnomaly_airflow.cookies import HttpOnlyCookieMiddleware

PAGE = [(b"content-type", b"text/html; charset=utf-8")]
JSON = [(b"content-type", b"application/json")]


def _headers(answer, *, path="/", cookie="_token=abc.def-1_2", scheme="http"):
    """The response headers of a page that answers with `answer`, as a list of pairs."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": list(answer)})
        await send({"type": "http.response.body", "body": b""})

    sent = []

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "path": path,
        "scheme": scheme,
        "headers": [(b"cookie", cookie.encode())] if cookie else [],
    }
    asyncio.run(HttpOnlyCookieMiddleware(app)(scope, None, send))
    return [(name.decode(), value.decode()) for name, value in sent[0]["headers"]]


def _cookie(headers):
    sent = [value for name, value in headers if name == "set-cookie"]
    assert len(sent) <= 1
    return SimpleCookie(sent[0])["_token"] if sent else None


def test_a_document_sends_the_token_again_out_of_reach_of_scripts():
    cookie = _cookie(_headers(PAGE, cookie="other=1; _token=abc.def-1_2"))
    assert (
        cookie.value,
        cookie["httponly"],
        cookie["samesite"],
        cookie["path"],
        cookie["secure"],
    ) == ("abc.def-1_2", True, "Lax", "/", "")


def test_https_keeps_the_token_on_https():
    assert _cookie(_headers(PAGE, scheme="https"))["secure"]


@pytest.mark.parametrize(
    "case",
    [
        {"path": "/auth/login"},
        {"cookie": ""},
        {"cookie": "_token=a\r\nset-cookie: x=y"},
        {"answer": JSON},
    ],
)
def test_nothing_is_sent_elsewhere(case):
    assert _cookie(_headers(**{"answer": PAGE} | case)) is None


def test_a_logout_is_not_undone():
    headers = _headers([*PAGE, (b"set-cookie", b'_token=""; Max-Age=0; Path=/')])
    assert _cookie(headers).value == ""


@pytest.mark.parametrize("answer", [PAGE, JSON])
def test_only_we_may_frame_the_ui(answer):
    assert ("content-security-policy", "frame-ancestors 'self'") in _headers(answer)
