"""The sealed model: a folder that loads only if it is complete and unchanged.

`manifest.json` holds the sha256 of every other file. The version is a hash of the manifest, and
names the folder below `bundles/`.
"""

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, TypeVar

import msgspec
import pyarrow as pa

from adnomaly.bundle.codec import decode_detector, decode_history, to_json
from adnomaly.bundle.model_check import check_model
from adnomaly.detector.detector import Detector
from adnomaly.detector.feature_sets import ALL_FEATURES, REQUIRED_FEATURES
from adnomaly.detector.windows import Windows
from adnomaly.errors import BundleRejected
from adnomaly.files import sync_folder, write_synced

MODEL_FILES: Final = {REQUIRED_FEATURES: "model.onnx", ALL_FEATURES: "model_all.onnx"}
PREPROCESS_FILE: Final = "preprocess.json"
THRESHOLD_FILE: Final = "threshold.json"
CARD_FILE: Final = "card.json"
SENTINELS_FILE: Final = "sentinels.json"
HISTORY_FILE: Final = "history.parquet"
MANIFEST_FILE: Final = "manifest.json"
REQUIRED: Final = frozenset(
    {CARD_FILE, MODEL_FILES[REQUIRED_FEATURES], PREPROCESS_FILE, SENTINELS_FILE, THRESHOLD_FILE}
)
FILES: Final = REQUIRED | {MODEL_FILES[ALL_FEATURES], HISTORY_FILE}

MAX_MODEL_BYTES: Final = 16 * 1024 * 1024
MAX_BYTES: Final = 256 * 1024 * 1024
FORMAT: Final = 2

INVALID: Final = (
    *(msgspec.MsgspecError, pa.ArrowException),
    *(ValueError, TypeError, LookupError, AttributeError),
)
"""What the decoders of a bundle's files raise on content that is not theirs."""

T = TypeVar("T")


