"""What the trained detector promises: its export is the forest, attacks stand out, words of a row that mean nothing change nothing."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest

from adnomaly.errors import BundleRejected
from adnomaly.model.columns import Columns
from adnomaly.model.export import PARITY_ROWS, check_parity, export_forest
from adnomaly.model.score import Scorer
from adnomaly.model.train import fit_forest, forest_scores, tail
from adnomaly.pipelines import train_detector as pipeline
from adnomaly.pipelines.workfolder import CALIBRATE, WorkFolder
from adnomaly.windows import time_text

FEATURES = ("ctr_avg", "bounce_rate_avg", "event_count")


@pytest.fixture(scope="module")
def work(trained) -> WorkFolder:
    return WorkFolder(trained)


@pytest.fixture(scope="module")
def scorer(bundle) -> Scorer:
    return Scorer.load(bundle)


@pytest.fixture(scope="module")
def rows(offline) -> list[dict]:
    """Normal windows as the service gets them."""
    table = offline.between(datetime(2026, 11, 20, 12, tzinfo=UTC), datetime(2026, 11, 21, 12, tzinfo=UTC))
    picked = table.take(np.random.default_rng(5).integers(0, table.num_rows, 400)).to_pylist()
    return [{**{k: r[k] for k in (*FEATURES, "geo", "platform")}, "timestamp": time_text(r["window_end"])} for r in picked]


def scores(scorer: Scorer, rows: list[dict]) -> np.ndarray:
    return np.array([scored.anomaly_score for scored in scorer.score_rows(rows)])


# The export


def test_the_export_is_the_forest_on_40_000_rows(work):
    residuals, _ = work.baseline.residuals(work.windows(CALIBRATE))
    parity = check_parity(work.forest, work.model, residuals, work.thresholds.entity.threshold, seed=1)
    assert (parity.rows, parity.flips) == (PARITY_ROWS, 0)
    assert parity.largest_difference <= 1e-6


def test_the_export_is_three_operators_on_pinned_opsets(work):
    model = onnx.load_from_string(work.model)
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["TreeEnsembleRegressor", "Mul", "Exp"]
    assert {o.domain: o.version for o in model.opset_import} == {"": 18, "ai.onnx.ml": 3}
    assert [out.name for out in model.graph.output] == ["anomaly_score"]


def test_parity_refuses_another_forest(work):
    residuals, _ = work.baseline.residuals(work.windows(CALIBRATE))
    other = export_forest(fit_forest(residuals, seed=99, trees=20))
    with pytest.raises(BundleRejected, match="differs from the forest"):
        check_parity(work.forest, other, residuals, 0.6, seed=1)


def test_parity_refuses_thresholds_that_were_rounded_up(work):
    """A row that lies exactly on a tree's threshold goes left; one digit more and it goes right."""
    residuals, _ = work.baseline.residuals(work.windows(CALIBRATE))
    model = onnx.load_from_string(work.model)
    values = next(a for a in model.graph.node[0].attribute if a.name == "nodes_values")
    up = np.nextafter(np.array(values.floats, np.float32), np.float32(np.inf))
    del values.floats[:]
    values.floats.extend(up.tolist())
    with pytest.raises(BundleRejected, match="differs from the forest"):
        check_parity(work.forest, model.SerializeToString(), residuals, 0.6, seed=1)


# Training


def test_equal_data_and_seed_give_an_equal_bundle(trained, offline, small_traffic, tmp_path):
    again = tmp_path / "run"
    folder = pipeline.take_sample(offline, again, seed=7, train_days=8, calibrate_days=4)
    for step in (pipeline.fit, lambda f: pipeline.calibrate(f, budget_per_day=1.0)):
        step(folder)
    pipeline.evaluate(folder, small_traffic, days=5)
    pipeline.seal(folder)
    assert WorkFolder(again).bundle.name == WorkFolder(trained).bundle.name


def test_tail_padding_reaches_beyond_the_data_and_has_both_signs():
    residuals = np.random.default_rng(1).normal(size=(20_000, 3)).astype(np.float32)
    padded = tail(residuals, np.random.default_rng(2))
    assert len(padded) == 600
    assert np.abs(padded).max() > 1.5 * np.abs(residuals).max()
    assert 0.4 < (padded > 0).mean() < 0.6


def test_a_huge_residual_scores_above_a_large_one(work):
    """What tail padding is for: a plain forest gives both the same score."""
    large, huge = np.array([[6, 0, 0]], np.float32), np.array([[25, 25, 25]], np.float32)
    assert forest_scores(work.forest, huge)[0] > forest_scores(work.forest, large)[0] + 0.02


# Direction and invariance


def test_normal_windows_are_hardly_ever_anomalous(scorer, rows):
    assert sum(scored.is_anomaly for scored in scorer.score_rows(rows)) <= 2


