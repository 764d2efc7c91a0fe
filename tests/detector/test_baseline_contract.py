"""The contract of every baseline, on the same three weeks of windows."""

import msgspec
import numpy as np
import pytest

from adnomaly.bundle.codec import decode_baseline, to_json
from adnomaly.detector.baseline import MAX_Z, Baseline
from adnomaly.detector.grid import Cadence, Grid
from adnomaly.detector.rolling import RollingBaseline
from adnomaly.detector.seasonal import SeasonalBaseline
from adnomaly.detector.spec import Measure, Spec

SPEC = Spec(("series",), (Measure("clicks", "count"), Measure("rate", "ratio", "clicks")))
CADENCE = Cadence(1800, 900)
MONDAY = 1_772_409_600  # 2026-03-02
DAYS = 21


def history() -> Grid:
    rng, steps = np.random.default_rng(1), np.arange(DAYS * 96)
    day = 1 + 0.5 * np.cos(steps / 96 * 2 * np.pi)
    clicks = rng.poisson(200 * day[:, None] * [1.0, 2.0, 0.5])
    rate = np.clip(0.4 + rng.normal(0, 0.02, clicks.shape), 0, 1)
    values = np.stack([clicks.astype(float), rate], axis=-1)
    return Grid(("a", "b", "c"), CADENCE, MONDAY + 900 * (steps + 1), values)


@pytest.fixture(scope="module")
def grid() -> Grid:
    return history()


@pytest.fixture(scope="module", params=[SeasonalBaseline, RollingBaseline], ids=lambda c: c.kind)
def baseline(request, grid) -> Baseline:
    return request.param.fit(grid, SPEC)


def test_it_names_its_spec_and_a_transform_per_feature(baseline):
    assert baseline.spec == SPEC
    assert len(baseline.transforms) == len(SPEC.measures)
    assert baseline.knows_entities


def test_a_comparison_has_the_shape_of_the_grid_and_a_deviation_above_zero(baseline, grid):
    comparison = baseline.compare(grid)
    for part in comparison:
        assert part.shape == grid.values.shape
    known = np.isfinite(comparison.expected)
    assert known[3 * 96 :].all()
    assert (comparison.sd[known & np.isfinite(comparison.sd)] > 0).all()


def test_z_of_history_is_standard_normal_and_bounded(baseline, grid):
    z = baseline.compare(grid).z[7 * 96 :]
    assert abs(np.nanmedian(z)) < 0.3
    assert 0.5 < np.nanstd(z) < 1.6
    values = grid.values.copy()
    values[-1, 0, 0] = 1e12
    assert baseline.compare(grid._replace(values=values)).z[-1, 0, 0] <= MAX_Z


def test_a_spike_deviates_upwards_and_only_where_it_is(baseline, grid):
    before, values = baseline.compare(grid).z, grid.values.copy()
    values[-1, 1, 0] *= 10
    after = baseline.compare(grid._replace(values=values)).z
    assert after[-1, 1, 0] > before[-1, 1, 0] + 5
    assert np.array_equal(after[:-1], before[:-1], equal_nan=True)
    assert np.array_equal(after[-1, [0, 2]], before[-1, [0, 2]])


def test_missing_windows_have_no_z(baseline, grid):
    values = grid.values.copy()
    values[-3, 2] = np.nan
    z = baseline.compare(grid._replace(values=values)).z
    assert np.isnan(z[-3, 2]).all()
    assert np.isfinite(z[-3, :2]).all()


def test_an_unknown_entity_has_no_expected_value_at_first(baseline, grid):
    new = np.concatenate([grid.values, grid.values[:, :1]], axis=1)
    new[:-10, 3] = np.nan
    comparison = baseline.compare(grid._replace(names=(*grid.names, "d"), values=new))
    assert np.isnan(comparison.expected[:, 3]).all()
    assert np.isfinite(comparison.expected[-1, :3]).all()


def test_it_survives_storage_under_its_kind(baseline, grid):
    stored = msgspec.json.decode(to_json(baseline.to_plain()))
    assert stored["kind"] == baseline.kind
    loaded = decode_baseline(stored, SPEC)
    assert type(loaded) is type(baseline)
    assert np.allclose(loaded.compare(grid).z, baseline.compare(grid).z, atol=1e-5, equal_nan=True)


def test_single_rows_equal_the_grid_where_it_scores_rows(baseline, grid):
    row, entity = np.array([900, 1500, 1500]), np.array([0, 2, -1])
    values = grid.values[row, entity]
    if not baseline.scores_rows:
        with pytest.raises(NotImplementedError):
            baseline.compare_rows(values, grid.end_s[row], entity, CADENCE.size_s)
        with pytest.raises(NotImplementedError):
            baseline.compare_pooled(grid)
        return
    comparison, known = baseline.compare_rows(values, grid.end_s[row], entity, CADENCE.size_s)
    assert known.tolist() == [True, True, False]
    in_grid, pooled = baseline.compare(grid).z, baseline.compare_pooled(grid).z
    assert comparison.z[:2] == pytest.approx(in_grid[row[:2], entity[:2]])
    assert comparison.z[2] == pytest.approx(pooled[row[2], entity[2]])


def test_an_unregistered_kind_is_refused():
    with pytest.raises(ValueError, match="kind is 'other'"):
        decode_baseline({"kind": "other"}, SPEC)
