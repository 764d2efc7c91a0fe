"""House rules of the DAGs, and the whole graph as one reviewed literal."""

import json
import socket
import subprocess
import sys
from datetime import timedelta

import pytest

READ_FILES = """
import json, pathlib, runpy, sys
folder = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(folder.parent / "plugins"))
import airflow.sdk, airflow.timetables.interval
before = set(sys.modules)
read = [runpy.run_path(str(file)) and file.stem for file in sorted(folder.glob("*.py"))]
print(json.dumps([read, sorted({name.split(".")[0] for name in set(sys.modules) - before})]))
"""
"""Reads every DAG file in one process, as the DAG processor does.

Prints the DAG ids, and the packages imported in addition to Airflow's own.
"""

HEAVY = {
    "boto3",
    "feast",
    "matplotlib",
    "mlflow",
    "numpy",
    "onnx",
    "onnxruntime",
    "pandas",
    "pyarrow",
    "pyflink",
    "ray",
    "scipy",
    "skl2onnx",
    "sklearn",
}
"""Packages that take a good part of a second to import, or more."""

GRAPH = {
    "backfill_features": {
        "compute_windows": ["write_days"],
        "write_days": ["load_online"],
        "load_online": [],
    },
    "compare_windows": {"compare": []},
    "deploy_detector": {
        "fetch": ["ask_first", "roll_out"],
        "ask_first": ["approve", "roll_out"],
        "approve": ["roll_out"],
        "roll_out": ["verify"],
        "verify": [],
    },
    "generate_history": {"write_clicks": []},
    "handle_alert": {"update_incidents": ["notify"], "notify": []},
    "maintain_stores": {"expire_rows": [], "expire_lake": ["compact_lake"], "compact_lake": []},
    "run_streams": {
        "choose": ["prepare", "status", "stop_streams"],
        "prepare": ["start_consumers", "start_scoring_and_generator"],
        "start_consumers": ["start_scoring_and_generator"],
        "start_scoring_and_generator": ["await_window_job"],
        "await_window_job": ["status"],
        "stop_streams": [],
        "status": [],
    },
    "train_detector": {
        "take_sample": ["fit"],
        "fit": ["evaluate"],
        "evaluate": ["seal"],
        "seal": ["register"],
        "register": ["promote_if_better"],
        "promote_if_better": [],
    },
    "watch_model": {
        "measure": ["is_training_worth_it"],
        "is_training_worth_it": ["ask_for_training"],
        "ask_for_training": [],
    },
    "watch_streams": {"restart_fallen": ["check"], "check": []},
}


@pytest.fixture(scope="module")
def bag(dag_folder):
    """Every DAG file, read while no connection can be opened."""
    from airflow.dag_processing.dagbag import DagBag

    opened = []

    def refuse(self, address):
        opened.append(address)
        raise AssertionError(f"a DAG file connects to {address} while it is read")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        bag = DagBag(str(dag_folder))
    assert opened == []
    return bag


@pytest.fixture(scope="module")
def dags(bag):
    return list(bag.dags.values())


def test_every_file_is_read_without_error(bag):
    assert bag.import_errors == {}


def test_graph_equals_the_literal(bag):
    assert {
        d.dag_id: {t.task_id: sorted(t.downstream_task_ids) for t in d.tasks}
        for d in bag.dags.values()
    } == GRAPH


def test_file_dag_and_pipeline_have_one_name(dag_folder, dags):
    import importlib.util

    assert sorted(d.dag_id for d in dags) == sorted(f.stem for f in dag_folder.glob("*.py"))
    assert all(importlib.util.find_spec(f"adnomaly.pipelines.{d.dag_id}") for d in dags)
    assert [
        f.name for f in dag_folder.iterdir() if f.suffix != ".py" and f.name != "__pycache__"
    ] == []


def test_each_dag_is_its_own_runbook(dags):
    for dag in dags:
        for part in ("- **Runs**", "**Reads**", "**Writes**", "- **Normal**", "**If it fails**"):
            assert part in dag.doc_md, f"{dag.dag_id}: the docstring lacks {part}"


def test_tags_are_from_the_closed_set(dags):
    from adnomaly_airflow.defaults import TAGS

    for dag in dags:
        assert dag.tags and dag.tags <= TAGS, f"{dag.dag_id}: {dag.tags}"


def test_runs_are_bounded(dags):
    for dag in dags:
        assert dag.max_active_runs == 1 and not dag.catchup, dag.dag_id
        assert dag.dagrun_timeout, dag.dag_id
        for task in dag.tasks:
            assert task.execution_timeout and timedelta(0) < task.execution_timeout <= timedelta(
                hours=1
            ), task.task_id


def test_tasks_are_retried_where_repeating_can_help(dags):
    without = {t.dag_id for dag in dags for t in dag.tasks if not t.retries}
    assert without == {"compare_windows", "watch_streams"}


def test_every_form_opens_with_valid_defaults(dags):
    for dag in dags:
        dag.params.validate()
        for name, param in dag.params.items():
            assert dag.params.get_param(name).schema.get("title"), (
                f"{dag.dag_id}.{name} has no title ({param})"
            )


def test_the_daily_runs_are_for_the_day_before(bag):
    import pendulum

    for dag_id in ("backfill_features", "compare_windows"):
        interval = bag.dags[dag_id].timetable.infer_manual_data_interval(
            run_after=pendulum.datetime(2026, 11, 13, 6)
        )
        assert interval.start.date().isoformat() == "2026-11-12", dag_id


def test_plugins_folder_registers_one_file(dag_folder):
    """Airflow executes each .py of the folder by its bare name, except those in .airflowignore."""
    folder = dag_folder.parent / "plugins"
    ignored = (folder / ".airflowignore").read_text().split()
    assert [f.name for f in folder.glob("*.py")] == ["adnomaly_plugin.py"]
    assert {
        f"{f.name}/" for f in folder.iterdir() if f.is_dir() and f.name != "__pycache__"
    } <= set(ignored)


def test_reading_the_files_imports_nothing_heavy(dag_folder):
    """Heavy libraries are imported by the task that needs them."""
    done = subprocess.run(
        [sys.executable, "-c", READ_FILES, str(dag_folder)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    read, packages = json.loads(done.stdout.splitlines()[-1])
    assert set(read) == set(GRAPH)
    assert "adnomaly" in packages
    assert HEAVY & set(packages) == set()
