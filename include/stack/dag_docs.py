"""`python -m stack.dag_docs` writes docs/dags.md from the runbooks in the DAG files; a test fails when it is stale."""

import ast
from pathlib import Path

from adnomaly.settings import ROOT

PAGE = ROOT / "docs" / "dags.md"

HEAD = """# DAGs

What Airflow runs, when, and what to do when it fails. Written from the DAG files by `python -m stack.dag_docs`; the same text
is shown in Airflow on each DAG's page.
"""


def page(folder: Path = ROOT / "dags") -> str:
    """The whole page, in the order of the names."""
    return "\n\n".join([HEAD.rstrip(), *(_section(file) for file in sorted(folder.glob("*.py")))]) + "\n"


def _section(file: Path) -> str:
    """One runbook, its title one level down and with the DAG's id."""
    title, _, text = (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n")
    return f"## {title.lstrip('# ')} (`{file.stem}`)\n\n{text.strip()}"


def main() -> None:
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
