"""A bundle is complete and unchanged, or refused by name; readers never see a part of one."""

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from adnomaly.bundle import bundle as sealed
from adnomaly.errors import BundleRejected
from adnomaly.scoring.rows import RowScorer


@pytest.fixture
def copy(bundle, tmp_path) -> Path:
    """A bundle that may be spoilt."""
    return Path(shutil.copytree(bundle, tmp_path / "bundles" / bundle.name))


def resealed(folder: Path, **files: bytes) -> Path:
    """The bundle with replaced files and a matching manifest, as an attacker could write it."""
    for name, data in files.items():
        (folder / name.replace("_", ".")).write_bytes(data)
    digests = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sealed.FILES
    }
    manifest = json.dumps({"format": sealed.FORMAT, "files": digests}).encode()
    (folder / "manifest.json").write_bytes(manifest)
    return folder.rename(folder.parent / hashlib.sha256(manifest).hexdigest()[:16])


def test_a_sealed_bundle_loads_and_knows_its_sentinels(bundle):
    scorer = RowScorer.load(bundle)
    scorer.check_sentinels()
    assert scorer.version == bundle.name
    assert scorer.card["features"]["all"] == list(scorer.features)
    assert scorer.card["features"]["contract"] == ["ctr_avg", "bounce_rate_avg", "event_count"]
    assert len(sealed.Bundle.load(bundle).sentinels) >= 40


@pytest.mark.parametrize("name", [*sorted(sealed.FILES), sealed.MANIFEST_FILE])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(BundleRejected, match=name):
        RowScorer.load(copy)


@pytest.mark.parametrize("name", [*sorted(sealed.FILES), sealed.MANIFEST_FILE])
def test_any_changed_byte_is_refused(copy, name):
    data = bytearray((copy / name).read_bytes())
    rng = np.random.default_rng(3)
    for position in rng.integers(0, len(data), 40):
        spoilt = data.copy()
        spoilt[position] ^= 1 << int(rng.integers(8))
        (copy / name).write_bytes(spoilt)
        with pytest.raises(BundleRejected):
            RowScorer.load(copy)


