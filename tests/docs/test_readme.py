"""Commands, links and paths in the README and below docs/ exist."""

import re

import pytest

from adnomaly.settings import ROOT

README = (ROOT / "README.md").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
FOLDERS = ("dags", "docs", "include", "plugins", "serving", "streaming", "tests")
PROMISED = [
    "up",
    "down",
    "create-topic",
    "gen",
    "tail",
    "db-consumer",
    "minio-consumer",
    "tail-features",
    "feast-apply",
    "feast-backfill",
    "feast-ingestor",
    "feast-test",
    "build-ds",
    "train-model",
    "eval-model",
    "export-onnx",
    "serve",
    "db-query",
    "flink-submit",
    "test",
]


def test_every_command_named_in_the_readme_is_a_target():
    assert set(re.findall(r"(?:`|^|\()make (?:-s )?([a-z-]+)", README, re.MULTILINE)) <= TARGETS


@pytest.mark.parametrize("target", PROMISED)
def test_every_promised_command_exists_and_is_explained(target):
    assert target in TARGETS
    assert f"make {target}" in README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    links = [link for link in re.findall(r"\]\(([^)#]+)", page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_in_backticks_exists(page):
    """Such as `streaming/store_clicks.py`; of `dags/<name>.py` the folder."""
    named = re.findall(rf"`((?:{'|'.join(FOLDERS)})/[^`\s]*)`", page.read_text())
    paths = [
        name if "<" not in name else name.partition("<")[0].rpartition("/")[0] for name in named
    ]
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_tree_shows_every_folder_at_the_top():
    made = set((ROOT / ".gitignore").read_text().replace("/", "").split())
    folders = {
        path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")
    } - made
    assert {folder for folder in folders if f"\n{folder}/" not in README} == set()


def test_the_demos_lines_are_those_that_it_prints():
    """Each line of the shown output begins as a text of the code."""
    block = README.partition("The main lines of the output:")[2].split("```")[1]
    shown = [re.split(r"\d|DE web", line.partition("== ")[2])[0] for line in block.splitlines()]
    code = "".join(path.read_text() for path in (ROOT / "include" / "stack" / "demo").glob("*.py"))
    steps = [text.strip() for text in shown if text.strip()]
    assert len(steps) >= 6
    assert [text for text in steps if text not in code] == []
