"""The recipe "Add a feature" of docs/contributing.md, carried out on a copy of the tree.

Two edits: an entry in `FEATURES` and a function in `synthetic/windows.py`. Everything else follows.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from adnomaly.settings import ROOT

COPIED = ("include/adnomaly", "include/feature_repo", "include/sql", "streaming", "serving")

ENTRY = """    Feature(
        "cpc_avg", "float64", "currency per click", 0, None, "AVG(cpc)", label="cost per click"
    ),
"""
FUNCTION = '''def cpc_avg(simulation: Simulation) -> Floats:
    """0.5 on average, with a standard deviation of 0.05."""
    return 0.5 + 0.05 * simulation.cells.noise[: len(simulation.clicks)]


'''

PROBE = Path(__file__).with_name("feature_probe.py")


@pytest.fixture(scope="module")
def probed(tmp_path_factory) -> dict:
    """Output of `feature_probe.py` in a copy of the tree with the feature `cpc_avg`."""
    tree = tmp_path_factory.mktemp("tree")
    for folder in COPIED:
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    _edit(tree / "include/adnomaly/features.py", r"(?=^\)\n\nCONTRACT\b)", ENTRY)
    simulated = tree / "include/adnomaly/synthetic/windows.py"
    _edit(simulated, r"(?=^SIMULATED\b)", FUNCTION)
    _edit(simulated, r"(?<=campaign_top_share)(?=,?\s*\)\n\})", ", cpc_avg")
    done = subprocess.run(
        [sys.executable, str(PROBE), str(tree / "work")],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": f"{tree / 'include'}:{tree}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert Path(found["root"]) == tree
    return found


def test_stream_and_batch_compute_it(probed):
    for script in ("stream_sql", "batch_sql"):
        assert "AVG(cpc) AS cpc_avg" in probed[script]


def test_a_window_of_the_stream_carries_it(probed):
    assert probed["decoded"] == 0.5


def test_feast_serves_it(probed):
    assert {"ctr_avg", "cpc_avg"} <= set(probed["feast"])


def test_offline_features_have_its_column(probed):
    assert "cpc_avg" in probed["offline_columns"]


def test_the_detector_trains_on_it(probed):
    assert probed["measures"]["cpc_avg"] == "level"


def test_simulated_windows_have_it(probed):
    low, high = probed["simulated_range"]
    assert 0 < low < 0.5 < high


def test_the_api_accepts_and_documents_it(probed):
    assert "cpc_avg" in probed["row_fields"]
    assert "cpc_avg" in probed["openapi_row"]


def test_an_unusual_value_raises_the_score_and_is_explained(probed):
    normal, unusual = probed["normal"], probed["unusual"]
    assert unusual["anomaly_score"] > normal["anomaly_score"]
    assert unusual["expected_cpc_avg"] == pytest.approx(0.5, abs=0.05)
    assert unusual["z_cpc_avg"] > 5
    assert unusual["share_cpc_avg"] > 0.5
    assert "cost per click above the expected (5 instead of" in probed["summary"]


def test_the_api_explains_it(probed):
    assert probed["answer"]["expected"]["cpc_avg"] == pytest.approx(0.5, abs=0.05)
    assert probed["answer"]["z"]["cpc_avg"] > 5


def _edit(file: Path, place: str, text: str) -> None:
    """Insert text at the only match of an empty pattern."""
    edited, count = re.subn(place, lambda _: text, file.read_text(), flags=re.MULTILINE)
    assert count == 1, f"{file}: {place} matches {count} times; adapt contributing.md and this test"
    file.write_text(edited)
