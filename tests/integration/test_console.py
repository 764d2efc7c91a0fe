"""The page Adnomaly in a real browser, and access control of its routes."""

import functools
import http.server
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import httpx
import psycopg
import pytest
from psycopg.types.json import Jsonb
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from adnomaly.settings import Settings
from adnomaly.windows import SIZE, SLIDE
from adnomaly.wiring import Backends
from stack.docs.browser import chromium, log_in, open_console, password_of

pytestmark = pytest.mark.integration

HOSTILE = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\"> \u202egnal\u202c \u2066x"
EVERY_ROUTE = """
import json, sys
from adnomaly_airflow.console.app import app
print(json.dumps([[m, r.path] for r in app.routes for m in sorted(getattr(r, "methods", None) or []) if m != "HEAD"]))
"""


@pytest.fixture(scope="module")
def incident(settings: Settings, backends: Backends) -> Iterator[str]:
    """One incident of an entity of its own, with scored windows and clicks behind it."""
    name, end = "ZZ|web@console-test", datetime.now(UTC).replace(second=0, microsecond=0)
    explained = {
        "summary": "ZZ web: 9 times the expected clicks",
        "expected": {"event_count": 20.0},
        "z": {"event_count": 14.0},
    }
    explained |= {
        "share": {"event_count": 1.0},
        "low": {"event_count": 10.0},
        "high": {"event_count": 35.0},
    }
    with backends.postgres.connection() as connection:
        backends.incidents.upsert(
            connection,
            incident_id=name,
            kind="anomaly",
            geo="ZZ",
            platform="web",
            began=end - timedelta(minutes=20),
            last_seen=end,
            model_version="test",
            summary=explained["summary"],
        )
        for minutes in range(30):
            at = end - minutes * SLIDE
            connection.execute(
                "INSERT INTO anomaly_results (window_start, window_end, geo, platform, ctr_avg, bounce_rate_avg, event_count, anomaly_score,"
                " threshold, is_anomaly, model_version, incident_id, explanation) VALUES (%s, %s, 'ZZ', 'web', 0.02, 0.3, 180, 0.7, 0.5, true,"
                " 'test', NULL, %s) ON CONFLICT DO NOTHING",
                (at - SIZE, at, Jsonb(explained)),
            )
    yield name
    with psycopg.connect(settings.postgres_url()) as connection:
        connection.execute("DELETE FROM decisions WHERE incident_id = %s", (name,))
        connection.execute("DELETE FROM notifications WHERE incident_id = %s", (name,))
        connection.execute("DELETE FROM incidents WHERE incident_id = %s", (name,))
        connection.execute("DELETE FROM anomaly_results WHERE geo = 'ZZ'")


@pytest.fixture
def clients(settings: Settings) -> Iterator[dict[str, httpx.Client]]:
    """A client for each user, with a bearer token, and one for nobody."""
    made = {"nobody": httpx.Client(base_url=f"{settings.airflow_url}/adnomaly", timeout=30)}
    for user in ("admin", "operator", "viewer"):
        login = {"username": user, "password": password_of(settings, user)}
        token = httpx.post(f"{settings.airflow_url}/auth/token", json=login, timeout=30).json()[
            "access_token"
        ]
        made[user] = httpx.Client(
            base_url=f"{settings.airflow_url}/adnomaly",
            headers={"authorization": f"Bearer {token}"},
            timeout=30,
        )
    yield made
    for client in made.values():
        client.close()


@pytest.fixture(scope="module")
def browser(settings: Settings):
    with chromium() as browser:
        log_in(browser, settings)
        yield browser


