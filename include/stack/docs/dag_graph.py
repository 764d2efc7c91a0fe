"""The DAGs as Airflow reads them: facts of each, and a flowchart of DAGs and assets."""

import json
import os
import subprocess
import sys
import tempfile
from functools import lru_cache
from typing import Any, Final

from adnomaly.settings import ROOT, SECRETS

_READ: Final = '''
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
def keys(condition):
    """Names of the assets of a condition."""
    parts = getattr(condition, "objects", None)
    if parts is not None:
        return sorted({name for part in parts for name in keys(part)})
    return [condition.name] if getattr(condition, "name", "") else []
def cron(timetable):
    """Of a timetable of Airflow's core, of the SDK (a string schedule), or the one inside."""
    for one in (timetable, getattr(timetable, "timetable", None)):
        if expression := getattr(one, "_expression", None) or getattr(one, "expression", None):
            return expression
    return ""
found = {}
for name, dag in sorted(bag.dags.items()):
    found[name] = {
        "cron": cron(dag.timetable),
        "woken_by": keys(getattr(dag.timetable, "asset_condition", None)),
        "tasks": [task.task_id for task in dag.topological_sort()],
        "updates": sorted({o.name for task in dag.tasks for o in task.outlets}),
        "tags": sorted(dag.tags),
        "params": {key: dag.params.get_param(key).schema.get("title") for key in dag.params},
    }
print(json.dumps(found))
'''


@lru_cache(maxsize=1)
def read() -> dict[str, dict[str, Any]]:
    """Every DAG by id, read in a process of its own.

    Returns:
        `cron`, `woken_by` and `updates` (assets), `tasks` in order, `tags`, `params` with titles.

    Raises:
        RuntimeError: a DAG file cannot be imported.
    """
    with tempfile.TemporaryDirectory() as home:
        env = {
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
            "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("plugins", "include", "")),
            "DEPLOY_APPROVAL": "false",
            **dict.fromkeys(SECRETS, "unused"),
        }
        command = [sys.executable, "-W", "ignore", "-c", _READ, str(ROOT / "dags")]
        done = subprocess.run(
            command, env=os.environ | env, capture_output=True, text=True, check=False, timeout=120
        )
    if done.returncode:
        raise RuntimeError(f"the DAGs cannot be read: {done.stderr[-2000:]}")
    dags: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return dags


def facts(dag_id: str) -> str:
    """One DAG in a line of Markdown: schedule, tasks, assets, form, tags."""
    dag = read()[dag_id]
    when = [f"`{dag['cron']}` UTC"] if dag["cron"] else []
    when += [f"an update of *{name}*" for name in dag["woken_by"]]
    tasks = ", ".join(f"`{task}`" for task in dag["tasks"])
    lines = [f"*Schedule:* {' or '.join(when) or 'by hand'}. *Tasks:* {tasks}."]
    if dag["updates"]:
        lines.append(f"*Updates:* {', '.join(dag['updates'])}.")
    if dag["params"]:
        lines.append(f"*Form:* {', '.join(dag['params'].values())}.")
    return f"{' '.join(lines)} *Tags:* {', '.join(dag['tags'])}."


def flowchart() -> str:
    """Mermaid block: an arrow into an asset is an update, one out of it starts a DAG."""
    dags = {name: dag for name, dag in read().items() if dag["woken_by"] or dag["updates"]}
    assets = sorted({name for dag in dags.values() for name in (*dag["woken_by"], *dag["updates"])})
    edges = [(name, asset) for name, dag in dags.items() for asset in dag["updates"]]
    edges += [(asset, name) for name, dag in dags.items() for asset in dag["woken_by"]]
    return "\n".join(
        [
            "```mermaid",
            "flowchart LR",
            *(f"  {name}[{name}]" for name in dags),
            *(f"  asset_{name}([{_label(name)}]):::asset" for name in assets),
            *(f"  {_node(start, assets)} --> {_node(end, assets)}" for start, end in edges),
            "  classDef asset fill:#ecfdf5,stroke:#047857,color:#0f172a",
            "```",
        ]
    )


def _node(name: str, assets: list[str]) -> str:
    return f"asset_{name}" if name in assets else name


def _label(asset: str) -> str:
    return asset.removeprefix("adnomaly_").replace("_", " ")
