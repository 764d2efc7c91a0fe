"""MODEL_PATH, PREPROCESS_PATH and THRESHOLD_PATH: three files of one's own, sealed like any other bundle before they are served."""

from pathlib import Path
from typing import Any, Final

import msgspec

from adnomaly.errors import BundleRejected, InvalidSetting
from adnomaly.model import bundle as sealed
from adnomaly.model.preprocess import Baseline
from adnomaly.model.score import Scorer

ROWS: Final[tuple[dict[str, float | str], ...]] = (
    {"ctr_avg": 0.022, "bounce_rate_avg": 0.36, "event_count": 240},
    {"ctr_avg": 0.022, "bounce_rate_avg": 0.95, "event_count": 240},
    {"ctr_avg": 0.022, "bounce_rate_avg": 0.36, "event_count": 100_000},
)
"""What becomes of these rows is written down as the new bundle's sentinels."""


def own_bundle(bundles: Path, *, model: Path | None, preprocess: Path | None, threshold: Path | None) -> Path | None:
    """The folder below `bundles` in which these files were sealed; None when none is named.

    Raises:
        InvalidSetting: only some of the three are named, or one cannot be read.
        BundleRejected: together they are no model.
    """
    paths = {sealed.MODEL: model, sealed.PREPROCESS: preprocess, sealed.THRESHOLD: threshold}
    named = {name: path for name, path in paths.items() if path is not None}
    if not named:
        return None
    if len(named) < len(paths):
        raise InvalidSetting("MODEL_PATH, PREPROCESS_PATH and THRESHOLD_PATH belong together: give all three, or none")
    try:
        files = {name: path.read_bytes() for name, path in named.items()}
    except OSError as error:
        raise InvalidSetting(f"{error.filename}: {error.strerror}") from None
    return _seal(bundles, files)


def _seal(bundles: Path, files: dict[str, bytes]) -> Path:
    card = sealed.to_json({"origin": "files named by MODEL_PATH, PREPROCESS_PATH and THRESHOLD_PATH"})
    sentinels = sealed.to_json(_sentinels(files))
    return sealed.seal(bundles, files | {sealed.CARD: card, sealed.SENTINELS: sentinels})


def _sentinels(files: dict[str, bytes]) -> list[dict[str, Any]]:
    try:
        baseline = Baseline.from_json(msgspec.json.decode(files[sealed.PREPROCESS]))
        thresholds = msgspec.json.decode(files[sealed.THRESHOLD], type=sealed.Thresholds)
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError) as error:
        raise BundleRejected(f"PREPROCESS_PATH or THRESHOLD_PATH: {error}") from None
    draft = sealed.Bundle("draft", files[sealed.MODEL], baseline, thresholds, {}, [])
    scored = Scorer(draft).score_rows(ROWS)
    return [{"row": row, "score": s.anomaly_score, "is_anomaly": s.is_anomaly} for row, s in zip(ROWS, scored, strict=True)]
