"""Sealed bundles on local disk, one folder per version, and `CURRENT`, which names the live one."""

import os
import shutil
from pathlib import Path
from typing import Final

from adnomaly.files import write_atomic

CURRENT: Final = "CURRENT"
MAX_BUNDLES: Final = 5
"""Bundles that `prune` leaves on disk."""


class BundleStore:
    """The bundles of one ADNOMALY_HOME. The only reader and writer of `CURRENT`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, version: str) -> Path:
        """The folder of a version, which may not exist."""
        return self.folder / version

    def current(self) -> str | None:
        """The version in `CURRENT`; None before the first deployment."""
        pointer = self.folder / CURRENT
        return pointer.read_text().strip() or None if pointer.is_file() else None

    def current_path(self) -> Path | None:
        """The folder of the current version; None without a version or a folder."""
        version = self.current()
        path = self.path(version) if version else None
        return path if path is not None and path.is_dir() else None

    def set_current(self, version: str) -> None:
        """Write a version to `CURRENT` atomically."""
        # `prune` orders bundles by this time: a bundle that is deployed again counts as new.
        os.utime(self.path(version))
        write_atomic(self.folder / CURRENT, f"{version}\n".encode())

    def import_bundle(self, source: Path) -> Path:
        """Verify a bundle and copy it here atomically; returns its folder.

        Raises:
            BundleRejected: the bundle is incomplete or was changed.
        """
        # DAG files must not load the ONNX libraries.
        from adnomaly.bundle.bundle import import_bundle

        return import_bundle(self.folder, source)

    def prune(self) -> list[str]:
        """Remove old bundles, never the current one; returns the removed versions."""
        folders = [path for path in self.folder.iterdir() if path.is_dir() and path.name[0] != "."]
        newest = sorted(folders, key=lambda path: path.stat().st_mtime_ns, reverse=True)
        old = [path for path in newest[MAX_BUNDLES:] if path.name != self.current()]
        for path in old:
            shutil.rmtree(path)
        return [path.name for path in old]
