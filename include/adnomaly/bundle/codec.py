"""Encode a detector as the files of a bundle, and decode it: stable bytes, 9 significant digits."""

import io
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adnomaly.detector.baseline import Baseline
from adnomaly.detector.detector import THRESHOLD, Detector
from adnomaly.detector.feature_sets import ENTITY_BASELINE, GLOBAL_BASELINE, IN_CONTEXT, FeatureSet
from adnomaly.detector.forecast import GAP_S, LENGTHS_S, ResidualForecast
from adnomaly.detector.grid import Cadence, Grid
from adnomaly.detector.seasonal import SeasonalBaseline
from adnomaly.detector.spec import Spec
from adnomaly.detector.thresholds import Threshold
from adnomaly.detector.whitening import Whitening
from adnomaly.detector.windows import Windows

MAX_RAW_SCORE: Final = 11.0
"""Upper bound of raw scores: z ends at 1000, and forest scores at 1."""
PAST_S: Final = LENGTHS_S[-1] + GAP_S + 3600
"""Reach of the residual forecast."""


def encode_thresholds(detector: Detector, budget_per_day: float) -> dict[str, Any]:
    """threshold.json: thresholds by feature set and mode, and the budget behind them."""
    return {
        "threshold": THRESHOLD,
        "budget_per_day": budget_per_day,
        "limits": plain_thresholds(detector),
    }


def plain_thresholds(detector: Detector) -> dict[str, dict[str, dict[str, float]]]:
    """Thresholds by feature set and mode."""
    return {
        name: {mode: threshold.to_plain() for mode, threshold in feature_set.thresholds.items()}
        for name, feature_set in detector.feature_sets.items()
    }


def decode_detector(
    preprocess: Mapping[str, Any], thresholds: Mapping[str, Any], models: Mapping[str, bytes]
) -> Detector:
    """The detector of preprocess.json, threshold.json and the models by feature set.

    Raises:
        ValueError, KeyError, TypeError, msgspec.MsgspecError: a value is missing or invalid.
    """
    spec = msgspec.convert(preprocess["spec"], Spec)
    cadence = Cadence(*map(int, preprocess["cadence"]))
    baseline = decode_baseline(preprocess["usual"], spec)
    memory, gate = preprocess["memory"], preprocess["gate"]
    if thresholds["threshold"] != THRESHOLD or not thresholds["budget_per_day"] > 0:
        raise ValueError(f"threshold must be {THRESHOLD}, and budget_per_day above 0")
    single = (ENTITY_BASELINE, GLOBAL_BASELINE) if baseline.scores_rows else ()
    feature_sets = {}
    for name, axes in preprocess["axes"].items():
        limits = thresholds["limits"][name]
        by_mode = {
            mode: _threshold(f"{name} {mode}", limits[mode]) for mode in (IN_CONTEXT, *single)
        }
        whitening = Whitening.from_plain(_arrays(axes, ("columns",)))
        feature_sets[name] = FeatureSet(whitening, models[name], by_mode)
    if set(feature_sets) != set(models):
        raise ValueError(
            f"there are models for {', '.join(models)}, and axes for {', '.join(feature_sets)}"
        )
    return Detector(
        spec,
        cadence,
        tuple(preprocess["names"]),
        baseline,
        ResidualForecast.from_plain(_arrays(memory), cadence) if memory else None,
        feature_sets,
        float("inf") if gate is None else gate,
    )


def decode_baseline(raw: Mapping[str, Any], spec: Spec) -> Baseline:
    """The baseline of the class that is registered for `kind`."""
    if raw["kind"] == SeasonalBaseline.kind:
        return SeasonalBaseline.from_plain(_arrays(raw), spec)
    # Scoring processes start without pandas, which this baseline needs.
    from adnomaly.detector.rolling import RollingBaseline

    if raw["kind"] == RollingBaseline.kind:
        return RollingBaseline.from_plain(_arrays(raw), spec)
    raise ValueError(
        f"kind is {raw['kind']!r}, must be {SeasonalBaseline.kind} or {RollingBaseline.kind}"
    )


def _threshold(name: str, raw: Mapping[str, Any]) -> Threshold:
    threshold = Threshold.from_plain(raw)
    if not 0 < threshold.raw_score < MAX_RAW_SCORE:
        raise ValueError(
            f"the threshold of {name} must be between 0 and {MAX_RAW_SCORE:g}, "
            f"got {threshold.raw_score}"
        )
    return threshold


def encode_history(grid: Grid, detector: Detector) -> bytes:
    """The last windows of training, the past of the first windows to score, as Parquet."""
    from adnomaly.detector.rolling import HISTORY_DAYS

    back_s = PAST_S if detector.residual_forecast else HISTORY_DAYS * 86400
    rows = grid.between(max(0, len(grid.end_s) - grid.cadence.steps(back_s)), len(grid.end_s))
    row, entity = np.nonzero(np.isfinite(rows.values).any(axis=2))
    keys = {"end_s": rows.end_s[row], "entity": entity}
    values = {name: rows.values[row, entity, f] for f, name in enumerate(detector.spec.names)}
    out = io.BytesIO()
    pq.write_table(pa.table(keys | values), out, compression="zstd")
    return out.getvalue()


def decode_history(data: bytes, detector: Detector) -> Windows:
    """The windows that `encode_history` wrote.

    Raises:
        ValueError: an entity is out of range.
    """
    history = pq.read_table(pa.BufferReader(data))
    end, entity = history["end_s"].to_numpy(), history["entity"].to_numpy()
    if len(entity) and not 0 <= entity.min() <= entity.max() < len(detector.names):
        raise ValueError(
            f"entity must be from 0 to {len(detector.names) - 1}, "
            f"got {entity.min()} to {entity.max()}"
        )
    values = np.column_stack([history[name].to_numpy() for name in detector.spec.names])
    return Windows(detector.names, entity, end - detector.cadence.size_s, end, values)


def to_json(value: Any) -> bytes:
    """Readable JSON with stable bytes: sorted keys, indented, null for NaN and infinity."""
    return msgspec.json.format(msgspec.json.encode(_plain(value), order="sorted"), indent=1) + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.9g}") if np.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    plain = msgspec.to_builtins(value)
    return _plain(plain) if isinstance(value, msgspec.Struct) else plain


def _arrays(raw: Mapping[str, Any], plain: tuple[str, ...] = ("links",)) -> dict[str, Any]:
    """Lists as arrays, null as NaN, except at the plain keys."""
    return {
        key: np.array(value, np.float64) if isinstance(value, list) and key not in plain else value
        for key, value in raw.items()
    }
