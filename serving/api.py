"""The scoring API as an ASGI application, without Ray.

Every answer but 200 is a `Problem` in JSON. No input causes a 5xx. No answer holds the text of an
unexpected exception.
"""

import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from serving.body import ClientGone, Receive, read_body
from serving.decode import decode_batch, decode_row, wants_explanation
from serving.metrics import ApiMetrics
from serving.openapi import document
from serving.problems import Problem, Refusal
from serving.rows import Answer, BatchAnswer, Explanation, context, plain
from serving.slot import ModelSlot, Scorer

if TYPE_CHECKING:
    from adnomaly.scoring.rows import RowScore

GLOBAL: Final = {"baseline": "global"}
RETRY_AFTER: Final = (b"retry-after", b"1")

Send = Callable[[dict[str, Any]], Awaitable[None]]
Scope = Mapping[str, Any]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

INTERNAL_ERROR: Final = Problem(
    "internal_error",
    "the request could not be answered; the reason is in the server's log",
    fix="retry",
)
NO_MODEL: Final = Problem(
    "no_model",
    "no model is loaded yet",
    fix="deploy one: airflow dags trigger deploy_detector",
)
CONTENT_SECURITY_POLICY: Final = (
    b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
)

log = logging.getLogger("serving")
_encode = msgspec.json.Encoder().encode


class Reply(NamedTuple):
    """One HTTP answer."""

    status: int
    body: bytes
    content_type: bytes = b"application/json"
    headers: Sequence[tuple[bytes, bytes]] = ()


def create_api(slot: ModelSlot, metrics: ApiMetrics) -> Asgi:
    """The scoring API over the model that the slot holds at each request."""
    return _Api(slot, metrics)


class _Api:
    def __init__(self, slot: ModelSlot, metrics: ApiMetrics) -> None:
        self._slot, self._metrics = slot, metrics
        self._openapi = _encode(document())
        self._page = Path(__file__).with_name("docs.html").read_bytes()
        self._reads: dict[str, Callable[[], Reply]] = {
            "/healthz": lambda: Reply(200, b'{"status":"ok"}'),
            "/readyz": self._ready,
            "/metrics": lambda: Reply(
                200, metrics.exposition(), b"text/plain; version=0.0.4; charset=utf-8"
            ),
            "/v1/model": self._model,
            "/openapi.json": lambda: Reply(200, self._openapi),
            "/docs": self._docs,
        }
        self._scorings: dict[str, Callable[[bytes, bool], Reply]] = {
            "/v1/score": self._score,
            "/v1/batch": self._batch,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        path, method = scope["path"], scope["method"]
        route = path if path in self._scorings or path in self._reads else "other"
        try:
            reply = await self._answer(route, method, scope, receive)
        except Refusal as refusal:
            reply = Reply(refusal.status, _encode(refusal.problem), headers=refusal.headers)
        except ClientGone:
            return
        except Exception:
            log.exception("%s %s failed", method, route)
            reply = Reply(500, _encode(INTERNAL_ERROR))
        self._metrics.requests.labels(
            method if method in ("GET", "HEAD", "POST") else "other", route, reply.status
        ).inc()
        self._metrics.seconds.labels(route).observe(time.perf_counter() - started)
        headers = [
            (b"content-type", reply.content_type),
            (b"content-length", b"%d" % len(reply.body)),
            *reply.headers,
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else reply.body})

    async def _answer(self, route: str, method: str, scope: Scope, receive: Receive) -> Reply:
        if score := self._scorings.get(route):
            if method != "POST":
                raise _not_allowed(b"POST")
            explain = wants_explanation(scope["query_string"])
            return score(await read_body(scope["headers"], receive), explain)
        if read := self._reads.get(route):
            if method not in ("GET", "HEAD"):
                raise _not_allowed(b"GET, HEAD")
            return read()
        raise Refusal(
            404,
            Problem(
                "not_found", "there is nothing at this path", fix="the paths are listed at /docs"
            ),
        )

    def _score(self, body: bytes, explain: bool) -> Reply:
        row = decode_row(body)
        scorer = self._served()
        return Reply(
            200, _encode(self._answers(scorer, [row], explain)[0]), headers=_version(scorer)
        )

    def _batch(self, body: bytes, explain: bool) -> Reply:
        rows = decode_batch(body)
        scorer = self._served()
        return Reply(
            200,
            _encode(BatchAnswer(self._answers(scorer, rows, explain) if rows else [])),
            headers=_version(scorer),
        )

    def _answers(self, scorer: Scorer, rows: Sequence[Any], explain: bool) -> list[Answer]:
        given = plain(rows)
        answers = [
            _answer_of(row, scored, explain)
            for row, scored in zip(given, scorer.score_rows(given), strict=True)
        ]
        for baseline, count in Counter(
            (answer.meta or GLOBAL)["baseline"] for answer in answers
        ).items():
            self._metrics.rows.labels(baseline).inc(count)
        self._metrics.anomalies.inc(sum(answer.is_anomaly for answer in answers))
        return answers

    def _served(self) -> Scorer:
        if self._slot.scorer is None:
            raise Refusal(503, NO_MODEL, [RETRY_AFTER])
        return self._slot.scorer

    def _ready(self) -> Reply:
        scorer = self._served()
        try:
            scorer.check_sentinels()
        except Exception:
            log.exception("sentinel check failed")
            raise Refusal(
                503,
                Problem(
                    "not_ready", "the model fails its sentinel rows", fix="deploy a good bundle"
                ),
                [RETRY_AFTER],
            ) from None
        return Reply(
            200,
            _encode({"status": "ready", "model_version": scorer.version}),
            headers=_version(scorer),
        )

    def _model(self) -> Reply:
        slot = self._slot
        loaded = slot.loaded_at.strftime("%Y-%m-%dT%H:%M:%SZ") if slot.loaded_at else None
        version, card = (slot.scorer.version, slot.scorer.card) if slot.scorer else (None, None)
        return Reply(
            200,
            _encode(
                {
                    "model_version": version,
                    "loaded_at": loaded,
                    "reload_error": slot.error,
                    "card": card,
                }
            ),
        )

    def _docs(self) -> Reply:
        headers = [(b"content-security-policy", CONTENT_SECURITY_POLICY)]
        return Reply(200, self._page, b"text/html; charset=utf-8", headers)


def _answer_of(row: dict[str, Any], scored: "RowScore", explain: bool) -> Answer:
    if not math.isfinite(scored.anomaly_score):
        raise ArithmeticError(f"score is {scored.anomaly_score}")
    given = context(row)
    return Answer(
        anomaly_score=scored.anomaly_score,
        is_anomaly=scored.is_anomaly,
        threshold=scored.threshold,
        features_used=list(scored.features),
        meta={**given, "baseline": scored.baseline} if given else None,
        explanation=Explanation(dict(scored.expected), dict(scored.z), dict(scored.share))
        if explain
        else msgspec.UNSET,
    )


def _version(scorer: Scorer) -> list[tuple[bytes, bytes]]:
    return [(b"x-model-version", scorer.version.encode("ascii", "replace"))]


def _not_allowed(allow: bytes) -> Refusal:
    return Refusal(
        405,
        Problem(
            "method_not_allowed", "this path does not take this method", fix=f"use {allow.decode()}"
        ),
        [(b"allow", allow)],
    )


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
