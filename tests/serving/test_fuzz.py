"""Random bodies: any bytes, and JSON close to the valid form.

Never a 5xx, never an undocumented status.
"""

import json
import math

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.openapi import document

HEADERS = {"content-type": "application/json"}
numbers = st.one_of(
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, -0.0, 1, 1.0, 5e-324, 2**53, 2**64, -1]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=30))
names = st.one_of(
    st.sampled_from(["ctr_avg", "bounce_rate_avg", "event_count", "geo", "platform", "timestamp"]),
    st.text(max_size=12),
)
rows = st.dictionaries(names, st.one_of(scalars, st.lists(scalars, max_size=3)), max_size=8)
valid_rows = st.fixed_dictionaries(
    {
        "ctr_avg": st.floats(0, 1),
        "bounce_rate_avg": st.floats(0, 1),
        "event_count": st.integers(1, 2**53 - 1),
    },
    optional={
        "geo": st.one_of(st.none(), st.from_regex(r"[A-Z]{2}", fullmatch=True)),
        "platform": st.sampled_from(["web", "ios", "android", None]),
        "timestamp": st.datetimes().map(
            lambda moment: f"{moment:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + "Z"
        ),
    },
)
relaxed = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _check(client: httpx.Client, path: str, body: bytes) -> None:
    answer = client.post(path, content=body, headers=HEADERS)
    assert answer.status_code < 500
    assert str(answer.status_code) in document()["paths"][path]["post"]["responses"]
    parsed = json.loads(answer.content, parse_constant=lambda text: _fail(text))
    assert answer.status_code == 200 or parsed["detail"]


def _fail(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


@relaxed
@given(st.binary(max_size=200))
def test_any_bytes(client: httpx.Client, body: bytes):
    _check(client, "/v1/score", body)
    _check(client, "/v1/batch", b'{"rows":[' + body + b"]}")


@relaxed
@given(rows)
def test_any_object(client: httpx.Client, row: dict):
    _check(client, "/v1/score", json.dumps(row).encode())
    _check(client, "/v1/batch", json.dumps({"rows": [row]}).encode())


@relaxed
@given(valid_rows)
def test_every_valid_row_is_scored(client: httpx.Client, row: dict):
    answer = client.post("/v1/score", content=json.dumps(row).encode(), headers=HEADERS)
    assert answer.status_code == 200
    result = answer.json()
    assert math.isfinite(result["anomaly_score"])
    given_context = {
        name: row[name] for name in ("geo", "platform", "timestamp") if row.get(name) is not None
    }
    echo = dict(result["meta"] or {})
    assert bool(echo.pop("baseline", "")) == bool(given_context)
    assert echo == given_context