class Sentinel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row with a known answer: score within 1e-4, and the same side of the threshold."""

    row: dict[str, int | float | str]
    score: float
    is_anomaly: bool


class Bundle(NamedTuple):
    """A verified bundle in memory.

    Attributes:
        history: the last windows of training, the past of the first windows to score; optional.
        budget_per_day: false incidents a day that its thresholds were chosen for.
    """

    version: str
    detector: Detector
    history: Windows | None
    card: dict[str, Any]
    sentinels: list[Sentinel]
    budget_per_day: float

    @classmethod
    def load(cls, folder: Path, *, named: bool = True) -> Self:
        """Read a bundle and verify every byte against the manifest.

        Args:
            named: require the version as the folder's name, as below `bundles/`.

        Raises:
            BundleRejected: naming the file that is missing, changed or not allowed.
        """
        version, data = _verified(folder, named=named)
        for name in set(MODEL_FILES.values()) & set(data):
            check_model(name, data[name])
        return cls.of(version, data)

    @classmethod
    def of(cls, version: str, data: Mapping[str, bytes]) -> Self:
        """The bundle of these files.

        Raises:
            BundleRejected: naming the file that is not valid.
        """
        preprocess = _decoded(PREPROCESS_FILE, lambda: msgspec.json.decode(data[PREPROCESS_FILE]))
        thresholds = _decoded(
            THRESHOLD_FILE, lambda: msgspec.json.decode(data[THRESHOLD_FILE], type=dict[str, Any])
        )
        models = {features: data[name] for features, name in MODEL_FILES.items() if name in data}
        detector = _decoded(
            f"{PREPROCESS_FILE} or {THRESHOLD_FILE}",
            lambda: decode_detector(preprocess, thresholds, models),
        )
        return cls(
            version=version,
            detector=detector,
            history=_decoded(HISTORY_FILE, lambda: decode_history(data[HISTORY_FILE], detector))
            if HISTORY_FILE in data
            else None,
            card=_decoded(
                CARD_FILE, lambda: msgspec.json.decode(data[CARD_FILE], type=dict[str, Any])
            ),
            sentinels=_decoded(
                SENTINELS_FILE,
                lambda: msgspec.json.decode(data[SENTINELS_FILE], type=list[Sentinel]),
            ),
            budget_per_day=float(thresholds["budget_per_day"]),
        )


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write a bundle to a folder of any name; a bundle that is there is replaced.

    Raises:
        BundleRejected: the folder holds other files.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST_FILE).exists():
        raise BundleRejected(f"{folder}: holds other files; name a new or an empty folder")
    with _draft(folder.parent, {**files, MANIFEST_FILE: _manifest(files)}) as draft:
        if folder.exists():
            shutil.rmtree(folder)
        draft.rename(folder)
    return folder


def seal(bundles: Path, files: Mapping[str, bytes]) -> Path:
    """Write a bundle below `bundles` atomically; returns its folder, named by its version.

    Readers see all of it or nothing. Idempotent: equal files give an equal version.

    Raises:
        BundleRejected: a file is missing, or the bundle would not load.
    """
    manifest = _manifest(files)
    folder = bundles / _version(manifest)
    with _draft(bundles, {**files, MANIFEST_FILE: manifest}) as draft:
        _place(draft, folder)
    Bundle.load(folder)
    return folder


def import_bundle(bundles: Path, source: Path) -> Path:
    """Verify a bundle from elsewhere and copy it below `bundles`, atomically.

    Raises:
        BundleRejected: it is not valid, or its manifest is not what this code writes.
    """
    version, data = _verified(source, named=True)
    del data[MANIFEST_FILE]
    folder = seal(bundles, data)
    if folder.name != version:
        raise BundleRejected(
            f"{source}: {MANIFEST_FILE} was written by another version of the code; train again"
        )
    return folder


def _manifest(files: Mapping[str, bytes]) -> bytes:
    if not set(files) >= REQUIRED or not set(files) <= FILES:
        raise BundleRejected(
            f"a bundle holds {', '.join(sorted(REQUIRED))}, and optionally "
            f"{', '.join(sorted(FILES - REQUIRED))}; got {', '.join(sorted(files))}"
        )
    return to_json(
        {
            "format": FORMAT,
            "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        }
    )


@contextlib.contextmanager
def _draft(parent: Path, files: Mapping[str, bytes]) -> Iterator[Path]:
    """A folder next to the final one with these files, synced; removed unless it was renamed."""
    parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".sealing-", dir=parent))
    try:
        for name, data in files.items():
            write_synced(draft / name, data)
        draft.chmod(0o755)
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _place(draft: Path, folder: Path) -> None:
    """Rename the draft into place, replacing a broken folder that a crash left."""
    try:
        draft.rename(folder)
    except OSError:
        with contextlib.suppress(BundleRejected):
            _verified(folder, named=True)
            return
        shutil.rmtree(folder)
        draft.rename(folder)
    sync_folder(folder.parent)


def _verified(folder: Path, *, named: bool) -> tuple[str, dict[str, bytes]]:
    """Version and bytes of all files, compared with the manifest."""
    manifest = _read(folder, MANIFEST_FILE)
    listed = _decoded(MANIFEST_FILE, lambda: msgspec.json.decode(manifest, type=dict[str, Any]))
    names = set(listed["files"]) if isinstance(listed.get("files"), dict) else set()
    if listed.get("format") != FORMAT or not REQUIRED <= names <= FILES:
        raise BundleRejected(
            f"{folder}: {MANIFEST_FILE} must be of format {FORMAT} and list "
            f"{', '.join(sorted(REQUIRED))}; train again"
        )
    data = {name: _read(folder, name) for name in sorted(names)}
    for name in data:
        if hashlib.sha256(data[name]).hexdigest() != listed["files"][name]:
            raise BundleRejected(
                f"{folder}: {name} is not the file that was sealed: "
                f"its sha256 differs from {MANIFEST_FILE}"
            )
    if named and folder.name != _version(manifest):
        raise BundleRejected(
            f"{folder}: {MANIFEST_FILE} belongs to version {_version(manifest)}, "
            "not to this folder; rename it"
        )
    return _version(manifest), data | {MANIFEST_FILE: manifest}


def _read(folder: Path, name: str) -> bytes:
    limit = MAX_MODEL_BYTES if name in MODEL_FILES.values() else MAX_BYTES
    try:
        with (folder / name).open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise BundleRejected(
            f"{folder}: {name} cannot be read: {error.strerror}; "
            "train a bundle with train_detector or adnomaly train"
        ) from None
    if len(data) > limit:
        raise BundleRejected(f"{folder}: {name} is larger than {limit} bytes")
    return data


def _decoded(name: str, decode: Callable[[], T]) -> T:
    try:
        return decode()
    except INVALID as error:
        text = f"{name} is not valid: {type(error).__name__}: {error}"
        raise BundleRejected(text[:500]) from None


def _version(manifest: bytes) -> str:
    return hashlib.sha256(manifest).hexdigest()[:16]
