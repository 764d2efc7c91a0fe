"""Hostile bodies: each gets an immediate 4xx whose JSON names the reason."""

import asyncio
import gzip
import json

import httpx
import pytest

from serving.api import create_api
from serving.body import MAX_BODY_BYTES
from serving.metrics import ApiMetrics
from serving.slot import ModelSlot

GOOD = b'{"ctr_avg":0.02,"bounce_rate_avg":0.35,"event_count":100}'
DEEP = 50_000


def _with(field: str, value: str) -> bytes:
    row = {"ctr_avg": "0.02", "bounce_rate_avg": "0.35", "event_count": "100"} | {field: value}
    return ("{" + ",".join(f'"{k}":{v}' for k, v in row.items()) + "}").encode(
        "utf-8", "surrogatepass"
    )


def _without(field: str) -> bytes:
    row = json.loads(GOOD)
    del row[field]
    return json.dumps(row).encode()


NOT_JSON = {
    "empty": b"",
    "blank": b"   ",
    "text": b"hello",
    "half": GOOD[:-1],
    "half key": b'{"ctr_a',
    "single quotes": GOOD.replace(b'"', b"'"),
    "comment": GOOD[:-1] + b"/* */}",
    "trailing comma": GOOD[:-1] + b",}",
    "two documents": GOOD + GOOD,
    "trailing text": GOOD + b" x",
    "bom": b"\xef\xbb\xbf" + GOOD,
    "utf-16": GOOD.decode().encode("utf-16"),
    "nul": b"\x00",
    "nul in key": b'{"ctr\x00_avg":1}',
    "nan": _with("ctr_avg", "NaN"),
    "infinity": _with("ctr_avg", "Infinity"),
    "minus infinity": _with("bounce_rate_avg", "-Infinity"),
    "leading zero": _with("event_count", "010"),
    "plus": _with("ctr_avg", "+0.5"),
    "bare point": _with("ctr_avg", ".5"),
    "lone surrogate": _with("geo", '"\\ud800"'),
    "lone low surrogate": _with("geo", '"\\udc00A"'),
    "lone surrogate key": GOOD[:-1] + b',"\\ud800":1}',
    "raw surrogate": _with("geo", '"\ud800"'),
    "bad utf-8": GOOD[:-1] + b',"geo":"\xff\xfe"}',
    "bad utf-8 key": GOOD[:-1] + b',"g\xff":1}',
    "overlong utf-8": GOOD[:-1] + b',"geo":"\xc0\xaf"}',
    "control character": GOOD[:-1] + b',"geo":"U\x01"}',
    "bad escape": GOOD[:-1] + b',"geo":"\\x41A"}',
    "gzip": gzip.compress(GOOD),
    "form": b"ctr_avg=0.02&event_count=5",
    "xml": b"<ctr_avg>0.02</ctr_avg>",
}

