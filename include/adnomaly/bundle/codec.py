"""A detector as the files of a bundle, and back: stable bytes, 9 significant digits."""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adnomaly.detector.detector import THRESHOLD, Detector
from adnomaly.detector.feature_sets import ENTITY_BASELINE, GLOBAL_BASELINE, IN_CONTEXT, FeatureSet
from adnomaly.detector.forecast import GAP_S, LENGTHS_S, ResidualForecast
from adnomaly.detector.grid import Cadence, Grid
from adnomaly.detector.seasonal import SeasonalBaseline
from adnomaly.detector.spec import Spec
from adnomaly.detector.thresholds import Threshold
from adnomaly.detector.whitening import Whitening
from adnomaly.detector.windows import Windows

if TYPE_CHECKING:
    from adnomaly.detector.rolling import RollingBaseline

MAX_RAW_SCORE: Final = 11.0
"""No window is higher: deviations end at 1000, and forests answer at most 1."""
PAST_S: Final = LENGTHS_S[-1] + GAP_S + 3600
"""With a memory, what came before this does not matter."""


def encode_thresholds(detector: Detector, budget_per_day: float) -> dict[str, Any]:
    """The limits of each view by how a window is looked at, and the budget that they were chosen for."""
    limits = {
        name: {how: threshold.to_plain() for how, threshold in feature_set.thresholds.items()}
        for name, feature_set in detector.feature_sets.items()
    }
    return {"threshold": THRESHOLD, "budget_per_day": budget_per_day, "limits": limits}


def decode_detector(
    preprocess: Mapping[str, Any], thresholds: Mapping[str, Any], models: Mapping[str, bytes]
) -> Detector:
    """The detector of these files.

    Raises:
        ValueError, KeyError, TypeError, msgspec.MsgspecError: they are not what this code writes.
    """
    spec, cadence = (
        msgspec.convert(preprocess["spec"], Spec),
        Cadence(*map(int, preprocess["cadence"])),
    )
    baseline = _baseline(preprocess["usual"], spec)
    residual_forecast = (
        ResidualForecast.from_plain(_arrays(preprocess["memory"]), cadence)
        if preprocess["memory"]
        else None
    )
    if thresholds["threshold"] != THRESHOLD or not thresholds["budget_per_day"] > 0:
        raise ValueError(f"threshold must be {THRESHOLD}, and budget_per_day above 0")
    needed = (
        (IN_CONTEXT, ENTITY_BASELINE, GLOBAL_BASELINE)
        if isinstance(baseline, SeasonalBaseline)
        else (IN_CONTEXT,)
    )
    feature_sets = {}
    for name, axes in preprocess["axes"].items():
        limits = {
            how: _threshold(f"{name} {how}", thresholds["limits"][name][how]) for how in needed
        }
        feature_sets[name] = FeatureSet(
            Whitening.from_plain(_arrays(axes, ("columns",))), models[name], limits
        )
    if set(feature_sets) != set(models):
        raise ValueError(
            f"there are models for {', '.join(models)}, and axes for {', '.join(feature_sets)}"
        )
    return Detector(
        spec,
        cadence,
        tuple(preprocess["names"]),
        baseline,
        residual_forecast,
        feature_sets,
        float("inf") if preprocess["gate"] is None else preprocess["gate"],
    )


def _baseline(raw: Mapping[str, Any], spec: Spec) -> "SeasonalBaseline | RollingBaseline":
    if raw["kind"] == SeasonalBaseline.kind:
        return SeasonalBaseline.from_plain(_arrays(raw), spec)
    from adnomaly.detector.rolling import RollingBaseline

    return RollingBaseline.from_plain(_arrays(raw), spec)


def _threshold(name: str, raw: Mapping[str, Any]) -> Threshold:
    threshold = Threshold.from_plain(raw)
    if not 0 < threshold.raw_score < MAX_RAW_SCORE:
        raise ValueError(
            f"the threshold of {name} must be between 0 and {MAX_RAW_SCORE:g}, got {threshold.raw_score}"
        )
    return threshold


def encode_history(grid: Grid, detector: Detector) -> bytes:
    """The last windows of training, that later ones are compared with, as Parquet."""
    from adnomaly.detector.rolling import HISTORY_DAYS

    back_s = PAST_S if detector.residual_forecast else HISTORY_DAYS * 86400
    rows = grid.between(max(0, len(grid.end_s) - grid.cadence.steps(back_s)), len(grid.end_s))
    row, entity = np.nonzero(np.isfinite(rows.values).any(axis=2))
    columns = {"end_s": rows.end_s[row], "entity": entity}
    out = io.BytesIO()
    pq.write_table(
        pa.table(
            columns
            | {name: rows.values[row, entity, f] for f, name in enumerate(detector.spec.names)}
        ),
        out,
        compression="zstd",
    )
    return out.getvalue()


def decode_history(data: bytes, detector: Detector) -> Windows:
    """The windows that `encode_history` wrote."""
    history = pq.read_table(pa.BufferReader(data))
    end, entity = history["end_s"].to_numpy(), history["entity"].to_numpy()
    if len(entity) and not 0 <= entity.min() <= entity.max() < len(detector.names):
        raise ValueError("history names an entity that is not there")
    values = np.column_stack([history[name].to_numpy() for name in detector.spec.names])
    return Windows(detector.names, entity, end - detector.cadence.size_s, end, values)


def to_json(value: Any) -> bytes:
    """JSON for a file that people read too: sorted keys, stable bytes, null for NaN."""
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
    return (
        _plain(msgspec.to_builtins(value))
        if isinstance(value, msgspec.Struct)
        else msgspec.to_builtins(value)
    )


def _arrays(raw: Mapping[str, Any], plain: tuple[str, ...] = ("links",)) -> dict[str, Any]:
    """Lists as arrays, null as NaN."""
    return {
        key: np.array(value, np.float64) if isinstance(value, list) and key not in plain else value
        for key, value in raw.items()
    }
