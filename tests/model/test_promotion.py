"""Bad models that were really made, sealed with a manifest that fits, and offered for promotion: each is refused for its reason."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from sklearn.ensemble import IsolationForest

from adnomaly.errors import BundleRejected
from adnomaly.model import bundle as sealed
from adnomaly.model.export import export_forest
from adnomaly.model.preprocess import Baseline
from adnomaly.model.promotion import Decision, decide
from adnomaly.model.session import open_session, run
from adnomaly.model.train import fit_forest
from adnomaly.pipelines.workfolder import TRAIN, WorkFolder
from tests.model.test_bundle import resealed


@pytest.fixture(scope="module")
def work(trained) -> WorkFolder:
    return WorkFolder(trained)


@pytest.fixture(scope="module")
def files(bundle) -> dict[str, bytes]:
    return {name: (bundle / name).read_bytes() for name in sealed.FILES}


@pytest.fixture
def judged(work, files, tmp_path) -> Callable[..., Decision]:
    """The decision about the good bundle with some files replaced, and with sentinels that fit what it now answers."""

    def judge(*, champion: Path | None = None, least_days: float = 0, **changed: bytes) -> Decision:
        made = files | {name.replace("_", "."): data for name, data in changed.items()}
        return decide(_sealed(tmp_path, made), work.trial, work.rivals, champion=champion, least_days=least_days)

    return judge


def _sealed(folder: Path, files: dict[str, bytes]) -> Path:
    """Sealed with sentinels that agree with the model, however bad it is: they protect against changes, not against bad models."""
    sentinels = json.loads(files["sentinels.json"])
    session, thresholds = open_session(files["model.onnx"]), json.loads(files["threshold.json"])
    baseline = Baseline.from_json(json.loads(files["preprocess.json"]))
    for sentinel in sentinels:
        residual = baseline.residual(sentinel["row"])
        sentinel["score"] = float(run(session, np.array([residual.z], np.float32))[0])
        sentinel["is_anomaly"] = sentinel["score"] >= thresholds["entity" if residual.known else "global"]["threshold"]
    return sealed.seal(folder / "candidates", files | {"sentinels.json": json.dumps(sentinels).encode()})


def failed(decision: Decision) -> str:
    assert not decision.promoted
    return ", ".join(check.name for check in decision.failed)


def edited(model: bytes, change: Callable[[dict, onnx.ModelProto], None]) -> bytes:
    made = onnx.load_from_string(model)
    change({a.name: a for a in made.graph.node[0].attribute}, made)
    return made.SerializeToString()


def test_a_good_model_is_promoted_with_all_its_figures(judged):
    decision = judged(least_days=7)
    assert decision.promoted, decision.refusals
    assert len(decision.checks) >= 12
    assert all(check.limit for check in decision.checks)


def test_a_constant_model_is_refused(judged, files):
    def flat(attributes, _):
        weights = attributes["target_weights"].floats
        attributes["target_weights"].floats[:] = [8.0] * len(weights)

    assert "distinct scores" in failed(judged(model_onnx=edited(files["model.onnx"], flat)))


def test_an_inverted_model_is_refused(judged, files):
    """Long paths give high scores: what is normal looks anomalous."""

    def turned(attributes, _):
        weights = np.array(attributes["target_weights"].floats)
        attributes["target_weights"].floats[:] = (weights.max() + weights.min() - weights).tolist()

    assert "roc_auc" in failed(judged(model_onnx=edited(files["model.onnx"], turned)))


def test_a_label_in_place_of_the_score_is_refused(judged, files, work):
    """Two values, one for each class, as the first output of the stock conversion has them."""
    residuals, _ = work.baseline.residuals(work.windows(TRAIN))
    outside = np.abs(residuals).max(axis=1) > 4
    stump = IsolationForest(n_estimators=1, max_samples=256, random_state=1).fit(residuals[:1000])

    def label(attributes, _):
        leaves = np.array(attributes["target_weights"].floats)
        attributes["target_weights"].floats[:] = np.where(leaves < np.median(leaves), 2.0, 9.0).tolist()

    assert outside.any()
    assert "distinct scores" in failed(judged(model_onnx=edited(export_forest(stump), label)))


def test_shuffled_columns_of_the_baseline_are_refused(judged, files):
    """Bounce rates are compared with what is expected of CTR."""
    raw = json.loads(files["preprocess.json"])
    for name in ("center", "scale", "pooled_center", "pooled_scale"):
        raw[name] = np.array(raw[name])[..., [1, 0, 2]].tolist()
    assert failed(judged(preprocess_json=json.dumps(raw).encode()))


def test_shuffled_columns_of_the_model_fail_the_sentinels_of_the_forest(files, work, tmp_path):
    """Residuals are much alike in all directions, so no figure would show it; the forest's own answers do."""

    def shuffled(attributes, _):
        order = {0: 1, 1: 2, 2: 0}
        attributes["nodes_featureids"].ints[:] = [order[i] for i in attributes["nodes_featureids"].ints]

    candidate = sealed.seal(tmp_path, files | {"model.onnx": edited(files["model.onnx"], shuffled)})
    decision = decide(candidate, work.trial, work.rivals)
    assert failed(decision) == "loads"
    assert "sentinel" in decision.refusals[0]


