"""Run by test_add_a_feature.py on a changed copy of the tree: prints where `cpc_avg` appears."""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adnomaly.bundle.bundle import Bundle
from adnomaly.clients import feast
from adnomaly.clients.flink_sql import batch_script, stream_script
from adnomaly.clients.flink_tables import Topics
from adnomaly.detector.spec import Spec
from adnomaly.scoring import files
from adnomaly.scoring.attribution import summarize
from adnomaly.scoring.rows import RowScorer
from adnomaly.settings import ROOT, SECRETS, Settings
from adnomaly.stores.window_arrow import window_schema
from adnomaly.synthetic.traffic import Traffic
from adnomaly.synthetic.windows import simulate_windows
from adnomaly.windows import decode_window, time_text
from serving import openapi
from serving.rows import Row

NAME = "cpc_avg"
LIVE = datetime(2026, 11, 22, 12, tzinfo=UTC)
TRAIN_DAYS = 14
SEED = 1
UNUSUAL = 5.0


def definitions(work: Path) -> dict[str, Any]:
    """Definitions that derive from the list of features without data."""
    stream = stream_script("job", Topics("localhost:1", "clicks", "windows", "late"))
    batch = batch_script("job", LIVE, LIVE + timedelta(days=1), lake="lake", outputs=["out"])
    window = {
        "window_start": "2026-11-22T12:00:00Z",
        "window_end": "2026-11-22T12:05:00Z",
        "geo": "US",
        "platform": "web",
        "ctr_avg": 0.03,
        "bounce_rate_avg": 0.3,
        "event_count": 100,
        NAME: 0.5,
    }
    return {
        "root": str(ROOT),
        "stream_sql": stream.inserts[0],
        "batch_sql": batch.inserts[0],
        "decoded": decode_window(json.dumps(window).encode()).features[NAME],
        "feast": [field.name for field in feast.definitions(work).windows.schema],
        "offline_columns": window_schema().names,
        "measures": {m.name: m.kind for m in Spec.ours().measures},
        "row_fields": list(Row.__struct_fields__),
        "openapi_row": json.dumps(openapi.document()["components"]["schemas"]["Row"]),
    }


def scored(work: Path) -> dict[str, Any]:
    """Scores of a normal and an unusual window by a detector trained on simulated windows."""
    settings = Settings(_env_file=None, **{name.lower(): "x" * 32 for name in SECRETS})
    geos, platforms = {"US": 0.6, "DE": 0.4}, {"web": 1.0}
    traffic = Traffic.from_settings(settings, base_eps=8.0, geos=geos, platforms=platforms).plain()
    start = LIVE - timedelta(days=TRAIN_DAYS)
    windows = simulate_windows(traffic, start, TRAIN_DAYS + 0.1, 1)
    training = windows.filter(pc.less_equal(windows["window_end"], LIVE))
    live = windows.filter(pc.greater(windows["window_end"], LIVE))
    position = [i for i, geo in enumerate(live["geo"].to_pylist()) if geo == "US"][20]
    values = live[NAME].to_pylist()
    values[position] = UNUSUAL
    changed = live.set_column(live.column_names.index(NAME), NAME, pa.array(values, pa.float64()))
    for name, table in (("training", training), ("live", live), ("changed", changed)):
        pq.write_table(table, work / f"{name}.parquet")
    files.train(
        work / "training.parquet", work / "bundle", spec=None, alerts_per_day=1.0, seed=SEED
    )
    normal, unusual = (_score(work, name, position) for name in ("live", "changed"))
    row = changed.slice(position, 1).to_pylist()[0]
    features = {name: row[name] for name in Spec.ours().names}
    known = [{n: unusual[f"{part}_{n}"] for n in features} for part in ("expected", "z")]
    bundle = Bundle.load(work / "bundle", named=False)
    place = {"geo": row["geo"], "platform": "web", "timestamp": time_text(row["window_end"])}
    (answer,) = RowScorer(bundle).score_rows([features | place])
    return {
        "simulated_range": [min(training[NAME].to_pylist()), max(training[NAME].to_pylist())],
        "normal": normal,
        "unusual": unusual,
        "summary": summarize(("US", "web"), Spec.ours().measures, features, *known),
        "answer": {"expected": answer.expected, "z": answer.z},
    }


def _score(work: Path, name: str, position: int) -> dict[str, Any]:
    out = work / f"{name}-scores.parquet"
    files.score(work / "bundle", work / f"{name}.parquet", out)
    row = pq.read_table(out).slice(position, 1).to_pylist()[0]
    return {key: value for key, value in row.items() if isinstance(value, float)}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir()
    print(json.dumps(definitions(folder) | scored(folder)))
