"""MODEL_PATH, PREPROCESS_PATH and THRESHOLD_PATH: seal three given files as a bundle to serve."""

from pathlib import Path
from typing import Any, Final

import msgspec

from adnomaly.bundle import bundle as sealed
from adnomaly.bundle.codec import to_json
from adnomaly.detector.feature_sets import REQUIRED_FEATURES
from adnomaly.errors import BundleRejected, InvalidSetting
from adnomaly.features import CONTRACT
from adnomaly.scoring.rows import RowScorer

ROWS: Final[tuple[dict[str, float], ...]] = tuple(
    dict(zip(CONTRACT, values, strict=True))
    for values in ((0.022, 0.36, 240), (0.022, 0.95, 240), (0.022, 0.36, 100_000))
)
"""Rows that become the sentinels, with the scores the model gives them.

Literal values, not `Feature.example`: they are part of the bundle, so other values would give the
same three files another version.
"""


def own_bundle(
    bundles: Path, *, model: Path | None, preprocess: Path | None, threshold: Path | None
) -> Path | None:
    """Seal these files below `bundles`; returns the folder, None without files.

    Raises:
        InvalidSetting: only some of the three are named, or one cannot be read.
        BundleRejected: they do not fit together.
    """
    paths = {
        sealed.MODEL_FILES[REQUIRED_FEATURES]: model,
        sealed.PREPROCESS_FILE: preprocess,
        sealed.THRESHOLD_FILE: threshold,
    }
    named = {name: path for name, path in paths.items() if path is not None}
    if not named:
        return None
    if len(named) < len(paths):
        raise InvalidSetting(
            "MODEL_PATH, PREPROCESS_PATH and THRESHOLD_PATH belong together: give all three or none"
        )
    try:
        files = {name: path.read_bytes() for name, path in named.items()}
    except OSError as error:
        raise InvalidSetting(f"{error.filename}: {error.strerror}; give a readable file") from None
    return _seal(bundles, _required_only(files))


def _seal(bundles: Path, files: dict[str, bytes]) -> Path:
    card = to_json({"origin": "files named by MODEL_PATH, PREPROCESS_PATH and THRESHOLD_PATH"})
    files = files | {sealed.CARD_FILE: card, sealed.SENTINELS_FILE: b"[]"}
    scored = RowScorer(sealed.Bundle.of("draft", files)).score_rows(ROWS)
    sentinels = [
        {"row": row, "score": s.anomaly_score, "is_anomaly": s.is_anomaly}
        for row, s in zip(ROWS, scored, strict=True)
    ]
    return sealed.seal(bundles, files | {sealed.SENTINELS_FILE: to_json(sentinels)})


def _required_only(files: dict[str, bytes]) -> dict[str, bytes]:
    """Remove other feature sets: there is one model, of the required features."""
    try:
        preprocess, thresholds = (
            msgspec.json.decode(files[name], type=dict[str, Any])
            for name in (sealed.PREPROCESS_FILE, sealed.THRESHOLD_FILE)
        )
        preprocess["axes"] = {REQUIRED_FEATURES: preprocess["axes"][REQUIRED_FEATURES]}
        thresholds["limits"] = {REQUIRED_FEATURES: thresholds["limits"][REQUIRED_FEATURES]}
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise BundleRejected(
            "PREPROCESS_PATH or THRESHOLD_PATH is not a file of a bundle: "
            f"{type(error).__name__}: {error}"
        ) from None
    return files | {
        sealed.PREPROCESS_FILE: to_json(preprocess),
        sealed.THRESHOLD_FILE: to_json(thresholds),
    }
