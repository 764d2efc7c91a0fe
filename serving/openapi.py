"""The OpenAPI document, derived from the types that decode and encode the bodies."""

from typing import Any, Final

import msgspec

from adnomaly.features import FEATURES, PYTHON_TYPES
from serving.problems import Problem
from serving.rows import MAX_ROWS, Answer, Batch, BatchAnswer, Row

_FEATURES_ONLY: Final[dict[str, Any]] = {
    f.name: PYTHON_TYPES[f.dtype](f.example) for f in FEATURES if f.required
}
EXAMPLE: Final = _FEATURES_ONLY | {
    "geo": "US",
    "platform": "web",
    "timestamp": "2026-11-22T20:05:00Z",
}
"""A row with context. Without it, the same window is scored against the pooled baseline."""

_JSON = "application/json"
_REASONS = {
    400: "Not one JSON document, or a batch of more than 1000 rows",
    408: "The request did not arrive in time",
    413: "The body is larger than 1 MiB",
    415: "The body is not JSON in UTF-8",
    422: "A field is missing, unknown, repeated, of the wrong type or out of range",
    429: "Too many requests are waiting; the header Retry-After says when to come again",
    500: "The request could not be answered; it may be sent again",
    503: "No model is loaded yet, or no replica is up",
}
_EDGE = (408, 429, 500, 503)
"""Statuses that the proxy can answer to any request, as plain text."""


def document() -> dict[str, Any]:
    """OpenAPI 3.1: every path, body, header and status that can occur."""
    _, schemas = msgspec.json.schema_components(
        [Row, Batch, Answer, BatchAnswer, Problem], ref_template="#/components/schemas/{name}"
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Adnomaly scoring",
            "version": "1",
            "description": "Scores 5-minute traffic windows. Higher is more anomalous: "
            "is_anomaly means anomaly_score >= threshold.",
        },
        "paths": _paths(),
        "components": {"schemas": _portable(schemas)},
    }


def _paths() -> dict[str, Any]:
    text = {"schema": {"type": "string"}}
    status = {
        "schema": {
            "type": "object",
            "required": ["status"],
            "properties": {"status": {"type": "string"}, "model_version": {"type": "string"}},
        }
    }
    return {
        "/v1/score": {
            "post": _scoring(
                "score",
                "Score one window",
                "Row",
                "Answer",
                {"with context": EXAMPLE, "features only": _FEATURES_ONLY},
            )
        },
        "/v1/batch": {
            "post": _scoring(
                "batch",
                f"Score up to {MAX_ROWS} windows",
                "Batch",
                "BatchAnswer",
                {"two rows": {"rows": [EXAMPLE, _FEATURES_ONLY]}, "empty": {"rows": []}},
            )
        },
        "/v1/model": {
            "get": _reading(
                "model",
                "The served model: version, card, and why the last offered bundle was refused",
                _JSON,
                _model(),
            )
        },
        "/healthz": {"get": _reading("health", "The process answers", _JSON, status)},
        "/readyz": {
            "get": _reading(
                "ready",
                "A model is loaded and its sentinel rows get their known answers",
                _JSON,
                status,
            )
        },
        "/metrics": {
            "get": _reading(
                "metrics", "Prometheus metrics, summed over the replicas", "text/plain", text
            )
        },
        "/openapi.json": {
            "get": _reading("openapi", "This document", _JSON, {"schema": {"type": "object"}})
        },
        "/docs": {"get": _reading("docs", "This document as a page", "text/html", text)},
    }


def _scoring(
    name: str, summary: str, takes: str, gives: str, examples: dict[str, Any]
) -> dict[str, Any]:
    version = {"description": "Version of the model that answered", "schema": {"type": "string"}}
    ok = {
        "description": "Scored",
        "headers": {"x-model-version": version},
        "content": {_JSON: {"schema": _ref(gives)}},
    }
    return {
        "operationId": name,
        "summary": summary,
        "parameters": [
            {
                "name": "explain",
                "in": "query",
                "required": False,
                "description": "1 adds `explanation` to each answer",
                "schema": {"type": "string", "enum": ["0", "1"]},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                _JSON: {
                    "schema": _ref(takes),
                    "examples": {title: {"value": value} for title, value in examples.items()},
                }
            },
        },
        "responses": {"200": ok, **_problems(400, 408, 413, 415, 422, 429, 500, 503)},
    }


def _reading(name: str, summary: str, content_type: str, content: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": {"description": "Answered", "content": {content_type: content}},
            **_problems(*_EDGE),
        },
    }


def _problems(*statuses: int) -> dict[str, Any]:
    return {str(status): _problem(status) for status in statuses}


def _problem(status: int) -> dict[str, Any]:
    content = {_JSON: {"schema": _ref("Problem")}}
    if status in (*_EDGE, 400, 413):
        content |= {kind: {"schema": {"type": "string"}} for kind in ("text/plain", "text/html")}
    headers = (
        {"Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer"}}}
        if status in (429, 503)
        else None
    )
    return {"description": _REASONS[status], "content": content} | (
        {"headers": headers} if headers else {}
    )


def _model() -> dict[str, Any]:
    text = {"type": ["string", "null"]}
    card = {
        "type": ["object", "null"],
        "description": "Training interval, data, metrics and library versions",
    }
    properties = {"model_version": text, "loaded_at": text, "reload_error": text, "card": card}
    return {"schema": {"type": "object", "required": list(properties), "properties": properties}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _portable(schema: Any) -> Any:
    """Replace Python's anchors by those of JSON Schema."""
    if isinstance(schema, dict):
        return {
            key: value.replace(r"\A", "^").replace(r"\Z", "$")
            if key == "pattern"
            else _portable(value)
            for key, value in schema.items()
        }
    return [_portable(item) for item in schema] if isinstance(schema, list) else schema
