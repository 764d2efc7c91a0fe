"""From a grid of history to the files of a bundle."""

from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from adnomaly.bundle import bundle as sealed
from adnomaly.bundle.codec import encode_history, encode_thresholds, to_json
from adnomaly.bundle.sentinels import choose_sentinels
from adnomaly.detector.detector import Detector
from adnomaly.detector.feature_sets import forest_inputs
from adnomaly.detector.grid import Grid
from adnomaly.detector.seasonal import SeasonalBaseline
from adnomaly.detector.spec import Spec

if TYPE_CHECKING:
    from adnomaly.detector.onnx_export import Parity

PROBES: Final = 5000


def files_of(
    detector: Detector, grid: Grid, card: dict[str, Any], budget_per_day: float, *, seed: int
) -> dict[str, bytes]:
    """The files of the bundle of a detector that was just fitted on this grid, but the manifest."""
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
    if isinstance(detector.baseline, SeasonalBaseline) and detector.spec == Spec.ours():
        # Of what will be loaded: what is stored is rounded.
        stored = sealed.Bundle.of("draft", files).detector
        rows = choose_sentinels(
            grid.between(max(0, len(grid.end_s) - grid.per_day()), len(grid.end_s)),
            stored,
            detector.forests,
            seed=seed,
        )
        files[sealed.SENTINELS_FILE] = to_json([msgspec.to_builtins(row) for row in rows])
    return files


def check_exports(detector: Detector, *, seed: int) -> "dict[str, Parity]":
    """Compare each exported model with the forest it was made from, on wide random rows and on rows at the trees' thresholds.

    Raises:
        BundleRejected: a score differs.
    """
    from adnomaly.detector.forest import forest_scores
    from adnomaly.detector.onnx_export import check_parity

    found, rng = {}, np.random.default_rng(seed)
    for name, forest in detector.forests.items():
        coordinates = 2 * rng.standard_normal(
            (PROBES, len(detector.feature_sets[name].whitening.columns))
        )
        rows = forest_inputs(coordinates, np.linalg.norm(coordinates, axis=1))
        found[name] = check_parity(
            forest,
            detector.feature_sets[name].model,
            rows,
            float(np.quantile(forest_scores(forest, rows), 0.9)),
            seed=seed,
        )
    return found


def card_of(
    detector: Detector, grid: Grid, rows: int, alerts_per_day: float, seed: int
) -> dict[str, Any]:
    """What a bundle says about itself. No clock in it: equal data give an equal bundle."""
    first, last = (
        datetime.fromtimestamp(int(s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for s in (grid.end_s[0], grid.end_s[-1])
    )
    return {
        "model": "Isolation Forest and radius on the independent axes of what a forecast per entity leaves",
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
        "limits": {
            name: {how: threshold.to_plain() for how, threshold in feature_set.thresholds.items()}
            for name, feature_set in detector.feature_sets.items()
        },
        "rise_of_volume_alone_allowed": {
            name: float(np.exp(feature_set.whitening.volume_tolerance))
            for name, feature_set in detector.feature_sets.items()
        },
        "libraries": {
            name: version(name)
            for name in ("adnomaly", "scikit-learn", "onnxruntime", "numpy", "pandas")
        },
    }
