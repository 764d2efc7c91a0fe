"""The Python sources as the tests of the house read them: path, text, syntax tree."""

import ast
from pathlib import Path
from typing import NamedTuple

import pytest

from adnomaly.settings import ROOT

FOLDERS = ("include", "streaming", "serving", "plugins", "dags")
"""Code of the system, without its tests."""


class Source(NamedTuple):
    """One Python file; `name` is its path below the checkout."""

    name: str
    text: str
    tree: ast.Module

    @classmethod
    def read(cls, file: Path) -> "Source":
        text = file.read_text()
        return cls(str(file.relative_to(ROOT)), text, ast.parse(text))


def read(*folders: str) -> list[Source]:
    files = [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]
    return [Source.read(file) for file in files]


@pytest.fixture(scope="session")
def code() -> list[Source]:
    """Every Python file of the system."""
    return read(*FOLDERS)


@pytest.fixture(scope="session")
def tests() -> list[Source]:
    """Every Python file of the tests."""
    return read("tests")
