"""MODEL_PATH, PREPROCESS_PATH and THRESHOLD_PATH: three files of one's own, sealed like any other bundle before they are served."""

from pathlib import Path
from typing import Any, Final

import msgspec

from adnomaly.bundle import bundle as sealed
from adnomaly.bundle.codec import to_json
from adnomaly.detector.detector import REQUIRED_FEATURES
from adnomaly.errors import BundleRejected, InvalidSetting
from adnomaly.scoring.rows import RowScorer

ROWS: Final[tuple[dict[str, float | str], ...]] = (
    {"ctr_avg": 0.022, "bounce_rate_avg": 0.36, "event_count": 240},
    {"ctr_avg": 0.022, "bounce_rate_avg": 0.95, "event_count": 240},
    {"ctr_avg": 0.022, "bounce_rate_avg": 0.36, "event_count": 100_000},
)
"""What becomes of these rows is written down as the new bundle's sentinels."""


def own_bundle(
    bundles: Path, *, model: Path | None, preprocess: Path | None, threshold: Path | None
) -> Path | None:
    """The folder below `bundles` in which these files were sealed; None when none is named.

    Raises:
        InvalidSetting: only some of the three are named, or one cannot be read.
        BundleRejected: together they are no model.
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
            "MODEL_PATH, PREPROCESS_PATH and THRESHOLD_PATH belong together: give all three, or none"
        )
    try:
        files = {name: path.read_bytes() for name, path in named.items()}
    except OSError as error:
        raise InvalidSetting(f"{error.filename}: {error.strerror}") from None
    return _seal(bundles, _of_the_contract(files))


def _seal(bundles: Path, files: dict[str, bytes]) -> Path:
    card = to_json({"origin": "files named by MODEL_PATH, PREPROCESS_PATH and THRESHOLD_PATH"})
    files = files | {sealed.CARD_FILE: card, sealed.SENTINELS_FILE: b"[]"}
    scored = RowScorer(sealed.Bundle.of("draft", files)).score_rows(ROWS)
    sentinels = [
        {"row": row, "score": s.anomaly_score, "is_anomaly": s.is_anomaly}
        for row, s in zip(ROWS, scored, strict=True)
    ]
    return sealed.seal(bundles, files | {sealed.SENTINELS_FILE: to_json(sentinels)})


def _of_the_contract(files: dict[str, bytes]) -> dict[str, bytes]:
    """One model is one view: what the other files say about a second one is left out."""
    try:
        preprocess, thresholds = (
            msgspec.json.decode(files[name], type=dict[str, Any])
            for name in (sealed.PREPROCESS_FILE, sealed.THRESHOLD_FILE)
        )
        preprocess["axes"] = {REQUIRED_FEATURES: preprocess["axes"][REQUIRED_FEATURES]}
        thresholds["limits"] = {REQUIRED_FEATURES: thresholds["limits"][REQUIRED_FEATURES]}
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise BundleRejected(
            f"PREPROCESS_PATH or THRESHOLD_PATH is not of a bundle: {type(error).__name__}: {error}"
        ) from None
    return files | {
        sealed.PREPROCESS_FILE: to_json(preprocess),
        sealed.THRESHOLD_FILE: to_json(thresholds),
    }
