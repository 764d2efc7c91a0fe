"""Plugins are imported with an Airflow home of their own."""

from airflow_home import configure


def pytest_configure() -> None:
    configure()
