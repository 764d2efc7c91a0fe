"""A headless Chromium on the running stack's Airflow, for screenshots and tests."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from adnomaly.home import Home
from adnomaly.settings import Settings

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

PATIENCE_S = 30
MISSING = "Chromium and its driver are missing: install the packages chromium and chromium-driver"


@contextmanager
def chromium(width: int = 1280, height: int = 900, *, dark: bool = False) -> "Iterator[Chrome]":
    """A browser with a fresh profile.

    Raises:
        FileNotFoundError: Chromium or its driver is not installed.
    """
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        raise FileNotFoundError(MISSING)
    options = ChromeOptions()
    options.binary_location = program
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        f"--window-size={width},{height}",
    ):
        options.add_argument(flag)
    if dark:
        options.add_argument("--force-dark-mode")
    browser = Chrome(options, ChromeService(driver))
    # Set the size of the page itself; the window size includes the frame.
    metrics: dict[str, Any] = {
        "width": width,
        "height": height,
        "deviceScaleFactor": 1,
        "mobile": width < 600,
    }
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        yield browser
    finally:
        browser.quit()


def password_of(settings: Settings, user: str) -> str:
    """Generated password of an Airflow user: admin, operator or viewer."""
    file = Home.of(settings).airflow / "passwords.json"
    passwords: dict[str, str] = json.loads(file.read_text())
    return passwords[user]


def log_in(browser: "Chrome", settings: Settings, user: str = "admin") -> None:
    """Log in through the form."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(f"{settings.airflow_url}/auth/login")
    wait = WebDriverWait(browser, PATIENCE_S)
    name = wait.until(lambda b: b.find_element(By.CSS_SELECTOR, "input[name=username]"))
    name.send_keys(user)
    browser.find_element(By.CSS_SELECTOR, "input[name=password]").send_keys(
        password_of(settings, user)
    )
    browser.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
    wait.until(lambda b: "/auth/" not in b.current_url)


def open_console(
    browser: "Chrome", settings: Settings, path: str = "", *, framed: bool = True
) -> None:
    """Open a view of the page Adnomaly and wait until it is drawn.

    Args:
        framed: inside Airflow's frame; otherwise by itself.
    """
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    wait = WebDriverWait(browser, PATIENCE_S)
    browser.switch_to.default_content()
    browser.get(
        f"{settings.airflow_url}/plugin/adnomaly/adnomaly/{path}"
        if framed
        else f"{settings.airflow_url}/adnomaly/{path}"
    )
    if framed:
        frame = wait.until(lambda b: b.find_element(By.CSS_SELECTOR, "iframe"))
        browser.switch_to.frame(frame)
    wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, "main[data-ready]"))
