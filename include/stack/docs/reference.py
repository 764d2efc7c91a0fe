"""`make reference`: every page and table that is derived from code. A test fails while one of them is stale.

`.env.example`, `docs/dags.md` with its picture, `docs/schemas.md`, and the parts of `README.md` between `<!-- settings -->` and its like.
"""

import ast
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from adnomaly import topics, windows
from adnomaly.events import COLUMNS, Click, json_schema
from adnomaly.features import FEATURES
from adnomaly.settings import ROOT, SECRETS, Settings
from stack.docs import dag_graph, drawings
from stack.ports import BASE

ENV_HEAD: Final = """# Every setting of Adnomaly with its default, made by `make reference`. Copy to .env and uncomment what you change.
# The environment wins over .env, .env over the generated secrets. PORT_OFFSET moves every default port.
"""

DAGS_HEAD: Final = """# DAGs

What Airflow runs, when, and what to do when it fails. Written from the DAGs by `make reference`; the same text
is shown in Airflow on each DAG's page.

![DAGs (boxes) and the assets by which they wake each other (rounded)](images/assets.svg)
"""

TABLE: Final = "| {} |".format
SHOWN_PORTS: Final = {
    "kafka": "Kafka",
    "postgres": "PostgreSQL",
    "redis": "Redis",
    "s3": "S3",
    "s3-console": "S3 console",
    "jobmanager": "Flink UI",
    "serving": "Scoring API",
    "api-server": "Airflow UI",
    "mlflow": "MLflow UI",
    "ray": "Ray dashboard",
}


class Defaults(Settings):
    """The settings without any environment."""

    @classmethod
    def settings_customise_sources(cls, settings_cls, init_settings, **others):
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
    """What a person or a client connects to."""
    return _table(
        ("what", "port"),
        [
            *((title, str(BASE[name])) for name, title in SHOWN_PORTS.items()),
            ("scorer's metrics", "9108"),
        ],
    )


def dags_page(folder: Path = ROOT / "dags") -> str:
    """The runbook of every DAG, in the order of the names."""
    return (
        "\n\n".join([DAGS_HEAD.rstrip(), *(_runbook(file) for file in sorted(folder.glob("*.py")))])
        + "\n"
    )


def schemas_page() -> str:
    """The click, the window and the topics."""
    rules = json_schema()["$defs"]["Click"]["properties"]
    optional = {"event_id"}
    stored = {column.field: column for column in COLUMNS}
    fields = Click.__struct_fields__
    clicks = (
        (
            f"`{f}`",
            _rule(rules[f]),
            "" if f in optional else "yes",
            f"`{stored[f].name} {stored[f].sql}`",
            rules[f]["description"],
        )
        for f in fields
    )
    features = (
        (
            f"`{f.name}`",
            f.dtype,
            f.unit,
            f">= {f.low}" if f.high is None else f"{f.low}..{f.high}",
            f"`{f.sql}`",
        )
        for f in FEATURES
    )
    kept = (
        (f"`{t.name}`", str(t.partitions), f"{t.retention_hours // 24} days")
        for t in topics.ALL_TOPICS
    )
    minutes = [span // windows.SLIDE for span in (windows.SIZE, windows.SLIDE)]
    return "\n\n".join(
        [
            "# Schemas",
            "Written by `make reference` from `adnomaly.events`, `adnomaly.features` and `adnomaly.topics`.",
            "## Click (topic `clickstream`, one JSON object per message, key `geo|platform`)",
            _table(("field", "rule", "required", "stored as", "meaning"), clicks),
            f"## Window ({minutes[0]} minutes, sliding by {minutes[1]}, per geo and platform)",
            "`window_start`, `window_end`, `geo`, `platform`, and:",
            _table(("feature", "type", "unit", "range", "aggregate over the clicks"), features),
            "## Topics",
            _table(("topic", "partitions", "kept"), kept) + "\n",
        ]
    )


def readme() -> str:
    """README.md with its derived parts made anew."""
    text = (ROOT / "README.md").read_text()
    for name, made in (("settings", settings_table), ("ports", ports_table)):
        text = re.sub(
            rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)",
            lambda _, made=made: f"{made()}\n",
            text,
            flags=re.DOTALL,
        )
    return text


PAGES: Final[dict[str, Callable[[], str]]] = {
    ".env.example": env_example,
    drawings.PAGE: drawings.architecture,
    "docs/dags.md": dags_page,
    "docs/images/assets.svg": dag_graph.picture,
    "docs/schemas.md": schemas_page,
    "README.md": readme,
}


def write() -> None:
    """Bring every page up to date."""
    for name, made in PAGES.items():
        (ROOT / name).write_text(made())


def _settings() -> Iterable[tuple[str, str, str]]:
    """(VARIABLE, default as text, meaning) of every setting."""
    defaults = Defaults(**{name.lower(): "generated" for name in SECRETS})
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
    """The text of one DAG, its title one level down and with the DAG's id."""
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