INVALID = {
    "hex, read as 0 and a rest": _with("event_count", "0x10"),
    "null": b"null",
    "true": b"true",
    "number": b"5",
    "string": b'"text"',
    "array": b"[]",
    "array of rows": b"[" + GOOD + b"]",
    "no field": b"{}",
    "no ctr_avg": _without("ctr_avg"),
    "no bounce_rate_avg": _without("bounce_rate_avg"),
    "no event_count": _without("event_count"),
    "null feature": _with("ctr_avg", "null"),
    "text for number": _with("ctr_avg", '"0.02"'),
    "text nan": _with("ctr_avg", '"NaN"'),
    "bool for float": _with("ctr_avg", "true"),
    "bool for int": _with("event_count", "true"),
    "list for number": _with("ctr_avg", "[0.02]"),
    "object for number": _with("ctr_avg", '{"$gt":0}'),
    "below": _with("ctr_avg", "-0.0001"),
    "above": _with("bounce_rate_avg", "1.0000001"),
    "no click": _with("event_count", "0"),
    "negative count": _with("event_count", "-5"),
    "fractional count": _with("event_count", "100.5"),
    "float count": _with("event_count", "1e2"),
    "huge float": _with("ctr_avg", "1e400"),
    "huge negative float": _with("ctr_avg", "-1e400"),
    "huge int": _with("event_count", "9" * 5000),
    "64 bit": _with("event_count", "18446744073709551616"),
    "beyond double": _with("event_count", str(2**53)),
    "long number": _with("ctr_avg", "9" * 5000),
    "deep arrays": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"ctr_avg":' * DEEP + b"1" + b"}" * DEEP,
    "deep value": _with("ctr_avg", "[" * DEEP + "]" * DEEP),
    "deep unknown": _with("zz", "[" * DEEP + "]" * DEEP),
    "unknown field": _with("geos", '"US"'),
    "unknown empty": _with("", "1"),
    "unknown nul": _with("\\u0000", "1"),
    "unknown long": _with("z" * 100_000, "1"),
    "wrong case": _with("CTR_AVG", "0.1"),
    "proto": _with("__proto__", "{}"),
    "twice": GOOD[:-1] + b',"ctr_avg":0.9}',
    "twice the same": GOOD[:-1] + b',"ctr_avg":0.02}',
    "twice escaped": GOOD[:-1] + b',"ctr\\u005favg":0.9}',
    "null twice": GOOD[:-1] + b',"geo":null,"geo":null}',
    "geo lower": _with("geo", '"us"'),
    "geo long": _with("geo", '"' + "U" * 100_000 + '"'),
    "geo newline": _with("geo", '"US\\n"'),
    "geo number": _with("geo", "5"),
    "geo wide": _with("geo", '"ＵＳ"'),
    "geo emoji": _with("geo", '"\\ud83d\\ude00"'),
    "geo quote": _with("geo", '"\\"\\""'),
    "platform unknown": _with("platform", '"tv"'),
    "platform list": _with("platform", '["web"]'),
    "timestamp text": _with("timestamp", '"yesterday"'),
    "timestamp number": _with("timestamp", "1795377600"),
    "timestamp no zone": _with("timestamp", '"2026-11-22T20:05:00"'),
    "timestamp offset": _with("timestamp", '"2026-11-22T20:05:00+01:00"'),
    "timestamp no day": _with("timestamp", '"2026-02-30T20:05:00Z"'),
    "timestamp hour 25": _with("timestamp", '"2026-02-03T25:05:00Z"'),
    "timestamp year 0": _with("timestamp", '"0000-01-01T00:00:00Z"'),
    "timestamp arabic digits": _with("timestamp", '"٢٠٢٦-11-22T20:05:00Z"'),
    "sql": _with("geo", '"\'; DROP TABLE alerts; --"'),
}
HEADERS = {"content-type": "application/json"}


def _is_a_good_refusal(answer, statuses: tuple[int, ...]) -> None:
    assert answer.status_code in statuses
    problem = answer.json()
    assert problem["error"]
    assert problem["detail"]
    assert len(answer.content) < 2000, "a refusal does not echo the body"
    answer.content.decode("utf-8")


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in NOT_JSON.items()])
@pytest.mark.parametrize("path", ["/v1/score", "/v1/batch"])
def test_invalid_json_is_400(client: httpx.Client, path: str, body: bytes):
    body = body if path == "/v1/score" else b'{"rows":[' + body + b"]}" if body.strip() else body
    answer = client.post(path, content=body, headers=HEADERS)
    _is_a_good_refusal(answer, (400,))


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in INVALID.items()])
@pytest.mark.parametrize("path", ["/v1/score", "/v1/batch"])
def test_a_broken_rule_is_422(client: httpx.Client, path: str, body: bytes):
    body = body if path == "/v1/score" else b'{"rows":[' + GOOD + b"," + body + b"]}"
    _is_a_good_refusal(client.post(path, content=body, headers=HEADERS), (422,))


