"""Numbered migrations on a real PostgreSQL, from a database of a version that had none."""

from uuid import uuid4

import psycopg
import pytest

from adnomaly.clients.postgres import MIGRATIONS, Postgres
from adnomaly.errors import NewerVersion
from adnomaly.features import FEATURES, Feature

pytestmark = pytest.mark.integration

ALL = sorted(file.stem for file in MIGRATIONS.glob("*.sql"))


@pytest.fixture
def database(settings):
    name = f"test_{uuid4().hex[:8]}"
    with psycopg.connect(settings.postgres_url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield Postgres(settings.postgres_url(name))
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def rows(database: Postgres, query: str):
    with database.connection() as connection:
        return connection.execute(query).fetchall()


def test_each_migration_runs_once_in_order(database):
    assert database.migrate() == ALL
    assert database.migrate() == []
    ran = rows(database, "SELECT number, name FROM migrations ORDER BY number")
    assert [f"{number:04}_{name}" for number, name in ran] == ALL


def test_tables_of_a_version_without_migrations_keep_their_rows(database, tmp_path):
    (tmp_path / "0001_tables.sql").write_text((MIGRATIONS / "0001_tables.sql").read_text())
    database.migrate(tmp_path)
    with database.connection() as connection:
        connection.execute("DROP TABLE migrations")
        connection.execute(
            "INSERT INTO incidents (incident_id, kind, began, last_seen, summary)"
            " VALUES ('a', 'anomaly', now(), now(), 'seen')"
        )
        connection.execute(
            "INSERT INTO decisions (incident_id, revision, action, author) VALUES ('a', 1, 'x', 'y')"
        )
    assert database.migrate() == ALL
    assert rows(database, "SELECT summary FROM incidents") == [("seen",)]
    assert rows(database, "SELECT author FROM decisions") == [("y",)]


def test_a_failed_migration_changes_nothing_and_runs_again(database, tmp_path):
    for file in MIGRATIONS.glob("*.sql"):
        (tmp_path / file.name).write_text(file.read_text())
    bad = tmp_path / "0999_bad.sql"
    bad.write_text("CREATE TABLE half (n integer); SELECT 1 / 0;")
    with pytest.raises(psycopg.errors.DivisionByZero):
        database.migrate(tmp_path)
    assert rows(database, "SELECT to_regclass('half'), to_regclass('incidents')") == [(None, None)]
    bad.write_text("CREATE TABLE half (n integer)")
    assert database.migrate(tmp_path) == [*ALL, "0999_bad"]


def test_a_database_of_a_newer_version_is_refused(database, tmp_path):
    database.migrate()
    with database.connection() as connection:
        connection.execute("INSERT INTO migrations VALUES (9999, 'of_tomorrow')")
    with pytest.raises(NewerVersion, match=r"migration 9999 of a newer version .* update"):
        database.migrate()


def test_a_new_feature_is_a_new_column(database):
    database.migrate()
    cost = Feature("cpc_avg", "float64", "money", 0, None, "AVG(cpc)")
    assert database.migrate(features=(*FEATURES, cost)) == []
    assert rows(database, "SELECT cpc_avg FROM feature_aggregates") == []
