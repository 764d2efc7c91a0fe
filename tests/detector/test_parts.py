"""The parts of the detector, on small transparent cases."""

from datetime import UTC, datetime

import numpy as np
import pytest

from adnomaly.detector import grouping
from adnomaly.detector.detector import Detector
from adnomaly.detector.grid import Cadence, Grid
from adnomaly.detector.seasonal import SeasonalBaseline
from adnomaly.detector.smoothing import smooth
from adnomaly.detector.spec import Measure, Spec
from adnomaly.detector.thresholds import AIM, choose_threshold
from adnomaly.detector.variance import fit_variance
from adnomaly.detector.whitening import Whitening
from adnomaly.evaluation.metrics import Event, GroundTruth
from adnomaly.scoring.attribution import attribute, summarize

SLIDING, HOURLY = Cadence(300, 60), Cadence(3600, 3600)
MONDAY = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp())
LEVEL = Spec(("series",), (Measure("value", "level"),))


def grid(values: np.ndarray, cadence: Cadence, first_s: int = MONDAY) -> Grid:
    """(T, E) or (T, E, F) as a grid of entities a, b, ..."""
    cube = values if values.ndim == 3 else values[..., None]
    names = tuple("abcdefghijklmnopqrstuvwxyz"[: cube.shape[1]])
    return Grid(
        names,
        cadence,
        first_s + np.arange(1, len(cube) + 1) * cadence.slide_s,
        cube.astype(np.float64),
    )


def test_a_single_window_counts_less_and_a_lasting_anomaly_in_full():
    raw_score = np.array([1, 1, 5, 1, 1, 5, 5, 5, 5, 1.0])[:, None]
    found = smooth(raw_score, SLIDING)[:, 0]
    assert found[2] == 4.5
    assert found[7] == found[8] == 5
    assert found[9] == 1  # what is over is over
    assert np.isnan(smooth(np.array([[np.nan], [1.0]]), SLIDING)[0, 0])


def test_where_windows_do_not_overlap_a_peak_decays():
    found = smooth(np.array([1, 5, 1, 1, 1.0])[:, None], HOURLY)[:, 0]
    assert found.tolist() == pytest.approx([1, 5, 3.8, 2.6, 1.4])


def test_flagged_windows_within_half_an_hour_are_one_incident():
    flagged = np.zeros((200, 2), bool)
    flagged[[10, 11, 41, 72], 0] = True
    flagged[100, 1] = True
    end_s = 60 * np.arange(200)
    began, _ = grouping.number(flagged, end_s, SLIDING)
    assert began[[10, 11, 41, 72], 0].tolist() == [600, 600, 600, 4320]
    assert (began[~flagged] == grouping.NEVER).all()
    first, still_open = grouping.number(flagged[:30], end_s[:30], SLIDING)
    rest, _ = grouping.number(flagged[30:], end_s[30:], SLIDING, still_open)
    assert np.array_equal(np.concatenate([first, rest]), began), "in parts as at once"
    assert grouping.began_s(grouping.name_of("US|web", 600)) == 600
    assert grouping.count(flagged, SLIDING) == 3
    assert (
        grouping.count(np.ones((181, 1), bool), SLIDING) == 4
    )  # an alarm that never ends counts again with every hour


def test_a_feature_of_few_events_is_less_certain():
    rng, spec = (
        np.random.default_rng(1),
        Spec(("s",), (Measure("n", "count"), Measure("r", "ratio", "n"))),
    )
    counts = rng.integers(10, 1000, (20_000, 1)).astype(float)
    noise = rng.normal(0, np.sqrt(0.01**2 + 0.25 / counts))
    found = fit_variance(
        np.stack([noise, noise], axis=-1), np.stack([counts, counts], axis=-1), spec
    )[0, 1]
    assert found[1] == pytest.approx(0.25, rel=0.35)
    assert found[0] == pytest.approx(0.01**2, rel=1.0)


