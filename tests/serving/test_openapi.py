"""The published document is true: it derives from the types, and the API behaves as it says."""

import re

import httpx
import pytest

from adnomaly.features import CONTRACT, FEATURES
from serving.openapi import document


def test_every_feature_is_in_the_row_with_its_range():
    row = document()["components"]["schemas"]["Row"]
    assert set(CONTRACT) == set(row["required"])
    for feature in FEATURES:
        assert row["properties"][feature.name]["minimum"] == feature.low
    assert row["properties"]["ctr_avg"] == {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "description": "ratio",
    }
    assert row["properties"]["event_count"]["type"] == "integer"
    assert row["additionalProperties"] is False


def test_patterns_are_portable():
    text = str(document())
    assert r"\A" not in text
    assert r"\Z" not in text
    geo = document()["components"]["schemas"]["Row"]["properties"]["geo"]["anyOf"][0]["pattern"]
    assert re.search(geo, "US")
    assert not re.search(geo, "us")


def test_every_reference_resolves():
    schemas = document()["components"]["schemas"]
    assert set(re.findall(r"#/components/schemas/(\w+)", str(document()))) <= set(schemas)


def test_every_documented_path_is_served_and_nothing_else(client: httpx.Client):
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method in methods:
            assert client.request(method, path).status_code not in (404, 405), path


def test_the_examples_work_as_they_stand(client: httpx.Client):
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for operation in methods.values():
            for example in (
                operation.get("requestBody", {})
                .get("content", {})
                .get("application/json", {})
                .get("examples", {})
                .values()
            ):
                assert client.post(path, json=example["value"]).status_code == 200


@pytest.mark.parametrize(
    ("path", "content", "headers"),
    [
        ("/v1/score", b"{", {"content-type": "application/json"}),
        ("/v1/score", b"{}", {"content-type": "application/json"}),
        ("/v1/score", b"{}", {"content-type": "text/plain"}),
        ("/v1/batch", b" " * 2_000_000, {"content-type": "application/json"}),
        ("/v1/batch", b'{"rows":[' + b"{}," * 1000 + b"{}]}", {"content-type": "application/json"}),
    ],
)
def test_statuses_that_occur_are_documented(
    client: httpx.Client, path: str, content: bytes, headers: dict
):
    answer = client.post(path, content=content, headers=headers)
    assert str(answer.status_code) in document()["paths"][path]["post"]["responses"]
    assert set(answer.json()) <= set(document()["components"]["schemas"]["Problem"]["properties"])
