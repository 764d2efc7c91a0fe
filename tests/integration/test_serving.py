"""The scoring application on real Ray: deployment, requests, broken bundles, killed replicas."""

import http.client
import json
import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from adnomaly.bundle.bundle import MANIFEST_FILE, seal
from adnomaly.clients.mlflow import Registered, Registry
from adnomaly.clients.ray_serve import Serving
from adnomaly.errors import BundleRejected
from adnomaly.pipelines import deploy_detector
from adnomaly.settings import Settings
from adnomaly.stores.bundles import CURRENT
from adnomaly.wiring import connect
from serving.openapi import EXAMPLE

pytestmark = pytest.mark.integration

FEATURES_ONLY = {name: EXAMPLE[name] for name in ("ctr_avg", "bounce_rate_avg", "event_count")}
NASTY_HEADERS = (
    "x-request-id",
    "serve_multiplexed_model_id",
    "x-session-id",
    "x-request-timeout-seconds",
    "traceparent",
    "anything",
)


@pytest.fixture
def http_client(settings: Settings, served: tuple[Serving, Path]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=settings.serving_url, timeout=10) as client:
        yield client


def test_it_is_ready_and_scores(http_client: httpx.Client, served: tuple[Serving, Path]):
    _, folder = served
    assert http_client.get("/readyz").json() == {"status": "ready", "model_version": folder.name}
    assert served[0].ready()
    answer = http_client.post("/v1/score?explain=1", json=EXAMPLE)
    assert answer.status_code == 200
    result = answer.json()
    assert answer.headers["x-model-version"] == folder.name
    assert result["is_anomaly"] == (result["anomaly_score"] >= result["threshold"])
    assert result["meta"]["geo"] == "US"
    assert set(result["explanation"]["z"]) >= set(FEATURES_ONLY)
    assert http_client.post("/v1/score", json=FEATURES_ONLY).json()["meta"] is None


def test_a_batch_is_its_single_answers(http_client: httpx.Client):
    rows = [
        EXAMPLE | {"event_count": n, "timestamp": f"2026-11-22T{n % 24:02}:05:00Z"}
        for n in range(1, 1001)
    ]
    results = http_client.post("/v1/batch", json={"rows": rows}).json()["results"]
    assert len(results) == 1000
    for n in range(0, 1000, 97):
        single = http_client.post("/v1/score", json=rows[n]).json()
        assert single["anomaly_score"] == pytest.approx(results[n]["anomaly_score"], abs=1e-6)
        assert {**single, "anomaly_score": 0} == {**results[n], "anomaly_score": 0}


@pytest.mark.parametrize("name", NASTY_HEADERS)
def test_no_header_makes_a_5xx(settings: Settings, served: tuple[Serving, Path], name: str):
    address = urlsplit(settings.serving_url)
    for value in (b"\xff\xfe", b"0", b"-1", b"x" * 5000):
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
        connection.putrequest("GET", "/healthz")
        connection.putheader(name, value)
        connection.endheaders()
        assert connection.getresponse().status < 500, (name, value)
        connection.close()


@pytest.mark.parametrize("megabytes", [2, 10])
def test_large_bodies_are_413_through_the_proxy(http_client: httpx.Client, megabytes: int):
    def chunks() -> Iterator[bytes]:
        for _ in range(megabytes):
            yield b" " * 1_000_000

    json_header = {"content-type": "application/json"}
    assert (
        http_client.post(
            "/v1/score", content=b" " * megabytes * 1_000_000, headers=json_header
        ).status_code
        == 413
    )
    assert http_client.post("/v1/score", content=chunks(), headers=json_header).status_code == 413


def test_a_dripping_header_is_cut(settings: Settings, served: tuple[Serving, Path]):
    address = urlsplit(settings.serving_url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=20)
    connection.connect()
    began = time.monotonic()
    connection.sock.sendall(b"POST /v1/score HTTP/1.1\r\nHost: x\r\n")
    answer = connection.sock.recv(100)
    assert b" 408 " in answer
    assert time.monotonic() - began < 8


def test_a_broken_bundle_is_refused_and_the_old_one_serves_on(
    http_client: httpx.Client, served: tuple[Serving, Path]
):
    serving, folder = served
    broken = folder.with_name(f"{folder.name}-broken")
    shutil.copytree(folder, broken, dirs_exist_ok=True)
    with (broken / "model.onnx").open("r+b") as model:
        model.seek(200)
        model.write(b"\xff\x00\xff")
    with pytest.raises(BundleRejected, match="broken"):
        serving.deploy(broken)
    for _ in range(20):
        assert http_client.get("/v1/model").json()["model_version"] == folder.name
        assert http_client.post("/v1/score", json=EXAMPLE).status_code == 200
    assert "broken" in http_client.get("/v1/model").json()["reload_error"]
    assert http_client.get("/readyz").status_code == 200
    serving.deploy(folder)
    assert http_client.get("/v1/model").json()["reload_error"] is None
    shutil.rmtree(broken)


