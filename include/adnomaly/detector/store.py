"""A detector in a folder: complete, unchanged, and with enough history to judge what follows.

`manifest.json` holds the sha256 of every other file; a folder that differs from it is not loaded.
"""

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adnomaly.detector.axes import Axes
from adnomaly.detector.calibrate import Limit
from adnomaly.detector.detector import Detector
from adnomaly.detector.grid import Cadence, Grid
from adnomaly.detector.memory import GAP_S, LENGTHS_S, Memory
from adnomaly.detector.slots import SlotTable
from adnomaly.detector.spec import Spec
from adnomaly.detector.table import Windows
from adnomaly.detector.trailing import HISTORY_DAYS, Trailing
from adnomaly.detector.views import View
from adnomaly.errors import BundleRejected

FORMAT: Final = 1
DETECTOR: Final = "detector.json"
HISTORY: Final = "history.parquet"
CARD: Final = "card.json"
MANIFEST: Final = "manifest.json"
LARGEST_BYTES: Final = 256 * 1024 * 1024


class Trained(NamedTuple):
    """A detector, the last windows it was trained on, and what it says about itself."""

    detector: Detector
    history: Windows
    card: dict[str, Any]


def save(folder: Path, detector: Detector, grid: Grid, card: dict[str, Any]) -> None:
    """Write the folder in one step; one that holds a bundle already is replaced.

    Raises:
        BundleRejected: the folder holds something else.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
        raise BundleRejected(f"{folder}: holds other files; name a new or an empty folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".sealing-", dir=folder.parent))
    try:
        for name, view in detector.views.items():
            (draft / _model(name)).write_bytes(view.model)
        (draft / DETECTOR).write_bytes(_json(detector.to_plain()))
        pq.write_table(_history(grid, detector), draft / HISTORY, compression="zstd")
        (draft / CARD).write_bytes(_json(card))
        sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(draft.iterdir())}
        (draft / MANIFEST).write_bytes(_json({"format": FORMAT, "files": sums}))
        draft.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def load(folder: Path) -> Trained:
    """The detector of a folder that `save` wrote.

    Raises:
        BundleRejected: naming the file that is missing, changed or foreign.
    """
    data = _verified(folder)
    try:
        raw = msgspec.json.decode(data[DETECTOR])
        detector = _detector(raw, data)
        history = pq.read_table(pa.BufferReader(data[HISTORY]))
        return Trained(detector, _windows(history, detector), msgspec.json.decode(data[CARD]))
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, IndexError, pa.ArrowException) as error:
        raise BundleRejected(f"{folder}: {DETECTOR} or {HISTORY} is not valid: {type(error).__name__}: {error}"[:400]) from None


def _detector(raw: dict[str, Any], data: dict[str, bytes]) -> Detector:
    spec, cadence = msgspec.convert(raw["spec"], Spec), Cadence(*raw["cadence"])
    usual = {kind.kind: kind for kind in (SlotTable, Trailing)}[raw["usual"]["kind"]].from_plain(_arrays(raw["usual"]), spec)
    memory = raw["memory"] and Memory.from_plain(_arrays(raw["memory"]), cadence)
    views = {
        name: View(Axes.from_plain(_arrays(view["axes"], ("columns",))), data[_model(name)], Limit(*_limit(view["limit"])))
        for name, view in raw["views"].items()
    }
    return Detector(spec, cadence, tuple(raw["names"]), usual, memory, views, raw["gate"])


def _verified(folder: Path) -> dict[str, bytes]:
    try:
        listed = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=dict[str, Any])
        if listed.get("format") != FORMAT:
            raise BundleRejected(f"{folder}: {MANIFEST} is of format {listed.get('format')}, this code reads {FORMAT}")
        data = {}
        for name, digest in listed["files"].items():
            if Path(name).name != name or (folder / name).stat().st_size > LARGEST_BYTES:
                raise BundleRejected(f"{folder}: {name} is no file of a bundle")
            data[name] = (folder / name).read_bytes()
            if hashlib.sha256(data[name]).hexdigest() != digest:
                raise BundleRejected(f"{folder}: {name} is not the file that was sealed: its sha256 differs from {MANIFEST}")
    except OSError as error:
        raise BundleRejected(
            f"{folder}: {Path(error.filename).name} cannot be read: {error.strerror}; train one with adnomaly train"
        ) from None
    except (msgspec.MsgspecError, KeyError, AttributeError) as error:
        raise BundleRejected(f"{folder}: {MANIFEST} is not valid: {error}") from None
    return data


def _model(view: str) -> str:
    return f"{view}.onnx"


def _history(grid: Grid, detector: Detector) -> pa.Table:
    """The last windows of training that later ones are compared with."""
    back_s = LENGTHS_S[-1] + GAP_S + 3600 if detector.memory else HISTORY_DAYS * 86400
    rows = grid.between(max(0, len(grid.end_s) - grid.cadence.steps(back_s)), len(grid.end_s))
    row, entity = np.nonzero(np.isfinite(rows.values).any(axis=2))
    columns = {"end_s": rows.end_s[row], "entity": entity}
    return pa.table(columns | {name: rows.values[row, entity, f] for f, name in enumerate(detector.spec.names)})


def _windows(history: pa.Table, detector: Detector) -> Windows:
    end = history["end_s"].to_numpy()
    values = np.column_stack([history[name].to_numpy() for name in detector.spec.names])
    return Windows(detector.names, history["entity"].to_numpy(), end - detector.cadence.size_s, end, values)


def _json(value: Any) -> bytes:
    """Stable bytes: sorted keys, 9 significant digits, null for NaN."""
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
    return msgspec.to_builtins(value)


def _limit(raw: list[Any]) -> list[float]:
    return [float("nan") if part is None else float(part) for part in raw]


def _arrays(raw: dict[str, Any], plain: tuple[str, ...] = ("links",)) -> dict[str, Any]:
    """Lists as arrays, null as NaN."""
    return {key: np.array(value, np.float64) if isinstance(value, list) and key not in plain else value for key, value in raw.items()}