@pytest.mark.parametrize(
    "change",
    [
        lambda r: {"event_count": r["event_count"] * 5},
        lambda r: {"event_count": max(1, r["event_count"] // 5)},
        lambda r: {"bounce_rate_avg": min(1, r["bounce_rate_avg"] * 1.8)},
        lambda r: {"bounce_rate_avg": r["bounce_rate_avg"] * 0.4},
        lambda r: {"ctr_avg": r["ctr_avg"] * 2.5},
        lambda r: {"ctr_avg": r["ctr_avg"] * 0.3},
    ],
    ids=["flood", "silence", "bouncing", "sticking", "ctr up", "ctr down"],
)
def test_gross_changes_of_either_sign_are_anomalous(scorer, rows, change):
    before, after = scores(scorer, rows), scorer.score_rows([r | change(r) for r in rows])
    assert np.mean([scored.is_anomaly for scored in after]) > 0.97
    assert (np.array([scored.anomaly_score for scored in after]) > before).mean() > 0.99


def test_the_same_numbers_are_normal_for_one_entity_and_anomalous_for_another(scorer, rows):
    big = [r for r in rows if (r["geo"], r["platform"]) == ("US", "web")]
    swapped = [r | {"geo": "BR", "platform": "android"} for r in big]
    assert not any(s.is_anomaly for s in scorer.score_rows(big))
    assert all(s.is_anomaly for s in scorer.score_rows(swapped))


def test_the_same_numbers_are_normal_at_one_hour_and_anomalous_at_another(scorer, rows):
    evening = [r for r in rows if r["timestamp"][11:13] in ("19", "20")]
    morning = [r | {"timestamp": r["timestamp"][:11] + "08" + r["timestamp"][13:]} for r in evening]
    assert len(evening) > 10 and all(s.is_anomaly for s in scorer.score_rows(morning))


def test_a_row_scores_the_same_alone_in_company_and_in_any_order(scorer, rows):
    together = scores(scorer, rows)
    assert np.array_equal(scores(scorer, rows[::-1])[::-1], together)
    assert np.array_equal([scores(scorer, [r])[0] for r in rows], together)


def test_further_fields_and_the_week_of_the_year_change_nothing(scorer, rows):
    later = [r | {"timestamp": "2027-03" + r["timestamp"][7:], "unknown": 1} for r in rows if r["timestamp"].startswith("2026-11-20")]
    # 2026-11-20 and 2027-03-20 are a Friday and a Saturday; 2027-03-19 is the Friday.
    later = [r | {"timestamp": r["timestamp"].replace("-20T", "-19T")} for r in later]
    base = [r for r in rows if r["timestamp"].startswith("2026-11-20")]
    assert np.array_equal(scores(scorer, later), scores(scorer, base))


def test_rows_and_columns_have_the_same_scores(scorer, offline):
    table = offline.between(datetime(2026, 11, 21, tzinfo=UTC), datetime(2026, 11, 21, 2, tzinfo=UTC))
    as_rows = [{**r, "timestamp": time_text(r["window_end"])} for r in table.to_pylist()]
    assert np.array_equal(scorer.score_columns(Columns.of(table))[0], scores(scorer, as_rows).astype(np.float32))


def test_every_answer_explains_itself(scorer, rows):
    for scored in scorer.score_rows([rows[0], {k: rows[0][k] for k in FEATURES}]):
        assert set(scored.z) == set(scored.expected) == set(FEATURES)
        assert scored.is_anomaly == (scored.anomaly_score >= scored.threshold)
        assert 0 < scored.anomaly_score < 1
    assert [s.baseline for s in scorer.score_rows([rows[0], {k: rows[0][k] for k in FEATURES}])] == ["entity", "global"]


def test_no_rows_give_no_scores(scorer):
    assert scorer.score_rows([]) == []


# What it is worth


def test_it_finds_attacks_within_its_budget(work):
    found = work.evaluation
    assert found.attacks >= 70
    assert found.forest.roc_auc > 0.9
    assert found.entity.recall > 0.7
    assert found.detectors["random"].recall_per_day < 0.1
    assert found.detectors["always_on"].recall_per_day == 0
    assert found.forest.pr_auc > 0.9 * max(found.detectors[name].pr_auc for name in ("max_abs_z", "mahalanobis"))
    assert found.entity.quiet_incidents_per_day <= 2.5 * found.budget_per_day


def test_an_entity_of_its_own_is_worth_more_than_all_together(work):
    assert work.evaluation.forest.pr_auc > 2 * work.evaluation.detectors["isolation_forest_global"].pr_auc


def test_pictures_are_pngs(work):
    pictures = [Path(work.figures, name).read_bytes() for name in ("roc.png", "precision_recall.png", "timeline.png")]
    assert all(picture.startswith(b"\x89PNG") and len(picture) > 10_000 for picture in pictures)
