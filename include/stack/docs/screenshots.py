"""`make screenshots`: the pictures of the README, made from the running stack in a headless Chromium."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import quote

from adnomaly.errors import NotEnoughHistory
from adnomaly.incidents.decisions import worst_first
from adnomaly.settings import ROOT, Settings
from adnomaly.wiring import connect
from stack.docs.browser import chromium, log_in, open_console

FOLDER: Final = ROOT / "docs" / "images"
SETTLE_S: Final = {"now": 14.0, "incident": 3.0, "model": 3.0}
"""Rates need two looks at the path; charts are drawn after the page."""


def take(settings: Settings, folder: Path = FOLDER) -> list[Path]:
    """Each view of the page Adnomaly, in light, one in dark and on a phone, and the graph of one DAG.

    Raises:
        NotEnoughHistory: there is no incident to show: make demo first.
    """
    now = datetime.now(UTC)
    anomalies = [
        i
        for i in connect(settings).incidents.recent(now - timedelta(days=14))
        if i.kind == "anomaly"
    ]
    if not anomalies:
        raise NotEnoughHistory("there is no incident to take a picture of: make demo first")
    worst = quote(worst_first(anomalies, now)[0].incident_id, safe="")
    views = {
        "now": "",
        "incidents": "incidents",
        "incident": f"incidents?id={worst}",
        "model": "model",
    }
    taken = []
    with chromium(1280, 900) as browser:
        log_in(browser, settings)
        for name, path in views.items():
            open_console(browser, settings, path)
            time.sleep(SETTLE_S.get(name, 1.0))
            taken.append(_save(browser, folder / f"console-{name}.png"))
        browser.switch_to.default_content()
        browser.get(f"{settings.airflow_url}/dags/train_detector")
        time.sleep(6)
        taken.append(_save(browser, folder / "airflow.png"))
        open_console(browser, settings, f"incidents?id={worst}")
        browser.execute_script("window.parent.document.documentElement.classList.add('dark')")
        time.sleep(3)
        taken.append(_save(browser, folder / "console-dark.png"))
    with chromium(390, 844) as phone:
        log_in(phone, settings)
        open_console(phone, settings, framed=False)
        time.sleep(2)
        taken.append(_save(phone, folder / "console-phone.png"))
    return taken


def _save(browser, file: Path) -> Path:
    browser.save_screenshot(str(file))
    return file
