"""The scorer: the only one that opens a bundle to score. Higher = more anomalous; anomalous means score >= threshold."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np

from adnomaly.errors import BundleRejected
from adnomaly.features import CONTRACT
from adnomaly.model.bundle import Bundle
from adnomaly.model.columns import Columns
from adnomaly.model.session import open_session, run

SENTINEL_TOLERANCE: Final = 1e-4


class Scored(NamedTuple):
    """One scored row.

    Attributes:
        anomaly_score: from 0 to 1.
        threshold: of the row's baseline kind.
        baseline: `entity`, or `global` when the entity is unknown, or geo, platform or timestamp did not come.
        expected: what the model expected, per feature, in the feature's own unit.
        z: how far off each feature is, in robust standard deviations, within +-30.
    """

    anomaly_score: float
    is_anomaly: bool
    threshold: float
    baseline: str
    expected: dict[str, float]
    z: dict[str, float]


class Scorer:
    """A verified bundle, ready to score.

    Attributes:
        version: of the bundle.
        card: what the bundle says about its training.
        features: names of the model's input, in order.
        thresholds: by baseline kind, `entity` and `global`.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.version, self.card, self.features = bundle.version, bundle.card, CONTRACT
        self.thresholds = {"entity": bundle.thresholds.entity.threshold, "global": bundle.thresholds.pooled.threshold}
        self.baseline = bundle.baseline
        self._sentinels = bundle.sentinels
        try:
            self._session = open_session(bundle.model)
        except Exception as error:
            raise BundleRejected(f"model.onnx cannot be run: {error}"[:500]) from None

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The scorer of a sealed folder.

        Raises:
            BundleRejected: a file is missing, changed or foreign.
        """
        return cls(Bundle.load(Path(folder)))

    def score_rows(self, rows: Sequence[Mapping[str, Any]]) -> list[Scored]:
        """One result per row, in order. A row holds the features, and what is known of `geo`, `platform` and `timestamp`.

        `timestamp` is the end of the window. A row gets the same score alone and among others.
        """
        if not rows:
            return []
        residuals = [self.baseline.residual(row) for row in rows]
        scores = run(self._session, np.array([r.z for r in residuals], np.float32)).tolist()
        results = []
        for (z, expected, known), score in zip(residuals, scores, strict=True):
            kind = "entity" if known else "global"
            threshold = self.thresholds[kind]
            expected_of, z_of = (dict(zip(self.features, values, strict=True)) for values in (expected, z))
            results.append(Scored(score, score >= threshold, threshold, kind, expected_of, z_of))
        return results

    def score_columns(self, windows: Columns, *, pooled: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Scores (n,) float32 of many windows, and which of them have a baseline of their own, (n,) bool."""
        residuals, known = self.baseline.residuals(windows, pooled=pooled)
        return run(self._session, residuals), known

    def check_sentinels(self) -> None:
        """Score rows whose answers are known.

        Raises:
            BundleRejected: a sentinel gets another score, or changes sides.
        """
        if not self._sentinels:
            raise BundleRejected("sentinels.json holds no rows: nothing shows that this model works")
        for sentinel, scored in zip(self._sentinels, self.score_rows([s.row for s in self._sentinels]), strict=True):
            # Written so that NaN fails.
            if not abs(scored.anomaly_score - sentinel.score) <= SENTINEL_TOLERANCE or scored.is_anomaly != sentinel.is_anomaly:
                raise BundleRejected(
                    f"sentinel {sentinel.row} must score {sentinel.score:.6f} ({'anomalous' if sentinel.is_anomaly else 'normal'}), "
                    f"got {scored.anomaly_score:.6f} against the threshold {scored.threshold:.6f}"
                )
