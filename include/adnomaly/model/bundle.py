"""The sealed model: one folder that is complete, unchanged and ours, or is not loaded.

`manifest.json` holds the sha256 of every other file, and the folder's name, the version, is a hash of the manifest.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import msgspec
import onnx
from google.protobuf.message import DecodeError

from adnomaly.errors import BundleRejected
from adnomaly.model.preprocess import Baseline

MODEL: Final = "model.onnx"
PREPROCESS: Final = "preprocess.json"
THRESHOLD: Final = "threshold.json"
CARD: Final = "card.json"
SENTINELS: Final = "sentinels.json"
MANIFEST: Final = "manifest.json"
FILES: Final = (CARD, MODEL, PREPROCESS, SENTINELS, THRESHOLD)

LARGEST_MODEL_BYTES: Final = 16 * 1024 * 1024
LARGEST_JSON_BYTES: Final = 8 * 1024 * 1024
OPERATORS: Final = frozenset({("ai.onnx.ml", "TreeEnsembleRegressor"), ("", "Mul"), ("", "Exp")})
FORMAT: Final = 1


class Threshold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a score becomes an anomaly, and how that was found.

    Attributes:
        threshold: a window is anomalous when its score >= threshold.
        incidents_per_day: false incidents a day that calibration expects, over the whole platform.
        extrapolated: the budget lies beyond the calibration data; the tail of the rate was continued.
        windows, days: what it was calibrated on.
    """

    threshold: float
    incidents_per_day: float
    extrapolated: bool
    windows: int
    days: float


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One threshold for windows with a baseline of their own, one for those compared with all entities."""

    budget_per_day: float
    entity: Threshold
    pooled: Threshold = msgspec.field(name="global")

    def __post_init__(self) -> None:
        for kind, found in (("entity", self.entity), ("global", self.pooled)):
            if not 0 < found.threshold < 1:
                raise ValueError(f"the {kind} threshold must be between 0 and 1, got {found.threshold}")


class Sentinel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row whose answer is known: score within 1e-4, and the same side of the threshold."""

    row: dict[str, int | float | str]
    score: float
    is_anomaly: bool


