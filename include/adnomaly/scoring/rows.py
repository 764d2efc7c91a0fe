"""Score single windows without context, as HTTP requests bring them.

Higher is more anomalous; anomalous means a score >= 0.5.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np

from adnomaly.arrays import Floats
from adnomaly.bundle.bundle import Bundle
from adnomaly.detector.detector import THRESHOLD
from adnomaly.detector.feature_sets import ENTITY_BASELINE, GLOBAL_BASELINE
from adnomaly.detector.onnx_session import open_session
from adnomaly.detector.scores import SingleScores
from adnomaly.detector.spec import Spec
from adnomaly.detector.transforms import inverse_transform
from adnomaly.detector.windows import SEPARATOR
from adnomaly.errors import BundleRejected
from adnomaly.scoring.attribution import attribute

SENTINEL_TOLERANCE: Final = 1e-4


class RowScore(NamedTuple):
    """One scored row.

    Attributes:
        anomaly_score: in [0, 1).
        threshold: 0.5.
        baseline: `entity`, or `global` for an unknown entity or incomplete context.
        features: the ones behind the score: the contract's, or all if the row has them all.
        expected: per feature, in its own unit.
        z: deviation of each feature from its expected value, in robust standard deviations.
        share: attribution of each feature, with the sign of its deviation; sizes sum to 1.
    """

    anomaly_score: float
    is_anomaly: bool
    threshold: float
    baseline: str
    features: tuple[str, ...]
    expected: dict[str, float]
    z: dict[str, float]
    share: dict[str, float]


class RowScorer:
    """A verified bundle that scores single windows.

    Attributes:
        version: of the bundle.
        card: of the bundle.
        features: names of all features, in order.
    """

    def __init__(self, bundle: Bundle) -> None:
        detector = bundle.detector
        if not detector.baseline.scores_rows:
            raise BundleRejected(
                "this bundle compares windows with earlier ones and cannot score single rows: "
                "train on two weeks"
            )
        if detector.spec != Spec.ours():
            raise BundleRejected(
                f"this bundle has the features {', '.join(detector.spec.names)}, "
                f"must have {', '.join(Spec.ours().names)}: train without a SPEC.toml"
            )
        self.version, self.card, self.features = bundle.version, bundle.card, detector.spec.names
        self._detector, self._sentinels = detector, bundle.sentinels
        self._positions = {name: i for i, name in enumerate(detector.names)}
        self._required = tuple(detector.spec.names[i] for i in detector.spec.required)
        try:
            for feature_set in detector.feature_sets.values():
                open_session(feature_set.model)
        except Exception as error:
            raise BundleRejected(f"the model cannot be run: {error}"[:500]) from None

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load a sealed bundle.

        Raises:
            BundleRejected: a file is missing, changed or not allowed.
        """
        return cls(Bundle.load(Path(folder)))

    def score_rows(self, rows: Sequence[Mapping[str, Any]]) -> list[RowScore]:
        """One result per row, in order; a row scores the same alone and in any batch.

        A row holds the features, and optionally `geo`, `platform` and `timestamp` (window end).
        """
        if not rows:
            return []
        values = np.array(
            [[row.get(name, np.nan) for name in self.features] for row in rows], np.float64
        )
        positions = np.array([self._position(row) for row in rows], np.int64)
        entity, end_s = positions[:, 0], positions[:, 1]
        return self._explained(self._detector.score_rows(values, end_s, entity))

    def _position(self, row: Mapping[str, Any]) -> tuple[int, int]:
        """Entity and window end of a row; -1 and 0 for an unknown entity or incomplete context."""
        timestamp = row.get("timestamp")
        entity = self._positions.get(f"{row.get('geo')}{SEPARATOR}{row.get('platform')}", -1)
        if not timestamp or entity < 0:
            return -1, 0
        return entity, int(datetime.fromisoformat(timestamp).timestamp())

    def _explained(self, scores: SingleScores) -> list[RowScore]:
        z = scores.comparison.z
        expected = inverse_transform(scores.comparison.expected, self._detector.baseline.transforms)
        share = np.where(scores.complete[:, None], attribute(z), self._required_share(z))
        columns = (scores.score, scores.by_entity, scores.complete, expected, z, share)
        return [
            self._row(*row) for row in zip(*(column.tolist() for column in columns), strict=True)
        ]

    def _required_share(self, z: Floats) -> Floats:
        """Attribution over the required features, which come first; 0 for the others."""
        required = attribute(z[:, : len(self._required)])
        return np.pad(required, ((0, 0), (0, z.shape[1] - required.shape[1])))

    def _row(self, score: float, by_entity: bool, complete: bool, *parts: list[float]) -> RowScore:
        names = self.features if complete else self._required
        expected, z, share = (dict(zip(names, part, strict=False)) for part in parts)
        return RowScore(
            anomaly_score=score,
            is_anomaly=score >= THRESHOLD,
            threshold=THRESHOLD,
            baseline=ENTITY_BASELINE if by_entity else GLOBAL_BASELINE,
            features=names,
            expected=expected,
            z=z,
            share=share,
        )

    def check_sentinels(self) -> None:
        """Score the sentinels.

        Raises:
            BundleRejected: there are none, or one gets another score or changes sides.
        """
        if not self._sentinels:
            raise BundleRejected("sentinels.json holds no rows: the model cannot be verified")
        scores = self.score_rows([s.row for s in self._sentinels])
        for sentinel, scored in zip(self._sentinels, scores, strict=True):
            # `not <=`, so that NaN fails.
            if (
                not abs(scored.anomaly_score - sentinel.score) <= SENTINEL_TOLERANCE
                or scored.is_anomaly != sentinel.is_anomaly
            ):
                raise BundleRejected(
                    f"sentinel {sentinel.row} must score {sentinel.score:.6f} "
                    f"({'anomalous' if sentinel.is_anomaly else 'normal'}), "
                    f"got {scored.anomaly_score:.6f} against the threshold {scored.threshold:.6f}"
                )
