"""The consoles with their URLs and logins, and suggestions what to click next."""

import sys

from adnomaly.home import Home
from adnomaly.settings import Settings

NEXT = """
What to click next
  1. Airflow, Adnomaly (left, at the bottom): the path of a click, live; the incident that waits for a decision; the model.
  2. Airflow, Dags: `run_streams` > Trigger > Injected attacks: `click_flood:FR:web:+2m:10m` and watch the next incident come in.
  3. Airflow, Assets: how features, model and deployment start each other.
  4. MLflow, Models: the detector with its metrics and plots. Flink: the running window job.
  5. `make tail` shows the clicks, `make tail-features` the windows, `make logs` the logs of every process.
  `make down` stops everything and keeps the data; `make demo` resumes from here.
"""


def print_consoles(settings: Settings) -> None:
    """Print URLs and logins; passwords only on a terminal, else the file that has them."""
    secrets = Home.of(settings).secrets

    def password(name: str) -> str:
        value: str = getattr(settings, name.lower()).get_secret_value()
        return value if sys.stdout.isatty() else f"{name} in {secrets}"

    rows = [
        ("Airflow", settings.airflow_url, f"admin / {password('AIRFLOW_ADMIN_PASSWORD')}"),
        ("Flink", settings.flink_url, "-"),
        ("MLflow", settings.mlflow_tracking_uri, "-"),
        ("Ray dashboard", settings.ray_dashboard_url, f"token {password('RAY_AUTH_TOKEN')}"),
        ("Scoring API", f"{settings.serving_url}/docs", "-"),
        ("S3 console", settings.s3_console_url, f"admin / {password('MINIO_SECRET_KEY')}"),
    ]
    width = max(len(url) for _, url, _ in rows)
    print("\nconsole        " + "URL".ljust(width) + "  login")
    for name, url, login in rows:
        print(f"{name:<13}  {url:<{width}}  {login}")
    print(NEXT, flush=True)