def test_the_seasonal_baseline_follows_the_day_and_the_weekend():
    steps = np.arange(28 * 1440)
    day = np.cos((steps % 1440) / 1440 * 2 * np.pi)
    weekend = ((steps // 1440) % 7 >= 5) * 5.0
    values = grid(
        (100 + 10 * day + weekend + np.random.default_rng(2).normal(0, 1, len(steps)))[:, None],
        SLIDING,
    )
    assert SeasonalBaseline.suits(values)
    z = SeasonalBaseline.fit(values, LEVEL).compare(values).z
    assert abs(np.mean(z)) < 0.05
    assert np.std(z) == pytest.approx(1, abs=0.1)


def test_a_benign_surge_is_no_attack_where_history_has_many():
    rng = np.random.default_rng(3)
    innovations = rng.standard_normal((50_000, 2))
    whitening = Whitening.fit(innovations, (0, 1), 1)
    risen, fallen, company = (
        np.array([[0.0, 12.0]]),
        np.array([[0.0, -12.0]]),
        np.array([[9.0, 12.0]]),
    )
    lift = np.array([np.log(1.6)])
    tolerant = whitening.with_tolerance(np.full(100, np.log(2.0)))
    radius = [
        float(np.linalg.norm(tolerant.apply(rows, sign * lift)))
        for rows, sign in ((risen, 1), (fallen, -1), (company, 1))
    ]
    assert radius[0] <= 2.01
    assert radius[1] == pytest.approx(12, rel=0.05)
    assert radius[2] > 8.5
    assert np.linalg.norm(whitening.apply(risen, lift)) == pytest.approx(12, rel=0.05)
    assert (
        np.linalg.norm(tolerant.apply(risen * 3, 3 * lift)) > 15
    )  # more than any promotion that is known


def test_the_threshold_keeps_its_budget_though_history_holds_attacks():
    rng = np.random.default_rng(4)
    raw_score = np.abs(rng.standard_normal((14 * 1440, 10))) + 0.5
    clean = choose_threshold(raw_score, SLIDING, 1.0)
    attacked = raw_score.copy()
    for start in rng.integers(0, 14 * 1440 - 40, 40):
        attacked[start : start + 40, rng.integers(10)] += rng.uniform(2, 5)
    found = choose_threshold(attacked, SLIDING, 1.0)
    assert found.raw_score == pytest.approx(clean.raw_score, abs=0.35)
    assert grouping.count(raw_score >= clean.raw_score, SLIDING) / 14 == pytest.approx(AIM, abs=0.6)


def test_a_short_history_has_the_prior_threshold():
    assert choose_threshold(np.ones((60, 2)), SLIDING, 1.0).days == 0


def test_hourly_series_use_the_rolling_baseline():
    rng = np.random.default_rng(5)
    values = rng.normal(100, 3, (24 * 40, 1))
    values[24 * 30, 0] = 160
    series = grid(values, HOURLY)
    detector = Detector.fit(series.between(0, 24 * 12), LEVEL, budget_per_day=1 / 7, seed=1)
    found = detector.score(series)
    assert detector.baseline.kind == "trailing"
    assert np.isnan(found.score[:36]).all()
    assert np.isfinite(found.score[37:]).all()
    assert np.nanargmax(found.score[:, 0]) == 24 * 30
    assert found.flagged[24 * 30, 0]
    assert found.flagged.sum() <= 6
    assert found.expected[24 * 30, 0, 0] == pytest.approx(100, abs=3)


def test_attribution_sums_to_one_and_keeps_the_sign():
    found = attribute(np.array([[3.0, -4.0, 0.0], [0.0, 0.0, 0.0], [1.0, np.nan, -1.0]]))
    assert found[0].tolist() == pytest.approx([9 / 25, -16 / 25, 0])
    assert np.nansum(np.abs(found), axis=1).tolist() == pytest.approx([1, 1, 1])
    assert np.isnan(found[2, 1])


def test_a_summary_names_the_largest_deviations():
    values, expected = (
        {"event_count": 3100.0, "unique_user_ratio": 0.4, "ctr_avg": 0.02},
        {"event_count": 1000.0, "unique_user_ratio": 0.8, "ctr_avg": 0.021},
    )
    text = summarize(
        ("US", "web"),
        Spec.ours().measures,
        values,
        expected,
        {"event_count": 9.0, "unique_user_ratio": -7.0, "ctr_avg": -0.3},
    )
    assert (
        text
        == "US web: 3.1 times the expected clicks (3100 instead of 1000), 0.5 times the expected distinct users per click (0.4 instead of 0.8)"
    )


def test_a_summary_names_a_large_deviation_next_to_a_larger_one():
    values, expected = (
        {"event_count": 300.0, "bounce_rate_avg": 0.66},
        {"event_count": 20.0, "bounce_rate_avg": 0.4},
    )
    text = summarize(
        ("US", "web"),
        Spec.ours().measures,
        values,
        expected,
        {"event_count": 10.0, "bounce_rate_avg": 170.0},
    )
    assert text.endswith(
        "times the expected bounce rate (0.66 instead of 0.4), 15 times the expected clicks (300 instead of 20)"
    )


def test_ground_truth_counts_events_not_windows():
    values = np.ones((2 * 1440, 2))
    series = grid(values, SLIDING)
    events = [
        Event("flood", "a", MONDAY + 3600, MONDAY + 7200),
        Event("promotion", "b", MONDAY + 3600, MONDAY + 7200, True),
    ]
    truth = GroundTruth(series, events)
    score, flagged = np.zeros(values.shape), np.zeros(values.shape, bool)
    score[70, 0], flagged[70, 0] = 1.0, True
    found = truth.evaluate(score, flagged)
    assert (found.recall_per_day, found.recall_per_week, found.recall_at_threshold) == (
        1.0,
        1.0,
        1.0,
    )
    assert found.delay_at_threshold == 11
    assert found.benign_flagged == 0.0
    always = truth.evaluate(np.ones(values.shape), np.ones(values.shape, bool))
    assert always.recall_per_day == 0.0
    assert always.realised[0] > 20