def test_a_killed_replica_costs_at_most_one_more_try(
    settings: Settings, served: tuple[Serving, Path]
):
    victim = _replicas(settings.adnomaly_home)[0]
    stop, seen = threading.Event(), Counter()
    load = [
        threading.Thread(target=_ask_on, args=(settings.serving_url, stop, seen)) for _ in range(4)
    ]
    for thread in load:
        thread.start()
    time.sleep(2)
    os.kill(victim, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while len(_replicas(settings.adnomaly_home)) < 2 or victim in _replicas(settings.adnomaly_home):
        assert time.monotonic() < deadline, "the killed replica is not replaced within 60 s"
        time.sleep(0.5)
    time.sleep(2)
    stop.set()
    for thread in load:
        thread.join()
    # The proxy cannot retry a response that was partly sent when the replica died; the client can.
    assert _count(seen, "retried") <= len(load), seen
    assert _count(seen, "failed") == 0, seen
    assert seen["answered"] > 200


def test_a_rollback_under_load_fails_no_request(
    settings: Settings, served: tuple[Serving, Path], tmp_path: Path
):
    """Roll back to the previous champion of a real registry and forward, with four clients."""
    serving, folder = served
    registry = Registry(settings.mlflow_tracking_uri, model=f"test-rollback-{uuid4().hex[:8]}")
    champions = [
        _registered(registry, _resealed(tmp_path, folder, str(number)), tmp_path)
        for number in range(2)
    ]
    for champion in champions:
        registry.promote(champion)
    backends = connect(settings)
    bundles, history = backends.bundles, backends.model_history
    current = bundles.current()
    try:
        deploy_detector.verify(
            serving,
            bundles,
            deploy_detector.roll_out(serving, bundles, deploy_detector.fetch(registry, bundles)),
        )
        stop, seen = threading.Event(), Counter()
        load = [
            threading.Thread(target=_ask_on, args=(settings.serving_url, stop, seen))
            for _ in range(4)
        ]
        for thread in load:
            thread.start()
        for back_to in (champions[0], champions[1]):
            began = time.monotonic()
            served_now = deploy_detector.rollback(
                registry, serving, bundles, history, now=datetime.now(UTC)
            )
            assert served_now == back_to.bundle
            assert history.live()[0]["model_version"] == back_to.bundle
            print(
                f"rollback to {back_to.bundle} in {time.monotonic() - began:.1f} s, {seen['answered']} answers so far"
            )
            assert serving.served()["model_version"] == back_to.bundle
            assert registry.champion() == back_to
        stop.set()
        for thread in load:
            thread.join()
        assert (_count(seen, "retried"), _count(seen, "failed")) == (0, 0), seen
        assert seen["answered"] > 100
    finally:
        if current:
            bundles.set_current(current)
        else:
            (bundles.folder / CURRENT).unlink(missing_ok=True)


def test_a_bundle_that_is_trained_again_leaves_the_way_back(
    settings: Settings, bundle: Path, tmp_path: Path
):
    """Equal data give an equal bundle under a new number; the previous champion stays the same."""
    registry = Registry(settings.mlflow_tracking_uri, model=f"test-again-{uuid4().hex[:8]}")
    first, second = (_resealed(tmp_path, bundle, name) for name in ("first", "second"))
    for sealed, source in ((first, "a"), (second, "b"), (second, "c")):
        registry.promote(_registered(registry, sealed, tmp_path, source))
    assert (registry.champion().number, registry.champion().bundle) == ("3", second.name)
    assert registry.previous().bundle == first.name


def _resealed(folder: Path, bundle: Path, note: str) -> Path:
    """The same model with another version."""
    files = {f.name: f.read_bytes() for f in bundle.iterdir() if f.name != MANIFEST_FILE}
    card = json.loads(files["card.json"]) | {"note": note}
    return seal(folder / "sealed", files | {"card.json": json.dumps(card).encode()})


def _registered(registry: Registry, bundle: Path, folder: Path, source: str = "") -> Registered:
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    (figures / "none.txt").write_text("no figures")
    return registry.register(
        "test", params={}, metrics={}, files=figures, bundle=bundle, source=source or bundle.name
    )


def test_metrics_are_the_sum_of_the_replicas(http_client: httpx.Client):
    before = _scored(http_client)
    for _ in range(50):
        http_client.post("/v1/score", json=EXAMPLE)
    assert [_scored(http_client) for _ in range(5)] == [before + 50] * 5


def test_a_deleted_application_can_be_deployed_again(served: tuple[Serving, Path]):
    serving, folder = served
    serving.delete()  # returns when it is gone
    serving.deploy(folder)
    assert serving.served()["model_version"] == folder.name


def _ask_on(url: str, stop: threading.Event, seen: Counter) -> None:
    """Ask again and again, and once more after a failure; counts `answered` and each problem."""
    with httpx.Client(base_url=url, timeout=10) as client:
        while not stop.is_set():
            if problem := _problem(client):
                seen[f"retried: {problem}"] += 1
                problem = _problem(client)
            seen[f"failed: {problem}" if problem else "answered"] += 1


def _problem(client: httpx.Client) -> str:
    """Why a score was not answered; empty when it was."""
    try:
        answer = client.post("/v1/score", json=EXAMPLE)
    except httpx.TransportError as error:
        return f"{type(error).__name__} {error}"
    return "" if answer.status_code == 200 else f"{answer.status_code} {answer.text[:200]}"


def _count(seen: Counter, what: str) -> int:
    return sum(n for text, n in seen.items() if text.startswith(what))


def _replicas(home: Path) -> list[int]:
    """Process ids of the replicas of this stack."""
    mark = f"ADNOMALY_HOME={home}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (
                b"ServeReplica:detector" in (process / "cmdline").read_bytes()
                and mark in (process / "environ").read_bytes()
            ):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def _scored(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("adnomaly_scored_rows_total{")
    )
