"""The detector on small scenarios: promises about scores, files and incidents."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from adnomaly.attacks import Attack
from adnomaly.bundle import bundle as sealed
from adnomaly.cli import main as cli
from adnomaly.detector.detector import Detector
from adnomaly.detector.grid import Cadence, to_grid
from adnomaly.detector.spec import Spec
from adnomaly.detector.windows import read_windows
from adnomaly.errors import BadInput, BundleRejected
from adnomaly.scoring import files as scoring_files
from adnomaly.settings import SECRETS, Settings
from adnomaly.synthetic.traffic import Traffic
from adnomaly.synthetic.windows import simulate_windows

START = datetime(2026, 3, 2, tzinfo=UTC)
HISTORY_DAYS, LIVE_HOURS = 15, 12
LIVE = START + timedelta(days=HISTORY_DAYS)
ATTACK = Attack(
    kind="click_flood",
    geo="US",
    platform="web",
    start=LIVE + timedelta(hours=6),
    end=LIVE + timedelta(hours=6, minutes=40),
)


def traffic() -> Traffic:
    settings = Settings(_env_file=None, **{name.lower(): "x" * 32 for name in SECRETS})
    few = {"geos": {"US": 0.5, "DE": 0.3, "JP": 0.2}, "platforms": {"web": 0.6, "ios": 0.4}}
    return replace(
        Traffic.from_settings(settings, base_eps=20.0, **few).hard(), promotions_per_day=0.0
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """history.parquet, live.parquet, labels.parquet, and the bundle trained on the history."""
    folder = tmp_path_factory.mktemp("windows")
    days = HISTORY_DAYS + LIVE_HOURS / 24
    table = simulate_windows(traffic(), START, days, 1, [ATTACK])
    history = pc.less_equal(table["window_end"], pa.scalar(LIVE, table["window_end"].type))
    pq.write_table(table.filter(history), folder / "history.parquet")
    pq.write_table(table.filter(pc.invert(history)), folder / "live.parquet")
    labels = {
        "start": [ATTACK.start],
        "end": [ATTACK.end],
        "geo": ["US"],
        "platform": ["web"],
        "kind": ["click_flood"],
    }
    pq.write_table(pa.table(labels), folder / "labels.parquet")
    scoring_files.train(
        folder / "history.parquet", folder / "bundle", spec=None, alerts_per_day=1.0, seed=42
    )
    scoring_files.score(
        folder / "bundle",
        folder / "live.parquet",
        folder / "scores.parquet",
        incident_file=folder / "incidents.parquet",
    )
    return folder


def scores(files: Path, live: pa.Table, tmp_path: Path) -> pa.Table:
    pq.write_table(live, tmp_path / "live.parquet")
    scoring_files.score(
        files / "bundle",
        tmp_path / "live.parquet",
        tmp_path / "out.parquet",
        incident_file=tmp_path / "incidents.parquet",
    )
    return pq.read_table(tmp_path / "out.parquet")


def test_one_row_for_each_window_in_its_order(files):
    live, found = pq.read_table(files / "live.parquet"), pq.read_table(files / "scores.parquet")
    for name in ("window_start", "window_end", "geo", "platform"):
        assert found[name].to_pylist() == live[name].to_pylist()
    assert set(found["status"].to_pylist()) == {"ok"}
    assert found["anomaly_score"].null_count == 0
    flagged = np.array(found["is_anomaly"].to_pylist())
    assert (np.array(found["anomaly_score"].to_pylist())[flagged] >= 0.5).all()
    assert all(
        (name is not None) == flag
        for name, flag in zip(found["incident_id"].to_pylist(), flagged, strict=True)
    )


def test_the_attack_is_found_and_hardly_anything_else(files):
    found = pq.read_table(files / "scores.parquet").to_pandas()
    mine = (found.geo == "US") & (found.platform == "web")
    inside = mine & (found.window_end > ATTACK.start) & (found.window_start < ATTACK.end)
    assert found[inside].is_anomaly.mean() > 0.8
    assert found[~inside].is_anomaly.mean() < 0.005
    assert found[inside & found.is_anomaly].incident_id.nunique() == 1
    worst = found[inside].sort_values("anomaly_score").iloc[-1]
    assert (
        worst.expected_event_count
        < 0.5 * pq.read_table(files / "live.parquet").to_pandas().event_count[worst.name]
    )
    size = sum(
        abs(worst[f"share_{name}"])
        for name in (
            "ctr_avg",
            "bounce_rate_avg",
            "event_count",
            "unique_user_ratio",
            "campaign_top_share",
        )
    )
    assert size == pytest.approx(1)
    assert worst.z_unique_user_ratio < 0 < worst.z_event_count


def test_a_score_depends_on_nothing_that_comes_later(files, tmp_path):
    live = pq.read_table(files / "live.parquet")
    early = live.filter(
        pc.less_equal(
            live["window_end"], pa.scalar(LIVE + timedelta(hours=7), live["window_end"].type)
        )
    )
    part, whole = (
        scores(files, early, tmp_path),
        pq.read_table(files / "scores.parquet").slice(0, early.num_rows),
    )
    for name in part.column_names:
        assert part[name].to_pylist() == whole[name].to_pylist(), name


def test_equal_seeds_give_equal_bytes(files, tmp_path):
    scoring_files.train(
        files / "history.parquet", tmp_path / "again", spec=None, alerts_per_day=1.0, seed=42
    )
    for file in (files / "bundle").iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


def test_the_order_of_the_rows_does_not_matter(files, tmp_path):
    live = pq.read_table(files / "live.parquet")
    order = np.random.default_rng(0).permutation(live.num_rows)
    mixed = scores(files, live.take(order), tmp_path)
    assert (
        mixed["anomaly_score"].to_pylist()
        == pq.read_table(files / "scores.parquet")["anomaly_score"].take(order).to_pylist()
    )


def test_a_new_entity_warms_up_and_nothing_else_does(files, tmp_path):
    live = pq.read_table(files / "live.parquet").to_pandas()
    new = live[(live.geo == "US") & (live.platform == "web")].assign(geo="FR")
    found = scores(
        files, pa.Table.from_pandas(live._append(new), preserve_index=False), tmp_path
    ).to_pandas()
    assert (found[found.geo == "FR"].status == "warming_up").all()
    assert found[found.geo == "FR"].anomaly_score.isna().all()
    assert not found[found.geo == "FR"].is_anomaly.any()
    assert (found[found.geo != "FR"].status == "ok").all()
    assert found[found.geo != "FR"].anomaly_score.notna().all()


def test_a_loaded_detector_scores_as_the_fitted_one(files):
    """Windows with all features are scored by all of them, fitted or loaded."""
    history, _ = read_windows(files / "history.parquet", Spec.ours())
    grid, _ = to_grid(history, Cadence.of(history))
    fitted, loaded = (
        Detector.fit(grid, Spec.ours(), budget_per_day=1.0, seed=42),
        sealed.Bundle.load(files / "bundle", named=False).detector,
    )
    assert list(loaded.feature_sets) == list(fitted.feature_sets) == ["contract", "all"]
    live = grid.between(len(grid.end_s) - 2000, len(grid.end_s))
    assert np.allclose(
        fitted.score(live).score, loaded.score(live).score, atol=1e-5, equal_nan=True
    )
    parts = {**vars(loaded), "feature_sets": {"contract": loaded.feature_sets["contract"]}}
    alone = Detector(**{name: part for name, part in parts.items() if name != "forests"})
    assert not np.allclose(
        alone.score(live).score, loaded.score(live).score, atol=1e-3, equal_nan=True
    )


def test_windows_without_the_optional_features_are_scored_by_the_contract(files, tmp_path):
    live = pq.read_table(files / "live.parquet").drop_columns(
        ["unique_user_ratio", "campaign_top_share"]
    )
    found = scores(files, live, tmp_path).to_pandas()
    assert found.anomaly_score.notna().all()
    assert found.z_unique_user_ratio.isna().all()
    inside = (
        (found.geo == "US")
        & (found.platform == "web")
        & (found.window_end > ATTACK.start)
        & (found.window_start < ATTACK.end)
    )
    assert found[inside].is_anomaly.mean() > 0.8


def test_a_silent_entity_and_an_outage_have_names_of_their_own(files, tmp_path):
    live = pq.read_table(files / "live.parquet").to_pandas()
    hour = timedelta(hours=1)
    silent = (
        (live.geo == "DE")
        & (live.platform == "web")
        & (live.window_end > LIVE + 2 * hour)
        & (live.window_start < LIVE + 3 * hour)
    )
    down = (live.window_end > LIVE + 9 * hour) & (live.window_start < LIVE + 9.5 * hour)
    scores(files, pa.Table.from_pandas(live[~silent & ~down], preserve_index=False), tmp_path)
    found = pq.read_table(tmp_path / "incidents.parquet").to_pandas()
    assert found[found.kind == "silence"].entity.tolist() == ["DE|web"]
    assert (found.kind == "platform outage").sum() == 1
    assert len(found[found.kind == "anomaly"]) <= 3


def test_a_file_of_one_entity_is_no_outage_of_the_others(files, tmp_path):
    live = pq.read_table(files / "live.parquet")
    mine = live.filter(pc.and_(pc.equal(live["geo"], "US"), pc.equal(live["platform"], "web")))
    found = scores(files, mine, tmp_path).to_pandas()
    inside = (found.window_end > ATTACK.start) & (found.window_start < ATTACK.end)
    assert found[inside].is_anomaly.mean() > 0.8
    assert set(pq.read_table(tmp_path / "incidents.parquet")["kind"].to_pylist()) == {"anomaly"}


@pytest.mark.parametrize(
    "name", ["preprocess.json", "model_all.onnx", "history.parquet", "manifest.json"]
)
def test_a_bundle_that_was_changed_is_not_loaded(files, tmp_path, name):
    for file in (files / "bundle").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    data = bytearray((tmp_path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / name).write_bytes(bytes(data))
    with pytest.raises(BundleRejected, match=r"sha256|not valid|cannot be read"):
        sealed.Bundle.load(tmp_path, named=False)


def test_windows_of_another_length_are_refused(files, tmp_path):
    live = pq.read_table(files / "live.parquet").to_pandas()
    live["window_start"] = live.window_end - timedelta(hours=1)
    with pytest.raises(BadInput, match="its windows last 3600 s, those of the bundle 300 s"):
        scores(files, pa.Table.from_pandas(live, preserve_index=False), tmp_path)
    assert not (tmp_path / "out.parquet").exists()


def test_the_command_line_from_history_to_metrics(files, tmp_path):
    run = CliRunner()
    out, report = tmp_path / "s.csv", tmp_path / "report"
    scored = run.invoke(
        cli.app,
        [
            "score",
            "--bundle",
            str(files / "bundle"),
            "--windows",
            str(files / "live.parquet"),
            "--out",
            str(out),
        ],
    )
    assert scored.exit_code == 0, scored.output
    arguments = [
        "--scores",
        str(files / "scores.parquet"),
        "--labels",
        str(files / "labels.parquet"),
        "--report",
        str(report),
    ]
    evaluated = run.invoke(cli.app, ["eval", *arguments])
    assert evaluated.exit_code == 0, evaluated.output
    assert "1 attacks and 0 benign events" in evaluated.output
    assert {"figures.json", "roc.png", "precision_recall.png", "timeline.png"} <= {
        file.name for file in report.iterdir()
    }
    assert json.loads((report / "figures.json").read_bytes())["adnomaly"]["at_flag"] == 1.0


def test_a_user_error_is_one_line_and_exit_code_2(files, tmp_path, monkeypatch, capsys):
    arguments = [
        "adnomaly",
        "score",
        "--bundle",
        str(files / "bundle"),
        "--windows",
        "none.parquet",
        "--out",
        str(tmp_path / "o.parquet"),
    ]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: none.parquet: there is no such file\n"
    assert not (tmp_path / "o.parquet").exists()
