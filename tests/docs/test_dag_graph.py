"""The facts of DAGs that docs/dags.md states."""

from stack.docs import dag_graph

SCHEDULES = {
    "backfill_features": "30 0 * * *",
    "compare_windows": "30 1 * * *",
    "deploy_detector": "",
    "generate_history": "",
    "handle_alert": "*/5 * * * *",
    "maintain_stores": "45 3 * * *",
    "run_streams": "",
    "train_detector": "",
    "watch_model": "17 * * * *",
    "watch_streams": "* * * * *",
}


def test_the_docs_say_when_each_dag_runs():
    assert {name: dag["cron"] for name, dag in dag_graph.read().items()} == SCHEDULES
    by_hand = {name for name in SCHEDULES if "*Schedule:* by hand." in dag_graph.facts(name)}
    assert by_hand == {"generate_history", "run_streams"}