@pytest.fixture(scope="module")
def routes(settings: Settings) -> list[tuple[str, str]]:
    """Every method and path that the page's application registers."""
    import os
    import subprocess
    import sys

    from adnomaly.settings import ROOT
    from stack.servers.airflow import live_env

    environ = os.environ | live_env(settings) | {"PYTHONPATH": f"{ROOT / 'plugins'}"}
    done = subprocess.run(
        [sys.executable, "-c", EVERY_ROUTE],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return [tuple(route) for route in json.loads(done.stdout.splitlines()[-1])]


def decisions(backends: Backends, incident: str) -> list[tuple[str, str, str]]:
    return [(d["action"], d["author"], d["comment"]) for d in backends.incidents.history(incident)]


def decide(client: httpx.Client, incident: str, **decision: object) -> httpx.Response:
    return client.post(
        "/api/incident/decide",
        params={"id": incident},
        json={"action": "comment", "revision": 0} | decision,
    )


def revision(backends: Backends, incident: str) -> int:
    found = backends.incidents.get(incident)
    assert found
    return found.revision


def test_no_route_but_static_answers_without_login(routes, clients):
    checked = 0
    for method, path in routes:
        if path.startswith("/static"):
            continue
        answer = clients["nobody"].request(
            method, path, content=b"{}", headers={"content-type": "application/json"}
        )
        to_login = answer.is_redirect and answer.headers["location"].startswith("/auth/login")
        assert answer.status_code in (401, 403) or to_login, (method, path, answer.status_code)
        assert answer.status_code != 403 or method == "POST", (method, path)
        checked += 1
    assert checked >= 10
    assert clients["nobody"].get("/static/console.css").status_code == 200


def test_a_viewer_can_read_but_not_act(clients, incident, backends):
    viewer = clients["viewer"]
    assert viewer.get("/api/me").json()["may_act"] is False
    assert viewer.get("/api/incident", params={"id": incident}).status_code == 200
    assert decide(viewer, incident, comment="no").status_code == 403
    assert (
        viewer.post("/api/dead-letters/replay", json={"field": "a", "rule": "b"}).status_code == 403
    )
    assert decisions(backends, incident) == []


def test_an_operator_decides_under_his_own_name(clients, incident, backends):
    answer = decide(
        clients["operator"],
        incident,
        action="acknowledge",
        comment="on it",
        revision=revision(backends, incident),
    )
    assert (answer.status_code, answer.json()["status"]) == (200, "acknowledged")
    assert decisions(backends, incident)[-1] == ("acknowledge", "operator", "on it")


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (b"", 422, ""),
        (b"{", 422, ""),
        (b'{"action":"eat","revision":0}', 422, "eat"),
        (b'{"action":"comment","revision":0,"comment":"x","more":1}', 422, "more"),
        (b'{"action":"snooze","revision":0,"until":"2099-01-01T00:00:00Z"}', 422, "until"),
        (b'{"action":"comment","revision":0,"comment":"' + b"x" * 5000 + b'"}', 422, "4,000"),
        (
            b'{"action":"comment","revision":0,"comment":"' + b"x" * 10_000_000 + b'"}',
            413,
            "64 KiB",
        ),
        (b"[" * 50_000, 422, ""),
        (b'{"action":"comment","revision":0,"comment":"\\u0000"}', 422, "NUL"),
        (b'{"action":"comment","revision":0,"comment":"\\ud800"}', 422, ""),
        (b"\xff\xfe", 422, ""),
    ],
)
def test_an_invalid_decision_is_refused_and_changes_nothing(
    clients, incident, backends, body, status, word
):
    before = decisions(backends, incident)
    answer = clients["admin"].post(
        "/api/incident/decide",
        params={"id": incident},
        content=body,
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == status, answer.text[:300]
    assert word in answer.json()["detail"]
    assert decisions(backends, incident) == before


@pytest.mark.parametrize(
    "name", ["nothing", "\0", "a" * 3000, "'; drop table incidents; --", "../../etc"]
)
def test_an_unknown_incident_is_not_a_server_error(clients, name):
    for answer in (
        clients["admin"].get("/api/incident", params={"id": name}),
        decide(clients["admin"], name, comment="x"),
    ):
        assert answer.status_code in (404, 422), answer.text


def test_of_two_concurrent_decisions_one_is_refused(clients, incident, backends):
    seen, before = revision(backends, incident), decisions(backends, incident)
    with ThreadPoolExecutor(2) as pool:
        requests = [
            pool.submit(decide, clients[user], incident, action=action, revision=seen)
            for user, action in (("admin", "false_alarm"), ("operator", "acknowledge"))
        ]
    answers = sorted((a.result() for a in requests), key=lambda a: a.status_code)
    assert [a.status_code for a in answers] == [200, 409]
    assert "has decided meanwhile" in answers[1].json()["detail"]
    assert len(decisions(backends, incident)) == len(before) + 1


class _Elsewhere(http.server.SimpleHTTPRequestHandler):
    """A page of another port of the same host, as Flink's or MLflow's is."""

    def log_message(self, *_):
        pass


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "index.html").write_text("<!doctype html><title>elsewhere</title>")
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Elsewhere, directory=str(tmp_path))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_port}/"
    server.shutdown()


