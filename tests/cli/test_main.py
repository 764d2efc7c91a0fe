"""The command `adnomaly` as a process: its output and files."""

import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROW = re.compile(r"^trained on ([\d,]+) windows of 6 entities, 12\.0 days of ")


def adnomaly(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "adnomaly.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def history(tmp_path_factory, offline) -> Path:
    file = tmp_path_factory.mktemp("windows") / "history.parquet"
    pq.write_table(offline.windows, file)
    return file


def test_train_seals_a_bundle_and_prints_its_thresholds(history, tmp_path):
    bundle = tmp_path / "bundle"
    done = adnomaly("train", "--windows", history, "--bundle", bundle)
    assert done.returncode == 0, done.stderr
    trained, *feature_sets, sealed = done.stdout.splitlines()
    rows = ROW.match(trained)
    assert rows and int(rows[1].replace(",", "")) == pq.read_metadata(history).num_rows
    assert trained.endswith(
        "5-minute windows every 1 minutes, against the week before each window"
    ) or trained.endswith("5-minute windows every 1 minutes, against a table of 48 slots")
    contract, all_features = feature_sets
    assert re.fullmatch(
        r"feature set contract: ctr_avg, bounce_rate_avg, event_count; "
        r"threshold \d+\.\d\d for 1 false incidents a day",
        contract,
    )
    assert re.fullmatch(
        r"feature set all: .*unique_user_ratio, campaign_top_share; "
        r"threshold \d+\.\d\d for 1 false incidents a day",
        all_features,
    )
    assert sealed == (
        f"sealed in {bundle}. Next: adnomaly score --bundle {bundle} "
        "--windows LIVE.parquet --out SCORES.parquet"
    )
    assert {"model.onnx", "card.json", "manifest.json"} <= {f.name for f in bundle.iterdir()}


def test_an_input_error_is_one_line_and_exit_code_2(tmp_path):
    done = adnomaly("train", "--windows", tmp_path / "none.parquet", "--bundle", tmp_path / "b")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert done.stdout == ""
