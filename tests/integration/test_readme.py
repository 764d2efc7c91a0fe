"""Every command of the README and of docs/, typed as it stands there, on the test stack.

Only what a second stack needs is changed: ports, the home folder, the pace of a replay, and an end
for what runs until Ctrl-C. A block that is followed by its output must print that shape.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from adnomaly.settings import ROOT
from stack.ports import BASE

pytestmark = pytest.mark.integration

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```\n(?:\n```(json)?\n(.*?)^```\n)?", re.M | re.S)
PROGRAMS = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
NOT_HERE = {
    "make demo": "takes ten minutes; test_dags.py runs its DAGs, and test_demo.py its steps",
    "make test": "is what runs this",
    "make down": "tests/run.sh ends with it",
    "make reset": "tests/run.sh begins with it",
}
"""Commands that no test can type, by their first words."""
UNTIL_STOPPED = ("make tail", "make logs")
EMPTY_FOLDER = ("example example", "replay.example")
"""Blocks with these words write below `example`: they run in an empty folder."""


class Block(NamedTuple):
    """A fenced block of commands, and the output shown after it."""

    page: Path
    language: str
    code: str
    kind: str
    output: str

    def __str__(self) -> str:
        return f"{self.page.name}: {self.code.splitlines()[0][:40]}"


BLOCKS = [
    Block(page, language, code, kind or "", output or "")
    for page in PAGES
    for language, code, kind, output in BLOCK.findall(page.read_text())
]


def typed(block: Block, settings) -> str:
    """The commands of a block for the test stack; empty when none is left."""
    lines = [
        line
        for line in block.code.splitlines()
        if not any(line.startswith(words) for words in NOT_HERE)
    ]
    code = "\n".join(
        # timeout exits with 124 when it had to end the command.
        f"timeout -s INT 8 {line.partition('  #')[0]} && false || [ $? = 124 ]"
        if line.startswith(UNTIL_STOPPED)
        else line
        for line in lines
    )
    for number in BASE.values():
        code = code.replace(f"localhost:{number}", f"localhost:{number + settings.port_offset}")
    code = re.sub(r"(?<![\w/])\.adnomaly/", f"{settings.adnomaly_home}/", code)
    return code.replace("--speed 1x", "--speed max").replace("\nmake ", f"\nmake -C {ROOT} ")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder in which `.venv/bin/...` works."""
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    return tmp_path


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_it_does_what_it_says(settings, served, folder, block):
    code = typed(block, settings)
    if not code:
        pytest.skip("; ".join(NOT_HERE[words] for words in NOT_HERE if words in block.code))
    here = folder if any(words in code for words in EMPTY_FOLDER) else ROOT
    done = subprocess.run(
        [*PROGRAMS[block.language], code],
        cwd=here,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.strip()
    if block.kind == "json":
        assert keys(json.loads(done.stdout)) == keys(json.loads(block.output))
    elif block.output:
        assert shape(done.stdout) == shape(block.output)


def keys(value: object) -> object:
    """The structure of a JSON value, without its values."""
    if isinstance(value, dict):
        return {name: keys(inner) for name, inner in value.items()}
    return [keys(inner) for inner in value[:1]] if isinstance(value, list) else None


def shape(text: str) -> str:
    """A text with its numbers, truth values and spaces levelled."""
    levelled = re.sub(r"\b(True|False)\b", "BOOL", re.sub(r"-?\d[\d,]*(\.\d+)?", "N", text))
    return " ".join(levelled.split())


def test_there_are_commands():
    assert len(BLOCKS) >= 8
    assert sum(bool(block.output) for block in BLOCKS) >= 2