@pytest.mark.parametrize(
    ("field", "value", "named", "shown"),
    [
        ("ctr_avg", "1.5", "ctr_avg", "1.5"),
        ("event_count", "0", "event_count", "0"),
        ("geo", '"us"', "geo", '"us"'),
        ("platform", '"tv"', "platform", '"tv"'),
        ("timestamp", '"2026-02-30T20:05:00Z"', "timestamp", "2026-02-30T20:05:00Z"),
        ("event_count", "true", "event_count", "true"),
    ],
)
def test_a_refusal_names_field_value_and_rule(
    client: httpx.Client, field: str, value: str, named: str, shown: str
):
    problem = client.post("/v1/score", content=_with(field, value), headers=HEADERS).json()
    assert (problem["field"], problem["value"]) == (named, shown)
    assert problem["rule"] in problem["detail"]


def test_a_missing_field_is_named(client: httpx.Client):
    problem = client.post("/v1/score", content=_without("event_count"), headers=HEADERS).json()
    assert (problem["field"], problem["rule"]) == ("event_count", "is required")


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"rows":null}',
        b'{"rows":{}}',
        b'{"rows":5}',
        b'{"rows":[null]}',
        b'{"rows":[[]]}',
        b'{"rows":[],"x":1}',
        b'{"rows":[],"rows":[]}',
        b"[]",
        b'{"rows":[' + b"[" * DEEP,
    ],
)
def test_batches_of_the_wrong_shape(client: httpx.Client, body: bytes):
    _is_a_good_refusal(client.post("/v1/batch", content=body, headers=HEADERS), (400, 422))


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/xml",
    ],
)
def test_other_content_types_are_415(client: httpx.Client, kind: str | None):
    answer = client.post(
        "/v1/score", content=GOOD, headers={} if kind is None else {"content-type": kind}
    )
    _is_a_good_refusal(answer, (415,))


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=UTF-8",
        "application/json;charset=utf-8",
    ],
)
def test_json_content_types_are_taken(client: httpx.Client, kind: str):
    assert client.post("/v1/score", content=GOOD, headers={"content-type": kind}).status_code == 200


def test_a_gzip_bomb_is_not_unpacked(client: httpx.Client):
    answer = client.post(
        "/v1/score",
        content=gzip.compress(b" " * 50_000_000),
        headers=HEADERS | {"content-encoding": "gzip"},
    )
    _is_a_good_refusal(answer, (415,))


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 10 * MAX_BODY_BYTES])
def test_large_bodies_are_413(client: httpx.Client, size: int):
    _is_a_good_refusal(client.post("/v1/score", content=b" " * size, headers=HEADERS), (413,))


def test_a_body_of_exactly_1_mib_is_read(client: httpx.Client):
    assert (
        client.post(
            "/v1/score", content=GOOD + b" " * (MAX_BODY_BYTES - len(GOOD)), headers=HEADERS
        ).status_code
        == 200
    )


def _ask(slot: ModelSlot, chunks: list[dict]) -> tuple[list[dict], int]:
    """Drive the application chunk by chunk; returns its messages and the number of chunks read."""
    sent, taken = [], 0

    async def receive() -> dict:
        nonlocal taken
        taken += 1
        return chunks[taken - 1]

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/score",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    asyncio.run(create_api(slot, ApiMetrics())(scope, receive, send))
    return sent, taken


def test_an_unannounced_large_body_is_413_and_not_read_for_ever(slot: ModelSlot):
    endless = [{"type": "http.request", "body": b" " * 65536, "more_body": True}] * 10_000
    sent, taken = _ask(slot, endless)
    assert sent[0]["status"] == 413
    assert taken < 200


def test_a_body_in_pieces_is_put_together(slot: ModelSlot):
    pieces = [
        {"type": "http.request", "body": GOOD[i : i + 1], "more_body": i + 1 < len(GOOD)}
        for i in range(len(GOOD))
    ]
    sent, _ = _ask(slot, pieces)
    assert sent[0]["status"] == 200


def test_a_client_that_leaves_gets_no_answer(slot: ModelSlot):
    sent, _ = _ask(
        slot,
        [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}],
    )
    assert sent == []
