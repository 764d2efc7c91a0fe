"""The trained detector: export equal to the forest, detected attacks, ignored unknown fields."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest

from adnomaly.bundle.bundle import Bundle
from adnomaly.detector.forest import fit_forest, forest_scores, tail
from adnomaly.detector.onnx_export import PARITY_ROWS, check_parity, export_forest
from adnomaly.detector.spec import Spec
from adnomaly.errors import BundleRejected, NotEnoughHistory
from adnomaly.evaluation.backtest import predict
from adnomaly.features import CONTRACT
from adnomaly.pipelines import train_detector as pipeline
from adnomaly.pipelines._training_run import TrainingRun
from adnomaly.scoring.rows import RowScorer
from adnomaly.windows import time_text

ALL_FEATURES = tuple(Spec.ours().names)


@pytest.fixture(scope="module")
def work(trained) -> TrainingRun:
    return TrainingRun(trained)


@pytest.fixture(scope="module")
def scorer(bundle) -> RowScorer:
    return RowScorer.load(bundle)


@pytest.fixture(scope="module")
def rows(offline) -> list[dict]:
    """Normal windows as the service gets them."""
    table = offline.between(
        datetime(2026, 11, 20, 12, tzinfo=UTC), datetime(2026, 11, 21, 12, tzinfo=UTC)
    )
    picked = table.take(np.random.default_rng(5).integers(0, table.num_rows, 400)).to_pylist()
    return [
        {
            **{k: r[k] for k in (*ALL_FEATURES, "geo", "platform")},
            "timestamp": time_text(r["window_end"]),
        }
        for r in picked
    ]


def scores(scorer: RowScorer, rows: list[dict]) -> np.ndarray:
    return np.array([scored.anomaly_score for scored in scorer.score_rows(rows)])


def contract(row: dict) -> dict:
    """The row without the optional features."""
    return {
        name: value for name, value in row.items() if name in CONTRACT or name not in ALL_FEATURES
    }


# The export


@pytest.fixture(scope="module")
def forest():
    return fit_forest(
        np.random.default_rng(1).standard_normal((20_000, 6)).astype(np.float32), seed=1
    )


@pytest.fixture(scope="module")
def probes() -> np.ndarray:
    return np.random.default_rng(2).standard_normal((5000, 6)).astype(np.float32)


def test_the_export_is_the_forest_on_40_000_rows(forest, probes):
    parity = check_parity(forest, export_forest(forest), probes, 0.6, seed=1)
    assert (parity.rows, parity.flips) == (PARITY_ROWS, 0)
    assert parity.largest_difference <= 1e-6


def test_the_export_is_three_operators_on_pinned_opsets(work):
    for feature_set in work.drafted.detector.feature_sets.values():
        model = onnx.load_from_string(feature_set.model)
        onnx.checker.check_model(model)
        assert [node.op_type for node in model.graph.node] == [
            "TreeEnsembleRegressor",
            "Mul",
            "Exp",
        ]
        assert {o.domain: o.version for o in model.opset_import} == {"": 18, "ai.onnx.ml": 3}
        assert [out.name for out in model.graph.output] == ["anomaly_score"]


def test_parity_refuses_another_forest(forest, probes):
    other = export_forest(fit_forest(probes, seed=99, trees=20))
    with pytest.raises(BundleRejected, match="differs from the forest"):
        check_parity(forest, other, probes, 0.6, seed=1)


def test_parity_refuses_thresholds_that_were_rounded_up(forest, probes):
    """A row that lies exactly on a tree's threshold goes left; one digit more and it goes right."""
    model = onnx.load_from_string(export_forest(forest))
    values = next(a for a in model.graph.node[0].attribute if a.name == "nodes_values")
    up = np.nextafter(np.array(values.floats, np.float32), np.float32(np.inf))
    del values.floats[:]
    values.floats.extend(up.tolist())
    with pytest.raises(BundleRejected, match="differs from the forest"):
        check_parity(forest, model.SerializeToString(), probes, 0.6, seed=1)


# Training


def test_equal_data_and_seed_give_an_equal_bundle(trained, offline, small_traffic, tmp_path):
    again = tmp_path / "run"
    folder = pipeline.take_sample(offline, again, seed=7, budget_per_day=1.0, train_days=12)
    pipeline.fit(folder)
    pipeline.evaluate(folder, small_traffic, days=5)
    pipeline.seal(folder)
    assert TrainingRun(again).bundle.name == TrainingRun(trained).bundle.name


def test_tail_padding_reaches_beyond_the_data_and_has_both_signs():
    residuals = np.random.default_rng(1).normal(size=(20_000, 3)).astype(np.float32)
    padded = tail(residuals, np.random.default_rng(2))
    assert len(padded) == 600
    assert np.abs(padded).max() > 1.5 * np.abs(residuals).max()
    assert 0.4 < (padded > 0).mean() < 0.6


def test_a_huge_residual_scores_above_a_large_one(forest):
    """A plain forest gives both the same score."""
    large, huge = np.array([[6, 0, 0, 0, 0, 0]], np.float32), np.full((1, 6), 25, np.float32)
    assert forest_scores(forest, huge)[0] > forest_scores(forest, large)[0] + 0.02