def test_a_page_of_another_port_can_neither_act_nor_read_the_login(
    settings, browser, elsewhere, incident, backends
):
    open_console(browser, settings, framed=False)
    assert "_token" in {c["name"] for c in browser.get_cookies()}
    before = decisions(backends, incident)
    browser.get(elsewhere)
    assert "_token" not in browser.execute_script("return document.cookie")
    target = f"{settings.airflow_url}/adnomaly/api/incident/decide?id={quote(incident, safe='')}"
    body = json.dumps({"action": "false_alarm", "revision": revision(backends, incident)})
    for kind in ("text/plain", "application/json"):
        browser.execute_async_script(
            "const [url, body, kind, done] = arguments;"
            "fetch(url, {method: 'POST', mode: kind === 'text/plain' ? 'no-cors' : 'cors', credentials: 'include',"
            " headers: {'content-type': kind}, body}).then(() => done(), () => done());",
            target,
            body,
            kind,
        )
    browser.execute_script(
        "const f = document.createElement('form'); f.method = 'POST'; f.action = arguments[0]; f.enctype = 'text/plain';"
        "const i = document.createElement('input'); i.name = arguments[1]; i.value = ''; f.append(i); document.body.append(f); f.submit();",
        target,
        body,
    )
    WebDriverWait(browser, 20).until(
        lambda b: "another page" in b.page_source or "application/json" in b.page_source
    )
    assert decisions(backends, incident) == before
    framed = (
        "const f = document.createElement('iframe'); f.src = arguments[0]; document.body.append(f);"
    )
    browser.get(elsewhere)
    browser.execute_script(framed, f"{settings.airflow_url}/adnomaly/")
    time.sleep(2)
    browser.switch_to.frame(browser.find_element(By.TAG_NAME, "iframe"))
    assert not browser.find_elements(By.ID, "view")
    browser.switch_to.default_content()


def test_an_incident_is_decided_in_the_browser(settings, browser, incident, backends):
    open_console(browser, settings, "incidents")
    wait = WebDriverWait(browser, 30)
    wait.until(lambda b: b.find_element(By.CSS_SELECTOR, f'tr[data-incident="{incident}"]')).click()
    wait.until(lambda b: "9 times the expected clicks" in b.find_element(By.TAG_NAME, "main").text)
    wait.until(lambda b: len(b.find_elements(By.CSS_SELECTOR, ".chart .main-svg")) >= 4)
    box = browser.find_element(By.CSS_SELECTOR, "#decide textarea")
    browser.execute_script("arguments[0].value = arguments[1]", box, HOSTILE)
    browser.find_element(By.CSS_SELECTOR, 'button[data-action="confirm"]').click()
    wait.until(lambda b: "confirmed fraud" in b.find_element(By.ID, "top").text)
    assert decisions(backends, incident)[-1] == ("confirm", "admin", HOSTILE.strip())
    shown = browser.find_element(By.CSS_SELECTOR, "ol.history li p bdi")
    assert "<script>" in shown.get_attribute("textContent")
    assert browser.execute_script("return document.title") == "Adnomaly"
    assert not browser.find_elements(By.CSS_SELECTOR, "ol.history script, ol.history img")
    found = backends.incidents.get(incident)
    assert found
    assert (found.status, found.fraud_kind) == ("confirmed", "click_flood")


SHOWN = (
    "return [...document.querySelectorAll('tr[data-incident]')].map((row) => row.dataset.incident);"
)
SEARCH = f"const s = document.querySelector('#filters input'); s.value = arguments[0]; s.dispatchEvent(new Event('input')); {SHOWN}"
PRESS = f"[...document.querySelectorAll('#filters button')].find((b) => b.textContent.startsWith(arguments[0])).click(); {SHOWN}"


def test_incidents_are_found_by_status_and_word(settings, browser, incident, backends):
    open_console(browser, settings, "incidents")
    assert browser.execute_script(SEARCH, "zz WEB 9") == [incident]
    assert browser.execute_script(SEARCH, "zz web nowhere") == []
    assert incident in browser.execute_script(SEARCH, "")
    found = backends.incidents.get(incident)
    assert found
    here = {"open": "waiting", "acknowledged": "in progress"}.get(found.status, "decided")
    for name in ("waiting", "in progress", "decided"):
        assert (incident in browser.execute_script(PRESS, name)) == (name == here)
    assert incident in browser.execute_script(PRESS, "all")


def test_nothing_is_fetched_from_other_hosts(settings, browser, incident):
    open_console(browser, settings, f"incidents?id={quote(incident, safe='')}")
    WebDriverWait(browser, 30).until(lambda b: b.find_elements(By.CSS_SELECTOR, ".chart .main-svg"))
    fetched = browser.execute_script(
        "return performance.getEntriesByType('resource').map((e) => e.name)"
    )
    assert len(fetched) > 5
    assert [
        url for url in fetched if not url.startswith((settings.airflow_url, "data:", "blob:"))
    ] == []


@pytest.mark.parametrize("path", ["", "incidents", "model"])
def test_a_phone_shows_every_view_without_horizontal_scrolling(settings, path):
    with chromium(390, 800) as phone:
        log_in(phone, settings, "viewer")
        open_console(phone, settings, path, framed=False)
        assert phone.execute_script(
            "return document.documentElement.scrollWidth <= window.innerWidth"
        )


def test_dark_and_light_follow_airflow(settings, browser):
    open_console(browser, settings)
    ground = "return getComputedStyle(document.body).backgroundColor"
    colours = set()
    for dark in (True, False):
        browser.execute_script(
            "window.parent.document.documentElement.classList.toggle('dark', arguments[0])", dark
        )
        time.sleep(0.3)
        colours.add(browser.execute_script(ground))
    assert len(colours) == 2
