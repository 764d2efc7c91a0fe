"""`make reference`: pages and tables derived from code. A test fails while one is stale.

`.env.example`, `docs/dags.md`, `docs/schemas.md`, and the tables of `README.md` between markers
such as `<!-- settings -->`.
"""

import ast
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from adnomaly import topics, windows
from adnomaly.events import COLUMNS, Click, json_schema
from adnomaly.features import FEATURES
from adnomaly.ports import DEFAULT_PORTS
from adnomaly.settings import ROOT, SECRETS, Settings
from stack.docs import dag_graph, drawings
from stack.ports import PORTS

ENV_HEAD: Final = """# Every setting with its default, written by `make reference`. To change one, copy this file to
# .env and uncomment its line. The environment overrides .env, and .env the generated secrets.
# PORT_OFFSET moves every default port.
"""

DAGS_HEAD: Final = """# DAGs

Each DAG with its schedule, its tasks and what to do when it fails. Written from the DAG files by
`make reference`; Airflow shows the same text on each DAG's page.

## DAGs and assets

A DAG (box) updates an asset (rounded); an update starts the DAGs that are scheduled on it.
"""

TABLE: Final = "| {} |".format


class Defaults(Settings):
    """The settings without the environment."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def env_example() -> str:
    """Every setting as a commented line."""
    lines = [ENV_HEAD]
    for name, default, meaning in _settings():
        lines += [f"# {meaning}"] if meaning else []
        lines.append(
            f"# {name}=            {default}\n" if name in SECRETS else f"# {name}={default}\n"
        )
    return "\n".join(lines)


def settings_table() -> str:
    """Variable, default, meaning."""
    rows = (
        (f"`{name}`", default if name in SECRETS else f"`{default}`" if default else "", text)
        for name, default, text in _settings()
    )
    return _table(("variable", "default", "meaning"), rows)


def ports_table() -> str:
    """Ports that people and clients connect to."""
    return _table(
        ("what", "port"),
        [
            *((port.title, str(port.number)) for port in PORTS.values() if port.title),
            ("scorer's metrics", str(DEFAULT_PORTS["scorer-metrics"])),
        ],
    )


def dags_page(folder: Path = ROOT / "dags") -> str:
    """The flowchart of DAGs and assets, and the runbook of every DAG by name."""
    runbooks = [_runbook(file) for file in sorted(folder.glob("*.py"))]
    return "\n\n".join([DAGS_HEAD.rstrip(), dag_graph.flowchart(), *runbooks]) + "\n"


def schemas_page() -> str:
    """The click, the window and the topics."""
    size, slide = (span // windows.SLIDE for span in (windows.SIZE, windows.SLIDE))
    return "\n\n".join(
        [
            "# Schemas",
            "Written by `make reference` from `adnomaly.events`, `adnomaly.features` and "
            "`adnomaly.topics`.",
            "## Click (topic `clickstream`, one JSON object per message, key `geo|platform`)",
            _clicks_table(),
            f"## Window ({size} minutes, sliding by {slide}, per geo and platform)",
            "`window_start`, `window_end`, `geo`, `platform`, and:",
            _features_table(),
            "## Topics",
            _topics_table() + "\n",
        ]
    )


def _clicks_table() -> str:
    schema: dict[str, Any] = json_schema()
    rules = schema["$defs"]["Click"]["properties"]
    optional = {"event_id"}
    stored = {column.field: column for column in COLUMNS}
    rows = (
        (
            f"`{field}`",
            _rule(rules[field]),
            "" if field in optional else "yes",
            f"`{stored[field].name} {stored[field].sql}`",
            rules[field]["description"],
        )
        for field in Click.__struct_fields__
    )
    return _table(("field", "rule", "required", "stored as", "meaning"), rows)


def _features_table() -> str:
    rows = (
        (
            f"`{f.name}`",
            f.dtype,
            f.unit,
            f">= {f.low}" if f.high is None else f"{f.low}..{f.high}",
            f"`{f.sql}`",
        )
        for f in FEATURES
    )
    return _table(("feature", "type", "unit", "range", "aggregate over the clicks"), rows)


def _topics_table() -> str:
    rows = (
        (f"`{t.name}`", str(t.partitions), f"{t.retention_hours // 24} days")
        for t in topics.ALL_TOPICS
    )
    return _table(("topic", "partitions", "kept"), rows)


def readme() -> str:
    """README.md with its derived tables up to date."""
    text = (ROOT / "README.md").read_text()
    for name, table in (("settings", settings_table()), ("ports", ports_table())):
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        head, _, rest = text.partition(start)
        text = f"{head}{start}{table}\n{end}{rest.partition(end)[2]}"
    return text


PAGES: Final[dict[str, Callable[[], str]]] = {
    ".env.example": env_example,
    drawings.PAGE: drawings.architecture,
    "docs/dags.md": dags_page,
    "docs/schemas.md": schemas_page,
    "README.md": readme,
}


def write() -> None:
    """Write every page."""
    for name, page in PAGES.items():
        (ROOT / name).write_text(page())


def _settings() -> Iterable[tuple[str, str, str]]:
    """(VARIABLE, default as text, meaning) of every setting."""
    secrets: dict[str, Any] = {name.lower(): "generated" for name in SECRETS}
    defaults = Defaults(**secrets)
    for name, info in Settings.model_fields.items():
        upper = name.upper()
        default = (
            "generated by `make setup`, 0600"
            if upper in SECRETS
            else _shown(name, getattr(defaults, name))
        )
        yield upper, default, info.description or ""


def _shown(name: str, value: Any) -> str:
    if name == "adnomaly_home":
        return ".adnomaly"
    value = value.get_secret_value() if isinstance(value, SecretStr) else value
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _runbook(file: Path) -> str:
    """The docstring of one DAG file as a section, with the DAG's id in its title."""
    title, _, text = (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n")
    return (
        f"## {title.lstrip('# ')} (`{file.stem}`)\n\n{dag_graph.facts(file.stem)}\n\n{text.strip()}"
    )


def _rule(schema: dict[str, Any]) -> str:
    """One field of a JSON Schema in a few words."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    words = [schema.get("type", "")]
    if "pattern" in schema:
        words.append(
            "`"
            + schema["pattern"].removeprefix(r"\A").removesuffix(r"\Z").replace("|", r"\|")
            + "`"
        )
    if "minimum" in schema:
        words.append(
            f"{schema['minimum']}..{schema['maximum']}"
            if "maximum" in schema
            else f">= {schema['minimum']}"
        )
    if "maxLength" in schema:
        words.append(f"of {schema['minLength']}..{schema['maxLength']} characters")
    return " ".join(words)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(
        [
            TABLE(" | ".join(head)),
            "|" + "---|" * len(head),
            *(TABLE(" | ".join(row)) for row in rows),
        ]
    )