@pytest.mark.parametrize("name", [*sorted(sealed.FILES), sealed.MANIFEST_FILE])
def test_a_truncated_file_is_refused(copy, name):
    data = (copy / name).read_bytes()
    for kept in (0, 1, len(data) // 2, len(data) - 1):
        (copy / name).write_bytes(data[:kept])
        with pytest.raises(BundleRejected):
            RowScorer.load(copy)


def test_a_file_of_another_bundle_is_refused(copy):
    other = json.loads((copy / "threshold.json").read_bytes())
    other["limits"]["all"]["entity"]["height"] = 4.0
    (copy / "threshold.json").write_bytes(json.dumps(other).encode())
    with pytest.raises(BundleRejected, match=r"threshold\.json is not the file that was sealed"):
        RowScorer.load(copy)


def test_a_bundle_under_another_name_is_refused(copy):
    with pytest.raises(BundleRejected, match="belongs to version"):
        RowScorer.load(copy.rename(copy.parent / "0123456789abcdef"))


@pytest.mark.parametrize("threshold", [math.nan, math.inf, -0.1, 0.0, 36.0, "high", None])
def test_an_invalid_threshold_is_refused_though_the_manifest_fits(copy, threshold):
    raw = json.loads((copy / "threshold.json").read_bytes())
    raw["limits"]["all"]["global"]["height"] = threshold
    with pytest.raises(BundleRejected, match=r"threshold\.json.* is not valid"):
        RowScorer.load(resealed(copy, threshold_json=json.dumps(raw).encode()))


@pytest.mark.parametrize(
    "spoil",
    [
        {"spec": {"entity": ["site"]}},
        {"usual": None},
        {"usual": {"kind": "other"}},
        {"axes": {}},
        {"cadence": [300]},
        {"memory": {"weights": []}},
    ],
)
def test_an_invalid_preprocess_file_is_refused_though_the_manifest_fits(copy, spoil):
    raw = json.loads((copy / "preprocess.json").read_bytes()) | spoil
    with pytest.raises(BundleRejected, match=r"preprocess\.json.* is not valid"):
        RowScorer.load(resealed(copy, preprocess_json=json.dumps(raw).encode()))


def foreign_models(model: bytes) -> dict[str, bytes]:
    """Models that a runtime might run, but that the export never writes."""
    other = onnx.load_from_string(model)
    other.graph.node.append(helper.make_node("Identity", ["anomaly_score"], ["again"]))
    outside = onnx.load_from_string(model)
    factor = outside.graph.initializer[0]
    factor.data_location = TensorProto.EXTERNAL
    factor.external_data.add(key="location", value="../../../etc/passwd")
    nested = onnx.load_from_string(model)
    nested.graph.node[1].attribute.append(
        helper.make_attribute("body", helper.make_graph([], "g", [], []))
    )
    functions = onnx.load_from_string(model)
    functions.functions.append(helper.make_function("ours", "f", ["x"], ["y"], [], []))
    padding = onnx.load_from_string(model)
    padding.doc_string = "x" * (16 * 1024 * 1024)
    models = {
        "other operator": other,
        "data outside": outside,
        "nested graph": nested,
        "functions": functions,
        "too large": padding,
    }
    return {name: made.SerializeToString() for name, made in models.items()} | {
        "no model": b"\x08" * 100,
        "empty": b"",
    }


@pytest.mark.parametrize(
    "what",
    [
        "other operator",
        "data outside",
        "nested graph",
        "functions",
        "too large",
        "no model",
        "empty",
    ],
)
def test_a_foreign_model_is_refused_though_the_manifest_fits(copy, what):
    model = foreign_models((copy / "model.onnx").read_bytes())[what]
    with pytest.raises(BundleRejected, match=r"model\.onnx"):
        RowScorer.load(resealed(copy, model_onnx=model))


@pytest.mark.parametrize("name", ["model", "model_all", "baseline", "whitening", "threshold"])
def test_sentinels_notice_any_other_part(copy, name):
    bundle = sealed.Bundle.load(copy)
    detector = bundle.detector
    if name.startswith("model"):
        feature_set = "all" if name == "model_all" else "contract"
        changed = onnx.load_from_string(detector.feature_sets[feature_set].model)
        weights = next(a for a in changed.graph.node[0].attribute if a.name == "target_weights")
        weights.floats[:] = [1.02 * weight for weight in weights.floats]
        detector.feature_sets[feature_set] = detector.feature_sets[feature_set]._replace(
            model=changed.SerializeToString()
        )
    elif name == "baseline":
        detector.baseline.pooled[0, 0] += 0.1
    elif name == "whitening":
        feature_set = detector.feature_sets["all"]
        detector.feature_sets["all"] = feature_set._replace(
            whitening=feature_set.whitening._replace(whiten=feature_set.whitening.whiten[::-1])
        )
    else:
        feature_set = detector.feature_sets["all"]
        thresholds = feature_set.thresholds | {
            "entity": feature_set.thresholds["entity"]._replace(
                raw_score=1.02 * feature_set.thresholds["entity"].raw_score
            )
        }
        detector.feature_sets["all"] = feature_set._replace(thresholds=thresholds)
    with pytest.raises(BundleRejected, match="sentinel"):
        RowScorer(bundle).check_sentinels()


def test_a_bundle_without_sentinels_is_refused(bundle):
    with pytest.raises(BundleRejected, match="holds no rows"):
        RowScorer(sealed.Bundle.load(bundle)._replace(sentinels=[])).check_sentinels()


def test_sealing_the_same_files_again_changes_nothing(bundle, tmp_path):
    files = {name: (bundle / name).read_bytes() for name in sealed.FILES}
    first = sealed.seal(tmp_path, files)
    before = {path.name: path.stat().st_mtime_ns for path in first.iterdir()}
    assert sealed.seal(tmp_path, files) == first
    assert {path.name: path.stat().st_mtime_ns for path in first.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == [bundle.name]


def test_sealing_needs_exactly_the_files_of_a_bundle(bundle, tmp_path):
    files = {name: (bundle / name).read_bytes() for name in sealed.FILES}
    with pytest.raises(BundleRejected, match="holds"):
        sealed.seal(tmp_path, files | {"evil.py": b""})
    with pytest.raises(BundleRejected, match="holds"):
        sealed.seal(tmp_path, {"model.onnx": b""})
    assert not list(tmp_path.iterdir())


def test_importing_heals_a_bundle_that_a_crash_left_broken(bundle, tmp_path):
    broken = tmp_path / bundle.name
    broken.mkdir()
    (broken / "model.onnx").write_bytes(b"half of it")
    assert sealed.import_bundle(tmp_path, bundle) == broken
    RowScorer.load(broken).check_sentinels()


def test_a_killed_writer_leaves_nothing_that_looks_like_a_bundle(bundle, tmp_path):
    """SIGKILL at many moments of sealing: there is a complete bundle of this version, or none."""
    code = (
        "import sys, pathlib; from adnomaly.bundle import bundle as s; source, to = map(pathlib.Path, sys.argv[1:]);"
        "files = {n: (source / n).read_bytes() for n in s.FILES}; print('go', flush=True);"
        "[s.seal(to / str(i), files) for i in range(10**6)]"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(bundle), str(tmp_path)], stdout=subprocess.PIPE
    )
    assert writer.stdout.readline() == b"go\n"
    time.sleep(0.3)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    folders = [path for path in tmp_path.glob("*/*") if not path.name.startswith(".")]
    assert folders
    for folder in folders:
        RowScorer.load(folder)
