"""Build the files of a bundle from a fitted detector and its history."""

from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from adnomaly.bundle import bundle as sealed
from adnomaly.bundle.codec import encode_history, encode_thresholds, plain_thresholds, to_json
from adnomaly.bundle.sentinels import choose_sentinels
from adnomaly.detector.detector import Detector
from adnomaly.detector.feature_sets import forest_inputs
from adnomaly.detector.grid import Grid
from adnomaly.detector.spec import Spec

if TYPE_CHECKING:
    from adnomaly.detector.onnx_export import Parity

PROBES: Final = 5000
LIBRARIES: Final = ("adnomaly", "scikit-learn", "onnxruntime", "numpy", "pandas")


def build_files(
    detector: Detector, grid: Grid, card: dict[str, Any], budget_per_day: float, *, seed: int
) -> dict[str, bytes]:
    """All files but the manifest, for a detector that was just fitted on this grid."""
    files = {
        sealed.MODEL_FILES[name]: feature_set.model
        for name, feature_set in detector.feature_sets.items()
    }
    files |= {
        sealed.PREPROCESS_FILE: to_json(detector.to_plain()),
        sealed.THRESHOLD_FILE: to_json(encode_thresholds(detector, budget_per_day)),
        sealed.CARD_FILE: to_json(card),
        sealed.HISTORY_FILE: encode_history(grid, detector),
        sealed.SENTINELS_FILE: b"[]",
    }
    if detector.baseline.scores_rows and detector.spec == Spec.ours():
        # Stored values are rounded: take the answers from the decoded detector.
        stored = sealed.Bundle.of("draft", files).detector
        last_day = grid.between(max(0, len(grid.end_s) - grid.per_day()), len(grid.end_s))
        rows = choose_sentinels(last_day, stored, detector.forests, seed=seed)
        files[sealed.SENTINELS_FILE] = to_json([msgspec.to_builtins(row) for row in rows])
    return files


def check_exports(detector: Detector, *, seed: int) -> "dict[str, Parity]":
    """Compare each exported model with its forest on random rows and on split thresholds.

    Raises:
        BundleRejected: a score differs.
    """
    # Scoring processes start without scikit-learn.
    from adnomaly.detector.forest import forest_scores
    from adnomaly.detector.onnx_export import check_parity

    parities, rng = {}, np.random.default_rng(seed)
    for name, forest in detector.forests.items():
        feature_set = detector.feature_sets[name]
        coordinates = 2 * rng.standard_normal((PROBES, len(feature_set.whitening.columns)))
        rows = forest_inputs(coordinates, np.linalg.norm(coordinates, axis=1))
        threshold = float(np.quantile(forest_scores(forest, rows), 0.9))
        parities[name] = check_parity(forest, feature_set.model, rows, threshold, seed=seed)
    return parities


def build_card(
    detector: Detector, grid: Grid, rows: int, alerts_per_day: float, seed: int
) -> dict[str, Any]:
    """Model card: what the bundle was trained on and how. Without a clock, so bytes are stable."""
    first, last = (
        datetime.fromtimestamp(int(s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for s in (grid.end_s[0], grid.end_s[-1])
    )
    return {
        # The sentence is part of the bundle's bytes, and thus of its version.
        "model": "Isolation Forest and radius on the independent axes of what a forecast "
        "per entity leaves",
        "higher_is": "more anomalous; 0.5 is the threshold",
        "baseline": detector.baseline.kind,
        "cadence": str(detector.cadence),
        "entities": len(detector.names),
        "features": {
            name: [detector.spec.names[i] for i in feature_set.whitening.columns]
            for name, feature_set in detector.feature_sets.items()
        },
        "training": {
            "rows": rows,
            "first": first,
            "last": last,
            "days": round(grid.days, 3),
            "seed": seed,
        },
        "alerts_per_day": alerts_per_day,
        "limits": plain_thresholds(detector),
        "rise_of_volume_alone_allowed": {
            name: float(np.exp(feature_set.whitening.volume_tolerance))
            for name, feature_set in detector.feature_sets.items()
        },
        "libraries": {name: version(name) for name in LIBRARIES},
    }
