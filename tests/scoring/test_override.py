"""Serving three given files instead of the champion."""

import shutil
from pathlib import Path

import pytest

from adnomaly.errors import BundleRejected, InvalidSetting
from adnomaly.scoring.override import own_bundle
from adnomaly.scoring.rows import RowScorer

NAMES = {"model": "model.onnx", "preprocess": "preprocess.json", "threshold": "threshold.json"}


def test_three_files_become_a_bundle_that_scores_the_same(bundle: Path, tmp_path: Path):
    folder = own_bundle(tmp_path, **{name: bundle / file for name, file in NAMES.items()})
    scorer, original = RowScorer.load(folder), RowScorer.load(bundle)
    scorer.check_sentinels()
    row = {"ctr_avg": 0.03, "bounce_rate_avg": 0.4, "event_count": 50}
    assert scorer.score_rows([row]) == original.score_rows([row])
    assert scorer.version == folder.name != bundle.name


def test_none_of_them_is_no_override(tmp_path: Path):
    assert own_bundle(tmp_path, model=None, preprocess=None, threshold=None) is None


def test_some_of_them_is_a_mistake(bundle: Path, tmp_path: Path):
    with pytest.raises(InvalidSetting, match="belong together"):
        own_bundle(tmp_path, model=bundle / "model.onnx", preprocess=None, threshold=None)


@pytest.mark.parametrize("broken", NAMES)
def test_a_broken_file_is_refused(bundle: Path, tmp_path: Path, broken: str):
    paths = {name: tmp_path / file for name, file in NAMES.items()}
    for name, file in NAMES.items():
        shutil.copy(bundle / file, paths[name])
    paths[broken].write_bytes(b"{}")
    with pytest.raises(BundleRejected):
        own_bundle(tmp_path / "bundles", **paths)
