"""The DAGs as Airflow reads them: what wakes whom, as a picture and as a table."""

import json
import os
import subprocess
import sys
import tempfile
from functools import lru_cache
from html import escape
from typing import Any, Final

from adnomaly.settings import ROOT

_READ: Final = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
def keys(condition):
    inner = getattr(condition, "objects", None)
    return [] if condition is None or not (inner or getattr(condition, "name", "")) else [condition.name] if inner is None else sorted({name for part in inner for name in keys(part)})
def order(dag):
    return [t.task_id for t in dag.topological_sort()]
found = {}
for name, dag in sorted(bag.dags.items()):
    table = dag.timetable
    cron = getattr(table, "_expression", None) or getattr(getattr(table, "timetable", None), "_expression", None) or ""
    found[name] = {
        "cron": cron, "woken_by": keys(getattr(table, "asset_condition", None)), "tasks": order(dag),
        "updates": sorted({o.name for t in dag.tasks for o in t.outlets}), "tags": sorted(dag.tags),
        "paused_at_first": bool(dag.is_paused_upon_creation is not False), "params": {k: dag.params.get_param(k).schema.get("title") for k in dag.params},
    }
print(json.dumps(found))
"""


@lru_cache(maxsize=1)
def read() -> dict[str, dict[str, Any]]:
    """Every DAG: `cron`, `woken_by` and `updates` (assets), `tasks` in order, `tags`, `params` with their titles."""
    with tempfile.TemporaryDirectory() as home:
        own = {
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        }
        own |= {
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
            "PYTHONPATH": f"{ROOT / 'plugins'}",
            "DEPLOY_APPROVAL": "false",
        }
        command = [sys.executable, "-W", "ignore", "-c", _READ, str(ROOT / "dags")]
        done = subprocess.run(
            command, env=os.environ | own, capture_output=True, text=True, check=False, timeout=120
        )
    if done.returncode:
        raise RuntimeError(f"the DAGs cannot be read: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def facts(dag_id: str) -> str:
    """One DAG in a line of Markdown: when, its tasks, its form."""
    dag = read()[dag_id]
    when = [f"`{dag['cron']}` UTC"] if dag["cron"] and dag["cron"] != "@once" else []
    when += [f"an update of *{name}*" for name in dag["woken_by"]]
    lines = [
        f"*Schedule:* {' or '.join(when) or 'by hand'}. *Tasks:* {', '.join(f'`{t}`' for t in dag['tasks'])}."
    ]
    if dag["updates"]:
        lines.append(f"*Updates:* {', '.join(dag['updates'])}.")
    if dag["params"]:
        lines.append(f"*Form:* {', '.join(dag['params'].values())}.")
    return f"{' '.join(lines)} *Tags:* {', '.join(dag['tags'])}."


COLUMN, ROW, WIDTH, HEIGHT = 250, 64, 200, 40


def picture() -> str:
    """DAGs and assets as SVG: an arrow into an asset is an update, one out of it wakes."""
    dags = {name: dag for name, dag in read().items() if dag["woken_by"] or dag["updates"]}
    assets = sorted({a for dag in dags.values() for a in (*dag["woken_by"], *dag["updates"])})
    arrows = [(name, a) for name, dag in dags.items() for a in dag["updates"]] + [
        (a, name) for name, dag in dags.items() for a in dag["woken_by"]
    ]
    column = _columns([*dags, *assets], arrows)
    places: dict[str, tuple[int, int]] = {}
    for number in range(max(column.values()) + 1):
        for row, name in enumerate(
            sorted(
                (n for n, c in column.items() if c == number),
                key=lambda n: (_height(n, arrows, places), n),
            )
        ):
            places[name] = (20 + number * COLUMN, 20 + row * ROW)
    width, height = (
        max(x for x, _ in places.values()) + WIDTH + 20,
        max(y for _, y in places.values()) + HEIGHT + 20,
    )
    parts = [_arrow(places[a], places[b]) for a, b in arrows] + [
        _box(name, *at, asset=name in assets) for name, at in places.items()
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif" font-size="13">'
    marker = '<defs><marker id="to" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z" fill="#64748b"/></marker></defs>'
    return (
        "\n".join(
            [
                head,
                f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
                marker,
                *parts,
                "</svg>",
            ]
        )
        + "\n"
    )


def _height(name: str, arrows: list[tuple[str, str]], places: dict[str, tuple[int, int]]) -> float:
    """Beside what leads to it, so that few arrows cross."""
    before = [places[a][1] for a, b in arrows if b == name and a in places]
    return sum(before) / len(before) if before else 0.0


def _columns(names: list[str], arrows: list[tuple[str, str]]) -> dict[str, int]:
    """The longest way to each from the left."""
    column = dict.fromkeys(names, 0)
    for _ in names:
        for a, b in arrows:
            column[b] = max(column[b], column[a] + 1)
    return column


def _arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1, x2, y2 = start[0] + WIDTH, start[1] + HEIGHT // 2, end[0], end[1] + HEIGHT // 2
    middle = (x1 + x2) // 2
    return f'<path d="M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}" fill="none" stroke="#64748b" stroke-width="1.5" marker-end="url(#to)"/>'


def _box(name: str, x: int, y: int, *, asset: bool) -> str:
    fill, stroke, corner = (
        ("#ecfdf5", "#047857", HEIGHT // 2) if asset else ("#eff6ff", "#1d4ed8", 6)
    )
    label = escape(name.removeprefix("adnomaly_").replace("_", " ") if asset else name)
    return (
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="{corner}" fill="{fill}" stroke="{stroke}"/>'
        f'<text x="{x + WIDTH // 2}" y="{y + HEIGHT // 2 + 5}" text-anchor="middle" fill="#0f172a">{label}</text>'
    )
