"""The folder in which a model is made: what each step leaves there for the next."""

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import joblib
import msgspec
import pyarrow.parquet as pq

from adnomaly.model.bundle import MODEL, PREPROCESS, THRESHOLD, Thresholds, to_json
from adnomaly.model.columns import Columns
from adnomaly.model.evaluate import Evaluation, Score, Trial, rivals
from adnomaly.model.preprocess import Baseline
from adnomaly.model.session import open_session, run
from adnomaly.pipelines.trial import load_trial

if TYPE_CHECKING:
    import pyarrow as pa
    from sklearn.ensemble import IsolationForest

TRAIN: Final = "train"
CALIBRATE: Final = "calibrate"


class Sample(msgspec.Struct, frozen=True):
    """What a model learns from: windows with start < window_end <= split to train on, split < window_end <= end to calibrate on."""

    start: datetime
    split: datetime
    end: datetime
    train_days: float
    seed: int
    rows: int
    calibrate_rows: int
    sha256: str


class WorkFolder:
    """Files of one training run. Everything is read when it is first asked for."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @cached_property
    def sample(self) -> Sample:
        return msgspec.json.decode((self.path / "sample.json").read_bytes(), type=Sample)

    def keep_sample(self, sample: Sample, tables: "Mapping[str, pa.Table]") -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            pq.write_table(table, self.path / f"{name}.parquet")
        (self.path / "sample.json").write_bytes(to_json(sample))

    def windows(self, part: str) -> Columns:
        """The windows to train or to calibrate on."""
        return Columns.of(pq.read_table(self.path / f"{part}.parquet"))

    @cached_property
    def baseline(self) -> Baseline:
        return Baseline.from_json(msgspec.json.decode((self.path / PREPROCESS).read_bytes()))

    @cached_property
    def forest(self) -> "IsolationForest":
        return joblib.load(self.path / "forest.joblib")

    def keep_model(self, baseline: Baseline, forest: "IsolationForest", exported: bytes) -> None:
        (self.path / PREPROCESS).write_bytes(to_json(baseline.to_json()))
        (self.path / MODEL).write_bytes(exported)
        joblib.dump(forest, self.path / "forest.joblib")

    @cached_property
    def model(self) -> bytes:
        return (self.path / MODEL).read_bytes()

    @cached_property
    def score(self) -> Score:
        """The exported forest."""
        session = open_session(self.model)
        return lambda residuals: run(session, residuals)

    @cached_property
    def thresholds(self) -> Thresholds:
        return msgspec.json.decode((self.path / THRESHOLD).read_bytes(), type=Thresholds)

    @cached_property
    def trial(self) -> Trial:
        return load_trial(self.path)

    @cached_property
    def rivals(self) -> Mapping[str, Score]:
        """The simple rules, fitted on the training windows."""
        residuals, known = self.baseline.residuals(self.windows(TRAIN))
        return rivals(residuals[known], seed=self.sample.seed)

    @property
    def figures(self) -> Path:
        """The folder of figures and pictures."""
        return self.path / "evaluation"

    @cached_property
    def evaluation(self) -> Evaluation:
        return msgspec.json.decode((self.figures / "evaluation.json").read_bytes(), type=Evaluation)

    @property
    def bundles(self) -> Path:
        """The folder of the sealed bundle."""
        return self.path / "bundles"

    @property
    def bundle(self) -> Path:
        """The bundle that was sealed last."""
        return self.bundles / (self.path / "version").read_text()
