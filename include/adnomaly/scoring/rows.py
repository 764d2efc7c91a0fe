"""Windows judged alone, as an HTTP request brings them: no past, no neighbours. Higher = more anomalous; from 0.5 on anomalous."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np

from adnomaly.bundle.bundle import Bundle
from adnomaly.detector.detector import ALL_FEATURES, REQUIRED_FEATURES, THRESHOLD
from adnomaly.detector.feature_sets import ENTITY_BASELINE, GLOBAL_BASELINE, normalize
from adnomaly.detector.onnx_session import open_session
from adnomaly.detector.seasonal import SeasonalBaseline
from adnomaly.detector.spec import Spec
from adnomaly.detector.transforms import inverse_transform
from adnomaly.detector.windows import SEPARATOR
from adnomaly.errors import BundleRejected
from adnomaly.scoring.attribution import attribute

SENTINEL_TOLERANCE: Final = 1e-4


class RowScore(NamedTuple):
    """One scored row.

    Attributes:
        anomaly_score: from 0 to below 1.
        threshold: 0.5.
        baseline: `entity`, or `global` when the entity is unknown, or geo, platform or timestamp did not come.
        features: names of those that the score depends on: the contract's, or all of them when all came.
        expected: what was expected, per feature, in the feature's own unit.
        z: how far off each feature is, in robust standard deviations.
        share: of each feature in what makes the row unusual, with the sign of its deviation; sizes sum to 1.
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
    """A verified bundle, ready to score single windows.

    Attributes:
        version: of the bundle.
        card: what the bundle says about its training.
        features: names of all features it can use, in order.
    """

    def __init__(self, bundle: Bundle) -> None:
        detector = bundle.detector
        if not isinstance(detector.baseline, SeasonalBaseline):
            raise BundleRejected(
                "this bundle compares windows with those before them, and cannot score one alone: train on two weeks"
            )
        if detector.spec != Spec.ours():
            raise BundleRejected(
                f"this bundle is for the features {', '.join(detector.spec.names)}, not for ours"
            )
        self.version, self.card, self.features = bundle.version, bundle.card, detector.spec.names
        self._detector, self._baseline, self._sentinels = (
            detector,
            detector.baseline,
            bundle.sentinels,
        )
        self._number = {name: i for i, name in enumerate(detector.names)}
        self._required = tuple(detector.spec.names[i] for i in detector.spec.required)
        try:
            for feature_set in detector.feature_sets.values():
                open_session(feature_set.model)
        except Exception as error:
            raise BundleRejected(f"the model cannot be run: {error}"[:500]) from None

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The scorer of a sealed folder.

        Raises:
            BundleRejected: a file is missing, changed or foreign.
        """
        return cls(Bundle.load(Path(folder)))

    def score_rows(self, rows: Sequence[Mapping[str, Any]]) -> list[RowScore]:
        """One result per row, in order. A row holds the features, and what is known of `geo`, `platform` and `timestamp`.

        `timestamp` is the end of the window. A row gets the same score alone and among others.
        """
        if not rows:
            return []
        values = np.array(
            [[row.get(name, np.nan) for name in self.features] for row in rows], np.float64
        )
        places = [self._place(row) for row in rows]
        number, end_s = np.array([p[0] for p in places]), np.array([p[1] for p in places], np.int64)
        return self._score(values, number, end_s)

    def _place(self, row: Mapping[str, Any]) -> tuple[int, int]:
        """Number of the row's entity and end of its window; -1 and 0 where one of them is not known."""
        moment = row.get("timestamp")
        number = (
            self._number.get(f"{row.get('geo')}{SEPARATOR}{row.get('platform')}", -1)
            if moment
            else -1
        )
        return (
            (number, int(datetime.fromisoformat(moment).timestamp()))
            if moment and number >= 0
            else (-1, 0)
        )

    def _score(self, values: np.ndarray, number: np.ndarray, end_s: np.ndarray) -> list[RowScore]:
        detector = self._detector
        comparison, known = self._baseline.compare_rows(
            values, end_s, number, detector.cadence.size_s
        )
        z, lift = comparison.z, detector.lift(values, comparison)
        whole = (
            np.isfinite(z).all(axis=1)
            if ALL_FEATURES in detector.feature_sets
            else np.zeros(len(z), bool)
        )
        score = np.empty(len(z))
        for name, mine in ((REQUIRED_FEATURES, ~whole), (ALL_FEATURES, whole)):
            if mine.any():
                feature_set = detector.feature_sets[name]
                limit = np.where(
                    known[mine],
                    feature_set.thresholds[ENTITY_BASELINE].raw_score,
                    feature_set.thresholds[GLOBAL_BASELINE].raw_score,
                )
                score[mine] = normalize(
                    feature_set.raw_score(feature_set.whitening.apply(z[mine], lift[mine])), limit
                )
        expected = inverse_transform(comparison.expected, self._baseline.transforms)
        required = attribute(z[:, : len(self._required)])  # required features come first
        share = np.where(
            whole[:, None],
            attribute(z),
            np.pad(required, ((0, 0), (0, z.shape[1] - required.shape[1]))),
        )
        parts = (part.tolist() for part in (score, known, whole, expected, z, share))
        return [self._row(*row) for row in zip(*parts, strict=True)]

    def _row(self, score: float, known: bool, whole: bool, *parts: list[float]) -> RowScore:
        names = self.features if whole else self._required
        expected, z, share = (dict(zip(names, part, strict=False)) for part in parts)
        return RowScore(
            score,
            score >= THRESHOLD,
            THRESHOLD,
            ENTITY_BASELINE if known else GLOBAL_BASELINE,
            names,
            expected,
            z,
            share,
        )

    def check_sentinels(self) -> None:
        """Score rows whose answers are known.

        Raises:
            BundleRejected: a sentinel gets another score, or changes sides.
        """
        if not self._sentinels:
            raise BundleRejected(
                "sentinels.json holds no rows: nothing shows that this model works"
            )
        for sentinel, found in zip(
            self._sentinels, self.score_rows([s.row for s in self._sentinels]), strict=True
        ):
            # Written so that NaN fails.
            if (
                not abs(found.anomaly_score - sentinel.score) <= SENTINEL_TOLERANCE
                or found.is_anomaly != sentinel.is_anomaly
            ):
                raise BundleRejected(
                    f"sentinel {sentinel.row} must score {sentinel.score:.6f} ({'anomalous' if sentinel.is_anomaly else 'normal'}), "
                    f"got {found.anomaly_score:.6f} against the threshold {found.threshold:.6f}"
                )
