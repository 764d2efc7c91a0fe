"""The work folder of a training run: the files that each step leaves for the next."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pyarrow.parquet as pq

from adnomaly.bundle.bundle import Bundle
from adnomaly.bundle.codec import to_json
from adnomaly.detector.spec import Spec
from adnomaly.detector.windows import Windows, from_table
from adnomaly.evaluation.backtest import BacktestSet, Evaluation
from adnomaly.evaluation.holdout import load_holdout
from adnomaly.evaluation.metrics import Metrics
from adnomaly.evaluation.reference_detectors import REFERENCES
from adnomaly.features import ENTITY, FEATURES
from adnomaly.files import replacing, write_atomic
from adnomaly.windows import time_text

if TYPE_CHECKING:
    import pyarrow as pa

    from adnomaly.clients.mlflow import Registered, Registry

_WINDOWS = "windows.parquet"


class TrainingSample(msgspec.Struct, frozen=True):
    """The windows that a model is trained on: start < window_end <= end."""

    start: datetime
    end: datetime
    days: float
    seed: int
    budget_per_day: float
    rows: int
    sha256: str


class TrainingRun:
    """Files of one training run, each read on first use."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @cached_property
    def sample(self) -> TrainingSample:
        return msgspec.json.decode((self.path / "sample.json").read_bytes(), type=TrainingSample)

    def save_sample(self, sample: TrainingSample, windows: "pa.Table") -> None:
        with replacing(self.path / _WINDOWS) as draft:
            pq.write_table(windows, draft)
        write_atomic(self.path / "sample.json", to_json(sample))

    @cached_property
    def windows(self) -> Windows:
        """The training windows."""
        return from_table(pq.read_table(self.path / _WINDOWS), Spec.ours())

    def save_draft(self, files: Mapping[str, bytes]) -> None:
        """Save the files of the bundle before it is sealed."""
        for name, data in files.items():
            write_atomic(self._draft / name, data)

    def draft(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in sorted(self._draft.iterdir())}

    @cached_property
    def drafted(self) -> Bundle:
        """The bundle before its card has an evaluation."""
        return Bundle.of("draft", self.draft())

    @cached_property
    def backtest_set(self) -> BacktestSet:
        return load_holdout(self.path, self.windows)

    @property
    def metrics(self) -> Path:
        """The folder of metrics and plots."""
        return self.path / "evaluation"

    @cached_property
    def evaluation(self) -> Evaluation:
        return msgspec.json.decode((self.metrics / "evaluation.json").read_bytes(), type=Evaluation)

    def save_evaluation(self, evaluation: Evaluation, plots: Mapping[str, bytes]) -> None:
        for name, data in {"evaluation.json": to_json(evaluation), **plots}.items():
            write_atomic(self.metrics / name, data)

    @property
    def reference_metrics(self) -> dict[str, Metrics]:
        """Metrics of the reference detectors on the holdout."""
        return {name: self.evaluation.detectors[name] for name in REFERENCES}

    @property
    def bundles(self) -> Path:
        """The folder of sealed bundles."""
        return self.path / "bundles"

    @property
    def bundle(self) -> Path:
        """The bundle that was sealed last."""
        return self.bundles / (self.path / "version").read_text()

    def save_version(self, version: str) -> None:
        write_atomic(self.path / "version", version.encode())

    @property
    def _draft(self) -> Path:
        return self.path / "draft"


def sample_digest(windows: "pa.Table") -> str:
    """SHA-256 of keys and features, which identifies a sample in the registry."""
    features = [f.name for f in FEATURES if f.name in windows.column_names]
    digest = hashlib.sha256()
    for name in (*ENTITY, "window_end", *features):
        column = windows[name]
        digest.update(repr(column.to_pylist()[:1]).encode() + column.combine_chunks().buffers()[-1])
    return digest.hexdigest()


def register_run(run: TrainingRun, registry: "Registry") -> "Registered":
    """Register parameters, metrics, plots and bundle of a run; idempotent."""
    return registry.register(
        run.path.name,
        params=_params(run),
        metrics=run.evaluation.flat(),
        files=run.metrics,
        bundle=run.bundle,
        source=run.path.name,
    )


def _params(run: TrainingRun) -> dict[str, object]:
    sample = run.sample
    params: dict[str, object] = {
        "seed": sample.seed,
        "train": f"{time_text(sample.start)}..{time_text(sample.end)}",
        "rows": sample.rows,
        "data_sha256": sample.sha256,
        "budget_per_day": sample.budget_per_day,
    }
    for name, feature_set in run.drafted.detector.feature_sets.items():
        for how, threshold in feature_set.thresholds.items():
            params[f"limit.{name}.{how}"] = round(threshold.raw_score, 4)
    return params
