"""The API as a well-behaved client uses it."""

import json
import math
from collections import Counter
from pathlib import Path

import httpx
import pytest

from serving.slot import ModelSlot

ROW = {"ctr_avg": 0.02, "bounce_rate_avg": 0.35, "event_count": 100}
CONTEXT = {"geo": "US", "platform": "web", "timestamp": "2026-11-22T20:05:00Z"}


def test_features_alone_are_scored_without_meta(client: httpx.Client):
    answer = client.post("/v1/score", json=ROW)
    assert answer.status_code == 200
    assert answer.json() == {
        "anomaly_score": 0.35,
        "is_anomaly": False,
        "threshold": 0.5,
        "features_used": ["ctr_avg", "bounce_rate_avg", "event_count"],
        "meta": None,
    }
    assert answer.headers["x-model-version"] == "v1"


def test_a_score_at_the_threshold_is_anomalous(client: httpx.Client):
    assert (
        client.post("/v1/score", json=ROW | {"bounce_rate_avg": 0.5}).json()["is_anomaly"] is True
    )


@pytest.mark.parametrize(
    ("given", "meta"),
    [
        (CONTEXT, CONTEXT | {"baseline": "entity"}),
        ({"geo": "US"}, {"geo": "US", "baseline": "global"}),
        (CONTEXT | {"geo": "ZZ"}, CONTEXT | {"geo": "ZZ", "baseline": "global"}),
        ({"geo": None, "platform": None, "timestamp": None}, None),
        ({"geo": None, "platform": "ios"}, {"platform": "ios", "baseline": "global"}),
    ],
)
def test_meta_echoes_the_row_and_names_the_baseline(
    client: httpx.Client, given: dict, meta: dict | None
):
    assert client.post("/v1/score", json=ROW | given).json()["meta"] == meta


def test_explanation_comes_only_when_asked_for(client: httpx.Client):
    assert "explanation" not in client.post("/v1/score?explain=0", json=ROW).json()
    explained = client.post("/v1/score?explain=1", json=ROW | {"bounce_rate_avg": 0.38}).json()[
        "explanation"
    ]
    assert explained == {
        "expected": {"bounce_rate_avg": 0.36},
        "z": {"bounce_rate_avg": pytest.approx(1.0)},
        "share": {"bounce_rate_avg": 1.0},
    }


def test_explain_takes_0_or_1_only(client: httpx.Client):
    answer = client.post("/v1/score?explain=maybe", json=ROW)
    assert (answer.status_code, answer.json()["field"]) == (422, "explain")


def test_a_batch_is_its_single_answers_in_order(client: httpx.Client):
    rows = [ROW | {"bounce_rate_avg": n / 1000} | (CONTEXT if n % 2 else {}) for n in range(1000)]
    answer = client.post("/v1/batch", json={"rows": rows})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [r["anomaly_score"] for r in results] == [n / 1000 for n in range(1000)]
    assert results[501] == client.post("/v1/score", json=rows[501]).json()


def test_an_empty_batch_has_empty_results(client: httpx.Client):
    assert client.post("/v1/batch", json={"rows": []}).json() == {"results": []}


@pytest.mark.parametrize("rows", [[ROW] * 1001, [ROW] * 1000 + [{}]])
def test_a_batch_beyond_1000_rows_is_400(client: httpx.Client, rows: list):
    answer = client.post("/v1/batch", json={"rows": rows})
    assert answer.status_code == 400
    assert answer.json()["detail"] == "Batch size cannot exceed 1000 rows"


def test_an_invalid_row_of_a_batch_is_named(client: httpx.Client):
    answer = client.post("/v1/batch", json={"rows": [ROW, ROW, ROW | {"ctr_avg": 1.5}]})
    assert answer.status_code == 422
    problem = answer.json()
    assert (problem["field"], problem["value"]) == ("rows[2].ctr_avg", "1.5")
    assert "<= 1" in problem["rule"]


def test_without_a_model_the_process_lives_and_is_not_ready(empty_client: httpx.Client):
    assert empty_client.get("/healthz").status_code == 200
    for answer in (
        empty_client.get("/readyz"),
        empty_client.post("/v1/score", json=ROW),
        empty_client.post("/v1/batch", json={"rows": []}),
    ):
        assert (answer.status_code, answer.headers["retry-after"], answer.json()["error"]) == (
            503,
            "1",
            "no_model",
        )
    assert empty_client.get("/v1/model").json()["model_version"] is None


