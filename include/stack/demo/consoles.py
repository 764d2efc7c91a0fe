"""Where everything can be seen, and what to click first."""

import sys

from adnomaly.home import Home
from adnomaly.settings import Settings
from stack.ports import port

NEXT = """
What to click next
  1. Airflow, Adnomaly (left, at the bottom): the path of a click, live; the incident that waits for your decision; the model.
  2. Airflow, Dags: `run_streams` > Trigger > Attacks to plant: `click_flood:FR:web:+2m:10m` and watch the next incident come in.
  3. Airflow, Assets: how features, model and deployment wake each other.
  4. MLflow, Models: the detector with its metrics and plots. Flink: the running window job.
  5. `make tail` shows the clicks, `make tail-features` the windows, `make logs` what every process says.
  `make down` stops everything and keeps the data; `make demo` goes on from here.
"""


def print_consoles(settings: Settings) -> None:
    """URLs and logins. Passwords are shown on a terminal; in a pipe, which may be a log, only where they are."""
    secrets = Home.of(settings).secrets
    s3 = f"http://localhost:{port(settings, 's3-console')}"

    def password(name: str) -> str:
        value = getattr(settings, name.lower()).get_secret_value()
        return value if sys.stdout.isatty() else f"{name} in {secrets}"

    rows = [
        ("Airflow", settings.airflow_url, f"admin / {password('AIRFLOW_ADMIN_PASSWORD')}"),
        ("Flink", settings.flink_url, "-"),
        ("MLflow", settings.mlflow_tracking_uri, "-"),
        ("Ray dashboard", settings.ray_dashboard_url, f"token {password('RAY_AUTH_TOKEN')}"),
        ("Scoring API", f"{settings.serving_url}/docs", "-"),
        ("S3 console", s3, f"admin / {password('MINIO_SECRET_KEY')}"),
    ]
    width = max(len(url) for _, url, _ in rows)
    print("\nconsole        " + "URL".ljust(width) + "  login")
    for name, url, login in rows:
        print(f"{name:<13}  {url:<{width}}  {login}")
    print(NEXT, flush=True)