@pytest.mark.parametrize("threshold", [math.nan, 5.0])
def test_a_threshold_that_is_none_or_ten_times_too_high_cannot_be_sealed_and_is_refused_when_forged(
    bundle, files, work, tmp_path, threshold
):
    raw = json.loads(files["threshold.json"])
    raw["entity"]["threshold"] = threshold
    spoilt = json.dumps(raw).encode()
    with pytest.raises(BundleRejected, match=r"threshold\.json"):
        sealed.seal(tmp_path / "sealed", files | {"threshold.json": spoilt})
    forged = tmp_path / "forged" / bundle.name
    forged.mkdir(parents=True)
    for name, data in files.items():
        (forged / name).write_bytes(data)
    decision = decide(resealed(forged, threshold_json=spoilt), work.trial, work.rivals)
    assert failed(decision) == "loads"
    assert "threshold" in decision.refusals[0]


@pytest.mark.parametrize(("threshold", "why"), [(0.45, "false incidents a day, entity baseline"), (0.95, "recall at the threshold")])
def test_a_threshold_that_floods_or_hides_is_refused(judged, files, threshold, why):
    raw = json.loads(files["threshold.json"])
    raw["entity"]["threshold"] = threshold
    assert why in failed(judged(threshold_json=json.dumps(raw).encode()))


def test_a_corrupt_file_is_refused(bundle, work, tmp_path):
    spoilt = tmp_path / bundle.name
    spoilt.mkdir()
    for path in bundle.iterdir():
        (spoilt / path.name).write_bytes(path.read_bytes())
    (spoilt / "model.onnx").write_bytes((bundle / "model.onnx").read_bytes()[:-1000])
    decision = decide(spoilt, work.trial, work.rivals)
    assert failed(decision) == "loads"
    assert "model.onnx" in decision.refusals[0]


def test_a_model_of_hardly_any_history_is_refused(judged):
    assert failed(judged(least_days=12.6)) == "days of training data"


def test_a_model_of_another_platforms_traffic_is_refused(judged, files):
    raw = json.loads(files["preprocess.json"])
    raw["entities"] = [name.replace("US", "XX").replace("DE", "YY").replace("BR", "ZZ") for name in raw["entities"]]
    assert "baseline of their own" in failed(judged(preprocess_json=json.dumps(raw).encode()))


def test_a_model_that_is_worse_than_the_champion_is_refused(judged, bundle, work):
    """It was fitted on attacks as if they were normal, and on few of them."""
    residuals, _ = work.baseline.residuals(work.trial.windows)
    taught = fit_forest(residuals[work.trial.attack >= 0], seed=3)
    against_nothing = judged(model_onnx=export_forest(taught))
    against_champion = judged(model_onnx=export_forest(taught), champion=bundle)
    assert not against_nothing.promoted
    assert against_champion.against == bundle.name
    assert not against_champion.promoted


def test_the_champion_itself_is_no_worse_than_itself(judged, bundle):
    decision = judged(champion=bundle)
    assert decision.promoted
    assert "recall at one false incident a day against the champion" in [check.name for check in decision.checks]


def test_a_champion_that_no_longer_loads_is_no_rival(judged, tmp_path):
    (tmp_path / "gone").mkdir()
    decision = judged(champion=tmp_path / "gone")
    assert decision.promoted
    assert decision.against is None
