"""DAG files are read with an Airflow home of their own."""

from pathlib import Path

import pytest

from airflow_home import ROOT, configure


def pytest_configure() -> None:
    configure()


@pytest.fixture(scope="session")
def dag_folder() -> Path:
    return ROOT / "dags"
