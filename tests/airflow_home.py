"""Airflow home for tests that only read DAGs and plugins: empty SQLite database, no network."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def configure() -> None:
    """Set the configuration before any test module imports Airflow, which reads it on import."""
    home = ROOT / ".pytest_cache" / "airflow"
    home.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("AIRFLOW_HOME", str(home))
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"
    os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(ROOT / "dags")
    os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"] = str(ROOT / "plugins")
    sys.path.insert(0, str(ROOT / "plugins"))
