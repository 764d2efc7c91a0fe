"""The folder in which a model is made: what each step leaves there for the next."""

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

if TYPE_CHECKING:
    import pyarrow as pa

_WINDOWS = "windows.parquet"


class TrainingSample(msgspec.Struct, frozen=True):
    """What a model learns from: the windows with start < window_end <= end."""

    start: datetime
    end: datetime
    days: float
    seed: int
    budget_per_day: float
    rows: int
    sha256: str


class TrainingRun:
    """Files of one training run. Everything is read when it is first asked for."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @cached_property
    def sample(self) -> TrainingSample:
        return msgspec.json.decode((self.path / "sample.json").read_bytes(), type=TrainingSample)

    def save_sample(self, sample: TrainingSample, windows: "pa.Table") -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        pq.write_table(windows, self.path / _WINDOWS)
        (self.path / "sample.json").write_bytes(to_json(sample))

    @cached_property
    def windows(self) -> Windows:
        """The windows to learn from."""
        return from_table(pq.read_table(self.path / _WINDOWS), Spec.ours())

    def save_draft(self, files: Mapping[str, bytes]) -> None:
        """The files of the bundle before it is sealed."""
        self._draft.mkdir(exist_ok=True)
        for name, data in files.items():
            (self._draft / name).write_bytes(data)

    def draft(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in sorted(self._draft.iterdir())}

    @cached_property
    def drafted(self) -> Bundle:
        """The bundle as it will be, without what it says about itself."""
        return Bundle.of("draft", self.draft())

    @cached_property
    def backtest_set(self) -> BacktestSet:
        return load_holdout(self.path, self.windows)

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

    @property
    def _draft(self) -> Path:
        return self.path / "draft"
