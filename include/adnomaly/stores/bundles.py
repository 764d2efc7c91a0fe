"""Sealed bundles on local disk, one folder per version, and the pointer `CURRENT` to the one that serves."""

import os
import shutil
from pathlib import Path
from typing import Final

CURRENT: Final = "CURRENT"
KEPT: Final = 5
"""Bundles that stay on disk, the newest first."""


class BundleStore:
    """The bundles of one ADNOMALY_HOME. The only reader and writer of `CURRENT`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, version: str) -> Path:
        """The folder of a version, whether it is there or not."""
        return self.folder / version

    def current(self) -> str | None:
        """The version that `CURRENT` names; None before the first deployment."""
        pointer = self.folder / CURRENT
        return pointer.read_text().strip() or None if pointer.is_file() else None

    def current_path(self) -> Path | None:
        """The folder of the current version; None before the first deployment, or when it is missing."""
        version = self.current()
        path = self.path(version) if version else None
        return path if path is not None and path.is_dir() else None

    def set_current(self, version: str) -> None:
        """Point `CURRENT` at a version, atomically: a reader sees the old name or the new one."""
        # Bundles are ordered by this time: one that serves again counts as new.
        os.utime(self.path(version))
        draft = self.folder / f".{CURRENT}.{os.getpid()}"
        draft.write_text(version + "\n")
        draft.replace(self.folder / CURRENT)

    def import_bundle(self, source: Path) -> Path:
        """Verify a bundle and copy it here, atomically; returns its folder.

        Raises:
            BundleRejected: it is incomplete or changed.
        """
        # Reading a DAG file must not load the ONNX libraries.
        from adnomaly.bundle.bundle import import_bundle

        return import_bundle(self.folder, source)

    def prune(self) -> list[str]:
        """Remove all but the newest bundles, never the current one; returns the removed versions."""
        folders = [path for path in self.folder.iterdir() if path.is_dir() and path.name[0] != "."]
        newest = sorted(folders, key=lambda path: path.stat().st_mtime_ns, reverse=True)
        old = [path for path in newest[KEPT:] if path.name != self.current()]
        for path in old:
            shutil.rmtree(path)
        return [path.name for path in old]
