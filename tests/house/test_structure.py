"""The shape of the tree: documented packages, unique class names, short files and functions."""

import ast
from collections import defaultdict
from pathlib import Path

from adnomaly.settings import ROOT

MAX_FILE_LINES = 260
OURS = {"adnomaly", "adnomaly_airflow", "serving", "stack", "streaming"}
FOR_DAGS = (
    "adnomaly_airflow",
    "adnomaly.errors",
    "adnomaly.monitoring.stages",
    "adnomaly.pipelines",
    "adnomaly.settings",
    "adnomaly.wiring",
)
"""Of our packages, what a DAG file may import."""
MAX_FUNCTION_LINES = 60
PROTOCOLS = {"Baseline", "Sink", "Scorer", "Clock"}
"""Two or more implementations each; everything else names the concrete type."""
NO_PACKAGES = {"include", "dags", "plugins", "include/feature_repo"}
"""Folders of scripts, and folders on the import path."""
DRAWERS = {"utils", "util", "helpers", "common", "misc"}
"""Names that say nothing about the content."""


def test_every_package_documents_its_scope(code):
    poor = []
    for source in code:
        if Path(source.name).name != "__init__.py":
            continue
        text = ast.get_docstring(source.tree) or ""
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 3 or "Belongs here:" not in text or "Does not:" not in text:
            poor.append(source.name)
    assert not poor, "\n".join(poor)


def test_every_folder_of_modules_is_a_package(code):
    names = {source.name for source in code}
    folders = {str(Path(name).parent) for name in names} - NO_PACKAGES
    assert {folder for folder in folders if f"{folder}/__init__.py" not in names} == set()


def test_every_package_of_the_product_is_in_the_readme(code):
    readme = (ROOT / "README.md").read_text()
    tree = readme.partition("## What is where")[2].partition("## ")[0]
    parents = [Path(source.name).parent for source in code]
    packages = {p.name for p in parents if p.parent == Path("include/adnomaly")}
    assert {package for package in packages if f"    {package}/ " not in tree} == set()


def test_no_module_is_a_drawer(code):
    assert [source.name for source in code if Path(source.name).stem in DRAWERS] == []


def test_a_class_name_exists_once(code):
    places: dict[str, list[str]] = defaultdict(list)
    for source in code:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{source.name}:{node.lineno}")
    twice = [f"{name}: {', '.join(at)}" for name, at in places.items() if len(at) > 1]
    assert not twice, "\n".join(twice)


def test_protocols_are_the_few_that_have_several_implementations(code):
    protocols = {}
    for source in code:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef) and any("Protocol" in _names(b) for b in node.bases):
                protocols[node.name] = f"{source.name}:{node.lineno}"
    others = [f"{at} {name}" for name, at in protocols.items() if name not in PROTOCOLS]
    assert not others, "\n".join(others)


def test_dags_only_wire_pipelines(code):
    """They are no package, so import-linter cannot see them."""
    wrong = []
    for source in code:
        for node in ast.walk(source.tree) if source.name.startswith("dags/") else ():
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            ours = [m for m in modules if m.partition(".")[0] in OURS]
            wrong += [f"{source.name}: {m}" for m in ours if not m.startswith(FOR_DAGS)]
    assert not wrong, "\n".join(wrong)


def test_files_are_short(code):
    lengths = {source.name: len(source.text.splitlines()) for source in code}
    long = [f"{name}: {n} lines" for name, n in lengths.items() if n > MAX_FILE_LINES]
    assert not long, "\n".join(long)


def test_functions_are_short(code):
    """Length with docstring, without decorators."""
    long = []
    for source in code:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long.append(f"{source.name}:{node.lineno} {node.name}: {lines} lines")
    assert not long, "\n".join(long)


def _names(node: ast.expr) -> set[str]:
    """Every name in an expression such as `typing.Protocol[T]`."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} | {
        n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)
    }