def test_history_of_a_few_hours_is_not_enough(offline, tmp_path):
    folder = pipeline.take_sample(
        offline, tmp_path / "run", seed=7, budget_per_day=1.0, train_days=0.5
    )
    with pytest.raises(NotEnoughHistory, match="no entity has windows in all hours"):
        pipeline.fit(folder)


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
    later = [
        r | {"timestamp": "2027-03" + r["timestamp"][7:], "unknown": 1}
        for r in rows
        if r["timestamp"].startswith("2026-11-20")
    ]
    # 2026-11-20 and 2027-03-20 are a Friday and a Saturday; 2027-03-19 is the Friday.
    later = [r | {"timestamp": r["timestamp"].replace("-20T", "-19T")} for r in later]
    base = [r for r in rows if r["timestamp"].startswith("2026-11-20")]
    assert np.array_equal(scores(scorer, later), scores(scorer, base))


def test_rows_and_tables_have_the_same_scores(scorer, bundle, work):
    """A window scores the same in a request and among thousands."""
    backtest_set = work.backtest_set
    predictions = predict(Bundle.load(bundle).detector, backtest_set)
    grid, live = predictions.truth.grid, backtest_set.live
    for i in range(0, len(backtest_set.live), 997):
        geo, platform = live.names[live.entity[i]].split("|")
        moment = time_text(datetime.fromtimestamp(int(live.end_s[i]), UTC))
        row = {
            **dict(zip(ALL_FEATURES, live.values[i].tolist(), strict=True)),
            "geo": geo,
            "platform": platform,
            "timestamp": moment,
        }
        at = (
            np.searchsorted(grid.end_s, live.end_s[i]),
            grid.names.index(live.names[live.entity[i]]),
        )
        assert scorer.score_rows([row])[0].anomaly_score == pytest.approx(
            predictions.alone["entity"][at], abs=1e-9
        )


def test_every_answer_explains_itself(scorer, rows):
    bare = {k: rows[0][k] for k in CONTRACT}
    for scored, used in zip(
        scorer.score_rows([rows[0], contract(rows[0]), bare]),
        (ALL_FEATURES, CONTRACT, CONTRACT),
        strict=True,
    ):
        assert scored.features == used
        assert tuple(scored.z) == tuple(scored.expected) == tuple(scored.share) == used
        assert sum(map(abs, scored.share.values())) == pytest.approx(1)
        assert all(scored.share[name] * scored.z[name] >= 0 for name in used)
        assert scored.is_anomaly == (scored.anomaly_score >= scored.threshold)
        assert 0 < scored.anomaly_score < 1
    assert [s.baseline for s in scorer.score_rows([rows[0], bare])] == ["entity", "global"]


def test_all_features_are_used_only_when_all_came(scorer, rows):
    without_one = [{k: v for k, v in r.items() if k != "campaign_top_share"} for r in rows]
    assert np.array_equal(scores(scorer, without_one), scores(scorer, [contract(r) for r in rows]))
    few_users = [r | {"unique_user_ratio": r["unique_user_ratio"] / 4} for r in rows]
    assert np.mean([s.is_anomaly for s in scorer.score_rows(few_users)]) > 0.97
    assert np.array_equal(
        scores(scorer, [contract(r) for r in few_users]),
        scores(scorer, [contract(r) for r in rows]),
    )


@pytest.mark.parametrize("name", ALL_FEATURES)
def test_the_feature_that_was_attacked_is_named_first(scorer, rows, name):
    """In 90 % of single-feature attacks. Each changes one feature until the window is anomalous."""
    moved = []
    for row in rows:
        up = row[name] * (1.6 if name != "unique_user_ratio" else 0.5)
        value = round(up) if name == "event_count" else min(up, 1.0)
        moved.append(row | {name: value})
    found = [s for s in scorer.score_rows(moved) if s.is_anomaly]
    first = [max(s.z, key=lambda feature, s=s: abs(s.z[feature])) for s in found]
    assert len(found) > 50
    assert first.count(name) >= 0.9 * len(first)


def test_no_rows_give_no_scores(scorer):
    assert scorer.score_rows([]) == []


# Detection quality


def test_it_finds_attacks_within_its_budget(work):
    found = work.evaluation
    assert found.attacks >= 70
    assert found.ours.roc_auc > 0.9
    assert found.ours.recall_at_threshold > 0.7
    assert found.detectors["random"].recall_per_day < 0.1
    assert found.detectors["always on"].recall_per_day == 0
    assert found.ours.pr_auc > 0.95 * found.best_reference
    assert found.ours.realised[0] <= 2.5


def test_an_entity_of_its_own_is_worth_more_than_all_together(work):
    of = work.evaluation.detectors
    assert of["adnomaly, entity"].pr_auc > 1.2 * of["adnomaly, global"].pr_auc


def test_plots_are_pngs(work):
    plots = [
        Path(work.metrics, name).read_bytes()
        for name in ("roc.png", "precision_recall.png", "timeline.png")
    ]
    assert all(plot.startswith(b"\x89PNG") and len(plot) > 10_000 for plot in plots)
