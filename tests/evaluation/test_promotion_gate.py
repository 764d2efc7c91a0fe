"""Bad models with a valid manifest: the promotion gate refuses each for its own reason."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

from adnomaly.bundle import bundle as sealed
from adnomaly.bundle.contents import build_card, build_files
from adnomaly.detector.detector import Detector
from adnomaly.detector.grid import Cadence, to_grid
from adnomaly.detector.spec import Spec
from adnomaly.detector.windows import Windows
from adnomaly.errors import BundleRejected
from adnomaly.evaluation import backtest
from adnomaly.evaluation.gate_checks import Thresholds
from adnomaly.evaluation.promotion_gate import GateDecision, decide, expected_thresholds
from adnomaly.pipelines import train_detector as pipeline
from adnomaly.pipelines._training_run import TrainingRun
from adnomaly.scoring.rows import RowScorer
from adnomaly.synthetic.attacks import plan_attacks
from adnomaly.synthetic.windows import simulate_windows
from tests.bundle.test_bundle import resealed
from tests.conftest import NOON, TRAIN_DAYS, TableOfWindows

SEED = 7
Attributes = dict[str, onnx.AttributeProto]


@pytest.fixture(scope="module")
def traffic(small_traffic):
    return small_traffic.hard()


@pytest.fixture(scope="module")
def work(traffic, tmp_path_factory) -> TrainingRun:
    """Trained and evaluated on the hard scenario."""
    offline = TableOfWindows(
        simulate_windows(traffic, NOON - timedelta(days=TRAIN_DAYS), TRAIN_DAYS, 1)
    )
    folder = pipeline.take_sample(
        offline,
        tmp_path_factory.mktemp("hard") / "run",
        seed=SEED,
        budget_per_day=1.0,
        train_days=TRAIN_DAYS,
    )
    pipeline.fit(folder)
    pipeline.evaluate(folder, traffic, days=5)
    pipeline.seal(folder)
    return TrainingRun(folder)


@pytest.fixture(scope="module")
def files(work) -> dict[str, bytes]:
    return {name: (work.bundle / name).read_bytes() for name in sealed.FILES}


@pytest.fixture
def decided(work, files, tmp_path) -> Callable[..., GateDecision]:
    """The decision about the good bundle with replaced files and matching sentinels."""

    def decide_on(
        *, champion: Path | None = None, min_days: float = 0, **changed: bytes
    ) -> GateDecision:
        made = files | {
            name.replace("_onnx", ".onnx").replace("_json", ".json"): data
            for name, data in changed.items()
        }
        return offered(
            work, with_own_sentinels(tmp_path, made), champion=champion, min_days=min_days
        )

    return decide_on


def offered(work: TrainingRun, candidate: Path, **more) -> GateDecision:
    return decide(
        candidate,
        work.backtest_set,
        work.reference_metrics,
        thresholds=thresholds_of(work.windows),
        **more,
    )


@cache
def thresholds_by_size(rows: int, total: float) -> dict[str, Thresholds]:
    """Computed once per set of windows."""
    return {}


def thresholds_of(windows: Windows) -> Thresholds:
    known = thresholds_by_size(len(windows), float(np.nansum(windows.values)))
    if not known:
        known["found"] = expected_thresholds(windows, budget_per_day=1.0, seed=SEED)
    return known["found"]


def with_own_sentinels(folder: Path, files: dict[str, bytes]) -> Path:
    """Sealed with sentinels that agree with the model: they detect changes, not bad models."""
    sentinels = json.loads(files["sentinels.json"])
    answers = RowScorer(sealed.Bundle.of("draft", files)).score_rows([s["row"] for s in sentinels])
    for sentinel, answer in zip(sentinels, answers, strict=True):
        sentinel |= {"score": answer.anomaly_score, "is_anomaly": answer.is_anomaly}
    return sealed.seal(
        folder / "candidates", files | {"sentinels.json": json.dumps(sentinels).encode()}
    )


def trained_on(folder: Path, windows: Windows) -> Path:
    """A bundle trained on other windows, unaltered."""
    grid, _ = to_grid(windows, Cadence.of(windows))
    detector = Detector.fit(grid, Spec.ours(), budget_per_day=1.0, seed=SEED, seasonal=True)
    card = build_card(detector, grid, len(windows), 1.0, SEED)
    return sealed.seal(folder / "candidates", build_files(detector, grid, card, 1.0, seed=SEED))


def failed(decision: GateDecision) -> str:
    assert not decision.promoted
    return ", ".join(check.name for check in decision.failed)


def edited(model: bytes, change: Callable[[Attributes], None]) -> bytes:
    made = onnx.load_from_string(model)
    change({a.name: a for a in made.graph.node[0].attribute})
    return made.SerializeToString()


def both(files: dict[str, bytes], change: Callable[[Attributes], None]) -> dict[str, bytes]:
    return {
        name.replace(".onnx", "_onnx"): edited(files[name], change)
        for name in sealed.MODEL_FILES.values()
    }


def test_a_good_model_is_promoted_with_all_its_metrics(decided):
    decision = decided(min_days=7)
    assert decision.promoted, decision.refusals
    assert len(decision.checks) >= 20
    assert all(check.limit for check in decision.checks)
    assert str(decision).count("passed  ") == len(decision.checks)


def test_1_a_constant_model(decided, files):
    """The same score for every window."""

    def flat(attributes: Attributes) -> None:
        attributes["target_weights"].floats[:] = [8.0] * len(attributes["target_weights"].floats)

    raw = json.loads(files["preprocess.json"])
    for whitening in raw["axes"].values():
        zeros = np.zeros_like(np.array(whitening["whiten"])).tolist()
        whitening |= {"whiten": zeros, "spread": 1e300}
    decision = decided(preprocess_json=json.dumps(raw).encode(), **both(files, flat))
    assert "distinct scores" in failed(decision)


def test_2_an_inverted_model(decided, files):
    """Long paths give high scores and outliers low ones."""

    def turned(attributes: Attributes) -> None:
        weights = np.array(attributes["target_weights"].floats)
        attributes["target_weights"].floats[:] = (40 * (weights.max() - weights)).tolist()

    assert failed(decided(**both(files, turned)))


def test_3_a_label_in_place_of_the_score(files, work, tmp_path):
    """Two values, one for each class, as the first output of the stock conversion has them."""

    def label(attributes: Attributes) -> None:
        leaves = np.array(attributes["target_weights"].floats)
        attributes["target_weights"].floats[:] = np.where(
            leaves < np.median(leaves), 0.0, 40.0
        ).tolist()

    models = {name: edited(files[name], label) for name in sealed.MODEL_FILES.values()}
    decision = offered(work, sealed.seal(tmp_path, files | models))
    assert failed(decision) == "loads"
    assert "sentinel" in decision.refusals[0]
    assert failed(offered(work, with_own_sentinels(tmp_path, files | models)))


def test_4_shuffled_columns_of_the_baseline(decided, files):
    """Bounce rates are compared with the expected CTR."""
    raw = json.loads(files["preprocess.json"])
    for name in ("center", "noise", "pooled"):
        array = np.array(raw["usual"][name], float)
        order = [1, 0, 2, 3, 4]
        raw["usual"][name] = (
            array[:, order]
            if name == "noise"
            else array[order]
            if name == "pooled"
            else array[..., order]
        ).tolist()
    assert failed(decided(preprocess_json=json.dumps(raw).encode()))


def test_5_features_swapped_at_serving(decided, files):
    """The model reads the first column of a request as the bounce rate."""
    raw = json.loads(files["preprocess.json"])
    first, second, *rest = raw["spec"]["measures"]
    raw["spec"]["measures"] = [second, first, *rest]
    with pytest.raises(BundleRejected, match="has the features bounce_rate_avg, ctr_avg, "):
        decided(preprocess_json=json.dumps(raw).encode())
    raw = json.loads(files["preprocess.json"])
    raw["axes"]["all"]["columns"] = [1, 0, 2, 4, 3]
    raw["axes"]["contract"]["columns"] = [2, 1, 0]
    assert failed(decided(preprocess_json=json.dumps(raw).encode()))


def test_6_shuffled_columns_of_the_model_fail_the_sentinels_of_the_forest(files, work, tmp_path):
    """Only sentinels of the forest reveal it.

    The coordinates have similar distributions, so no metric changes.
    """

    def shuffled(attributes: Attributes) -> None:
        order = {0: 1, 1: 2, 2: 0}
        attributes["nodes_featureids"].ints[:] = [
            order.get(i, i) for i in attributes["nodes_featureids"].ints
        ]

    candidate = sealed.seal(tmp_path, files | {"model.onnx": edited(files["model.onnx"], shuffled)})
    decision = offered(work, candidate)
    assert failed(decision) == "loads"
    assert "sentinel" in decision.refusals[0]


@pytest.mark.parametrize("raw_score", [None, 40.0])
def test_7_a_threshold_that_is_none_or_ten_times_too_high(files, work, tmp_path, raw_score):
    """It cannot be sealed, and is refused when forged."""
    raw = json.loads(files["threshold.json"])
    raw["limits"]["all"]["course"]["height"] = raw_score
    spoilt = json.dumps(raw).encode()
    with pytest.raises(BundleRejected, match=r"threshold\.json"):
        sealed.seal(tmp_path / "sealed", files | {"threshold.json": spoilt})
    forged = tmp_path / "forged" / work.bundle.name
    forged.mkdir(parents=True)
    for name, data in files.items():
        (forged / name).write_bytes(data)
    decision = offered(work, resealed(forged, threshold_json=spoilt))
    assert failed(decision) == "loads"
    assert "threshold" in decision.refusals[0]


@pytest.mark.parametrize("factor", [0.9, 1.1])
@pytest.mark.parametrize(
    ("feature_set", "how"),
    [("all", "course"), ("contract", "course"), ("all", "entity"), ("contract", "global")],
)
def test_8_a_threshold_off_by_10_percent(decided, files, feature_set, how, factor):
    raw = json.loads(files["threshold.json"])
    raw["limits"][feature_set][how]["height"] *= factor
    assert (
        failed(decided(threshold_json=json.dumps(raw).encode()))
        == f"threshold of the feature set {feature_set}, {how}"
    )


def test_9_a_budget_that_nobody_asked_for(decided, files):
    raw = json.loads(files["threshold.json"])
    raw["budget_per_day"] = 100.0
    assert "budget of false incidents a day" in failed(
        decided(threshold_json=json.dumps(raw).encode())
    )


def test_10_a_corrupt_file(work, tmp_path):
    spoilt = tmp_path / work.bundle.name
    spoilt.mkdir()
    for path in work.bundle.iterdir():
        (spoilt / path.name).write_bytes(path.read_bytes())
    (spoilt / "model.onnx").write_bytes((work.bundle / "model.onnx").read_bytes()[:-1000])
    decision = offered(work, spoilt)
    assert failed(decision) == "loads"
    assert "model.onnx" in decision.refusals[0]


def test_11_hardly_any_history(decided):
    assert failed(decided(min_days=12.6)) == "days of training data"


def test_12_another_platforms_entities(decided, files):
    raw = json.loads(files["preprocess.json"])
    raw["names"] = [
        name.replace("US", "XX").replace("DE", "YY").replace("BR", "ZZ") for name in raw["names"]
    ]
    assert "entities that it knows" in failed(decided(preprocess_json=json.dumps(raw).encode()))


def test_13_another_geos_data(work, tmp_path):
    """The rows of each geo came under the name of another."""
    past = work.windows
    moved = {"US": "DE", "DE": "BR", "BR": "US"}
    names = [f"{moved[name[:2]]}{name[2:]}" for name in past.names]
    order = np.argsort(names)
    place = np.empty(len(names), np.int64)
    place[order] = np.arange(len(names))
    other = Windows(tuple(names[i] for i in order), place[past.entity], *past[2:])
    assert failed(offered(work, trained_on(tmp_path, other)))


def test_14_poisoned_windows(work, traffic, tmp_path):
    """An attacker who knows the training time attacked half of the time before."""
    start = NOON - timedelta(days=TRAIN_DAYS)
    kinds = ["click_flood", "bot_farm"]
    attacks = plan_attacks(
        traffic,
        start=start,
        end=NOON,
        count=700,
        seed=3,
        kinds=kinds,
        strengths=(1.0, 1.5),
        gap=timedelta(minutes=5),
    )
    from adnomaly.detector.windows import from_table

    poisoned = from_table(simulate_windows(traffic, start, TRAIN_DAYS, 1, attacks), Spec.ours())
    assert failed(offered(work, trained_on(tmp_path, poisoned)))
    # Also when the gate knows no other windows:
    blind = replace_past(work, poisoned)
    against = decide(
        trained_on(tmp_path, poisoned),
        blind,
        work.reference_metrics,
        thresholds=thresholds_of(poisoned),
        champion=work.bundle,
    )
    assert (
        "champion" in failed(against) or "recall" in failed(against) or "pr_auc" in failed(against)
    )


def replace_past(work: TrainingRun, past: Windows) -> backtest.BacktestSet:
    return work.backtest_set._replace(past=past)


def test_15_stale_training_data(work, traffic, tmp_path):
    start = NOON - timedelta(days=60)
    from adnomaly.detector.windows import from_table

    old = from_table(simulate_windows(traffic, start, TRAIN_DAYS, 1), Spec.ours())
    assert "days between its last window" in failed(offered(work, trained_on(tmp_path, old)))


def test_16_worse_than_the_champion(decided, files, work):
    """Its whitening ignores correlations: better than chance, worse than the champion."""
    raw = json.loads(files["preprocess.json"])
    for whitening in raw["axes"].values():
        whiten = np.array(whitening["whiten"])
        whitening["whiten"] = (np.diag([1.0] + [0.05] * (len(whiten) - 1)) @ whiten).tolist()
        whitening["spread"] *= 20
    spoilt = json.dumps(raw).encode()
    against = decided(preprocess_json=spoilt, champion=work.bundle)
    assert against.against == work.bundle.name
    assert "against the champion" in failed(against)


def test_the_champion_itself_is_no_worse_than_itself(decided, work):
    decision = decided(champion=work.bundle)
    assert decision.promoted
    assert "recall_per_day against the champion" in [check.name for check in decision.checks]
    assert decision.champion is not None


def test_a_champion_that_no_longer_loads_is_ignored(decided, tmp_path):
    (tmp_path / "gone").mkdir()
    decision = decided(champion=tmp_path / "gone")
    assert decision.promoted
    assert decision.against is None


def test_the_holdout_has_the_rate_of_the_windows(work, traffic, tmp_path):
    from adnomaly.evaluation.holdout import build_holdout, load_holdout

    build_holdout(
        tmp_path,
        replace(traffic, base_eps=3 * traffic.base_eps),
        work.windows,
        NOON,
        seed=SEED,
        days=1,
    )
    volume = Spec.ours().volume
    alike = (
        load_holdout(tmp_path, work.windows).live.values[:, volume].mean()
        / work.windows.values[:, volume].mean()
    )
    assert 0.7 < alike < 1.4
