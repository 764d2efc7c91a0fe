"""`make screenshots`: the README's screenshots of the running stack, in a headless Chromium."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from adnomaly.errors import NotEnoughHistory
from adnomaly.incidents.decisions import worst_first
from adnomaly.settings import ROOT, Settings
from adnomaly.wiring import connect
from stack.docs.browser import chromium, log_in, open_console

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

FOLDER: Final = ROOT / "docs" / "images"
SETTLE_S: Final = {"now": 14.0, "incident": 3.0, "model": 3.0}
"""Seconds from opening a view to its screenshot: rates need two polls, charts are drawn late."""


def take(settings: Settings, folder: Path = FOLDER) -> list[Path]:
    """Take every view of the page Adnomaly, one in dark, one on a phone, and the graph of a DAG.

    Raises:
        NotEnoughHistory: there is no incident to show.
    """
    incident = f"incidents?id={quote(_worst_incident(settings), safe='')}"
    views = {"now": "", "incidents": "incidents", "incident": incident, "model": "model"}
    files = []
    with chromium(1280, 900) as browser:
        log_in(browser, settings)
        for name, path in views.items():
            open_console(browser, settings, path)
            time.sleep(SETTLE_S.get(name, 1.0))
            files.append(_save(browser, folder / f"console-{name}.png"))
        browser.switch_to.default_content()
        browser.get(f"{settings.airflow_url}/dags/train_detector")
        time.sleep(6)
        files.append(_save(browser, folder / "airflow.png"))
        open_console(browser, settings, incident)
        browser.execute_script("window.parent.document.documentElement.classList.add('dark')")
        time.sleep(3)
        files.append(_save(browser, folder / "console-dark.png"))
    with chromium(390, 844) as phone:
        log_in(phone, settings)
        open_console(phone, settings, framed=False)
        time.sleep(2)
        files.append(_save(phone, folder / "console-phone.png"))
    return files


def _worst_incident(settings: Settings) -> str:
    """Id of the worst anomaly of the last 14 days."""
    now = datetime.now(UTC)
    recent = connect(settings).incidents.recent(now - timedelta(days=14))
    anomalies = [incident for incident in recent if incident.kind == "anomaly"]
    if not anomalies:
        raise NotEnoughHistory("there is no incident to show: run `make demo` first")
    worst: str = worst_first(anomalies, now)[0].incident_id
    return worst


def _save(browser: "Chrome", file: Path) -> Path:
    browser.save_screenshot(str(file))
    return file
