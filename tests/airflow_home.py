"""Airflow for tests that only read its files: a home of its own with an empty SQLite database, no network."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def configure() -> None:
    """Airflow reads its configuration when it is imported, so it is set before any test module is."""
    home = ROOT / ".pytest_cache" / "airflow"
    home.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("AIRFLOW_HOME", str(home))
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"
    os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(ROOT / "dags")
    os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"] = str(ROOT / "plugins")
    sys.path.insert(0, str(ROOT / "plugins"))