class Bundle(NamedTuple):
    """A verified bundle in memory."""

    version: str
    model: bytes
    baseline: Baseline
    thresholds: Thresholds
    card: dict[str, Any]
    sentinels: list[Sentinel]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read and verify a bundle: every byte that is used has been compared with the manifest.

        Raises:
            BundleRejected: naming the file that is missing, changed or foreign.
        """
        version, data = _verified(folder)
        _check_model(data[MODEL])
        return cls(
            version=version,
            model=data[MODEL],
            baseline=_decoded(PREPROCESS, lambda: Baseline.from_json(msgspec.json.decode(data[PREPROCESS]))),
            thresholds=_decoded(THRESHOLD, lambda: msgspec.json.decode(data[THRESHOLD], type=Thresholds)),
            card=_decoded(CARD, lambda: msgspec.json.decode(data[CARD], type=dict)),
            sentinels=_decoded(SENTINELS, lambda: msgspec.json.decode(data[SENTINELS], type=list[Sentinel])),
        )


def seal(bundles: Path, files: Mapping[str, bytes]) -> Path:
    """Write a bundle below `bundles` in one step, and return its folder, which is named by its version.

    Readers see all of it or nothing. The same files give the same version; sealing them again changes nothing.

    Raises:
        BundleRejected: a file is missing, or the bundle would not load.
    """
    if sorted(files) != list(FILES):
        raise BundleRejected(f"a bundle holds {', '.join(FILES)}; got {', '.join(sorted(files))}")
    manifest = msgspec.json.format(
        msgspec.json.encode({"format": FORMAT, "files": {name: hashlib.sha256(files[name]).hexdigest() for name in FILES}}), indent=1
    )
    folder = bundles / _version(manifest)
    bundles.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".sealing-", dir=bundles))
    try:
        for name, data in {**files, MANIFEST: manifest}.items():
            _write(draft / name, data)
        draft.chmod(0o755)
        _place(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    Bundle.load(folder)
    return folder


def adopt(bundles: Path, source: Path) -> Path:
    """Copy a bundle from elsewhere to below `bundles`, in one step, after verifying it."""
    version, data = _verified(source)
    del data[MANIFEST]
    folder = seal(bundles, data)
    if folder.name != version:
        raise BundleRejected(f"{source}: {MANIFEST} was not written by this version of the code")
    return folder


def to_json(value: Any) -> bytes:
    """JSON for a file that people read too: sorted keys, stable bytes."""
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=1) + b"\n"


def _place(draft: Path, folder: Path) -> None:
    """Rename the draft into place; a broken folder of that name, as a crash may leave it, gives way."""
    try:
        draft.rename(folder)
    except OSError:
        with contextlib.suppress(BundleRejected):
            _verified(folder)
            return
        shutil.rmtree(folder)
        draft.rename(folder)
    _sync(folder.parent)


def _verified(folder: Path) -> tuple[str, dict[str, bytes]]:
    """Version and bytes of all files, compared with the manifest."""
    manifest = _read(folder, MANIFEST)
    listed = _decoded(MANIFEST, lambda: msgspec.json.decode(manifest, type=dict[str, Any]))
    if listed.get("format") != FORMAT or sorted(listed.get("files") or ()) != list(FILES):
        raise BundleRejected(f"{folder}: {MANIFEST} must be of format {FORMAT} and list {', '.join(FILES)}")
    data = {name: _read(folder, name) for name in FILES}
    for name in FILES:
        if hashlib.sha256(data[name]).hexdigest() != listed["files"][name]:
            raise BundleRejected(f"{folder}: {name} is not the file that was sealed: its sha256 differs from {MANIFEST}")
    if folder.name != _version(manifest):
        raise BundleRejected(f"{folder}: {MANIFEST} belongs to version {_version(manifest)}, not to this folder")
    return folder.name, data | {MANIFEST: manifest}


def _read(folder: Path, name: str) -> bytes:
    limit = LARGEST_MODEL_BYTES if name == MODEL else LARGEST_JSON_BYTES
    try:
        with (folder / name).open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise BundleRejected(f"{folder}: {name} cannot be read: {error.strerror}") from None
    if len(data) > limit:
        raise BundleRejected(f"{folder}: {name} is larger than {limit} bytes")
    return data


def _decoded(name: str, decode: Any) -> Any:
    try:
        return decode()
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError, IndexError, AttributeError, UnicodeDecodeError) as error:
        raise BundleRejected(f"{name} is not valid: {type(error).__name__}: {error}"[:500]) from None


def _check_model(data: bytes) -> None:
    """Refuse what a scoring model does not need: other operators, nested graphs, functions, data outside the file."""
    try:
        model = onnx.load_from_string(data)
    except (DecodeError, ValueError) as error:
        raise BundleRejected(f"{MODEL} is not an ONNX model: {error}"[:300]) from None
    foreign = {f"{node.domain}:{node.op_type}" for node in model.graph.node if (node.domain, node.op_type) not in OPERATORS}
    if foreign or model.functions or model.graph.sparse_initializer or not model.graph.node:
        raise BundleRejected(f"{MODEL} holds operators that we do not use: {', '.join(sorted(foreign)) or 'functions or sparse data'}")
    plain = (onnx.AttributeProto.FLOAT, onnx.AttributeProto.INT, onnx.AttributeProto.STRING)
    plain += (onnx.AttributeProto.FLOATS, onnx.AttributeProto.INTS, onnx.AttributeProto.STRINGS)
    if any(attribute.type not in plain for node in model.graph.node for attribute in node.attribute):
        raise BundleRejected(f"{MODEL} nests graphs or tensors in its operators")
    if any(t.data_location == onnx.TensorProto.EXTERNAL or t.external_data for t in model.graph.initializer):
        raise BundleRejected(f"{MODEL} refers to data outside the file")


def _version(manifest: bytes) -> str:
    return hashlib.sha256(manifest).hexdigest()[:16]


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