def test_a_sentinel_that_changes_sides_ends_readiness(client: httpx.Client, slot: ModelSlot):
    assert client.get("/readyz").json() == {"status": "ready", "model_version": "v1"}
    slot.scorer.healthy = False
    assert client.get("/readyz").status_code == 503


def test_a_refused_bundle_leaves_the_old_one_and_is_reported(client: httpx.Client, slot: ModelSlot):
    assert not slot.offer(Path("bad-v2"))
    model = client.get("/v1/model").json()
    assert model["model_version"] == "v1"
    assert "the manifest lies" in model["reload_error"]
    assert client.get("/readyz").status_code == 200
    assert slot.offer(Path("v3"))
    model = client.get("/v1/model").json()
    assert (model["model_version"], model["reload_error"]) == ("v3", None)


def test_a_new_process_falls_back_to_the_last_good_bundle(empty_slot: ModelSlot, tmp_path: Path):
    assert not empty_slot.recover(tmp_path)
    (tmp_path / "CURRENT").write_text("v7\n")
    assert not empty_slot.offer(tmp_path / "bad-v8")
    assert empty_slot.recover(tmp_path)
    assert empty_slot.scorer.version == "v7"
    assert "bad-v8" in empty_slot.error


def samples(client: httpx.Client) -> Counter[str]:
    """The counters as served.

    Other APIs of this process may share them, so tests compare the increase.
    """
    lines = (
        line.rsplit(" ", 1)
        for line in client.get("/metrics").text.splitlines()
        if not line.startswith("#")
    )
    return Counter({name: float(value) for name, value in lines})


def test_metrics_count_by_route_template(client: httpx.Client):
    expected = {
        'adnomaly_http_requests_total{method="POST",route="/v1/score",status="200"}': 1.0,
        'adnomaly_http_requests_total{method="GET",route="other",status="404"}': 20.0,
        'adnomaly_scored_rows_total{baseline="entity"}': 1.0,
        "adnomaly_anomalous_rows_total": 1.0,
    }
    before = samples(client)
    client.post("/v1/score", json=ROW | CONTEXT)
    client.post("/v1/batch", json={"rows": [ROW, ROW | {"bounce_rate_avg": 0.9}]})
    for n in range(20):
        client.get(f"/secret/{n}")
    client.request("BREW", "/v1/score")
    after = samples(client)
    grown = after - before
    assert {name: grown[name] for name in expected} == expected
    assert not any("secret" in name or "BREW" in name for name in after)


def test_the_page_needs_no_other_host(client: httpx.Client):
    page = client.get("/docs")
    assert page.status_code == 200
    assert "://" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/score/", "/v1/scores", "/docs/", "/..%2f..%2fetc/passwd"]
)
def test_unknown_paths_are_404(client: httpx.Client, path: str):
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["fix"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/score", "POST"),
        ("PUT", "/v1/batch", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
        ("DELETE", "/v1/model", "GET, HEAD"),
    ],
)
def test_wrong_methods_are_405_with_allow(client: httpx.Client, method: str, path: str, allow: str):
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
    assert answer.json()["detail"]


def test_head_answers_like_get_without_a_body(client: httpx.Client):
    answer = client.head("/healthz")
    assert (answer.status_code, answer.content) == (200, b"")


def test_a_failing_model_leaks_no_details(slot: ModelSlot, client: httpx.Client):
    def explode(rows):
        raise RuntimeError("password=hunter2")

    slot.scorer.score_rows = explode
    answer = client.post("/v1/score", json=ROW)
    assert answer.status_code == 500
    assert "hunter2" not in answer.text


def test_a_score_that_is_no_number_is_never_sent(slot: ModelSlot, client: httpx.Client):
    results = slot.scorer.score_rows([ROW])
    results[0].anomaly_score = math.nan
    slot.scorer.score_rows = lambda rows: results
    answer = client.post("/v1/score", json=ROW)
    assert answer.status_code == 500
    assert "anomaly_score" not in json.loads(answer.content)
