"""What the servers must hold before anything runs: databases, tables, topics, buckets, Airflow's metadata, definitions of features."""

import os
import subprocess

import psycopg

from adnomaly.home import Home
from adnomaly.settings import ROOT, Settings
from adnomaly.wiring import connect
from stack import environment

DATABASES = ("adnomaly", "airflow", "feast", "mlflow")


def databases(settings: Settings) -> None:
    """Create what is missing of the databases, and our tables. Idempotent."""
    with psycopg.connect(settings.postgres_url("postgres"), autocommit=True) as connection:
        there = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        for name in DATABASES:
            if name not in there:
                connection.execute(f'CREATE DATABASE "{name}"')
    connect(settings).postgres.apply_schema()


def topics(settings: Settings) -> None:
    """Create what is missing of the topics. Idempotent."""
    from adnomaly.clients.kafka.admin import create_topics

    create_topics(settings.kafka_bootstrap)


def airflow_live(settings: Settings) -> None:
    """Airflow's metadata in PostgreSQL, at the installed version. Idempotent."""
    environment.write_passwords(settings, Home.of(settings).airflow)
    _airflow(settings, environment.live_airflow(settings), "db", "migrate")


def airflow_test(settings: Settings) -> None:
    """The SQLite home of `airflow dags test`. Idempotent, and instant when it is there."""
    home = Home.of(settings).test_airflow
    environment.write_passwords(settings, home)
    if not (home / "airflow.db").exists():
        _airflow(settings, environment.test_airflow(settings), "db", "migrate")


def features(settings: Settings) -> None:
    """The feature definitions in Feast's registry. Idempotent."""
    connect(settings).online_features.apply()


def _airflow(settings: Settings, own: dict[str, str], *arguments: str) -> None:
    environ = os.environ | environment.common(settings) | own
    log = Home.of(settings).log("airflow-migrate")
    with log.open("w") as out:
        done = subprocess.run(
            ["airflow", *arguments],
            env=environ,
            cwd=ROOT,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"airflow {' '.join(arguments)} failed; see {log}")
