"""Read a request body: uncompressed JSON in UTF-8, at most 1 MiB."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from serving.problems import Problem, Refusal

MAX_BODY_BYTES: Final = 1024 * 1024
MAX_DRAINED_BYTES: Final = 8 * MAX_BODY_BYTES
"""A refused body is drained up to here, so that the client gets the answer, not a broken pipe."""

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class ClientGone(Exception):
    """The client closed the connection before its body was complete."""


async def read_body(headers: Sequence[tuple[bytes, bytes]], receive: Receive) -> bytes:
    """Read the body, with or without a content length.

    Raises:
        Refusal: 413 or 415.
        ClientGone: the connection was closed.
    """
    refusal: Refusal | None = None
    try:
        if _check_headers(headers) > MAX_BODY_BYTES:
            refusal = _too_large()
    except Refusal as error:
        refusal = error
    chunks: list[bytes] = []
    size = 0
    while size <= MAX_DRAINED_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            chunks, refusal = [], refusal or _too_large()
        elif refusal is None:
            chunks.append(chunk)
        if not message.get("more_body"):
            break
    if refusal:
        raise refusal
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _check_headers(headers: Sequence[tuple[bytes, bytes]]) -> int:
    """Check type and encoding; returns the content length, 0 without one.

    Raises:
        Refusal: 415.
    """
    values = {name.lower(): value for name, value in headers}
    kind, _, parameters = values.get(b"content-type", b"").lower().partition(b";")
    if kind.strip() != b"application/json" or (
        b"charset" in parameters and b"utf-8" not in parameters
    ):
        raise Refusal(
            415,
            Problem(
                "unsupported_media_type",
                "the body must be JSON in UTF-8",
                fix="send the header content-type: application/json",
            ),
        )
    if values.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Refusal(
            415,
            Problem(
                "unsupported_media_type",
                "compressed bodies are not accepted",
                fix="send the body uncompressed",
            ),
        )
    length = values.get(b"content-length", b"")
    return int(length) if length.isdigit() and len(length) < 20 else 0


def _too_large() -> Refusal:
    return Refusal(
        413,
        Problem(
            "body_too_large",
            f"the body must be at most {MAX_BODY_BYTES} bytes",
            fix="send smaller batches",
        ),
    )
