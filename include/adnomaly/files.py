"""Writes that survive a crash: atomic ones, of which a reader sees the old content or the new, and
synced ones, which are on the disk when the call returns.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, *, mode: int = 0o666) -> Iterator[Path]:
    """Yield a draft path next to `path`; the draft replaces `path` atomically at the end of the
    block.

    If the block raises, `path` is unchanged and the draft is removed. Missing folders are created.

    Args:
        mode: permissions of the new file, before the umask.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    draft.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Replace the content of a file atomically."""
    with replacing(path, mode=mode) as draft:
        draft.write_bytes(data)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file; its content is on the disk at return. Not atomic."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames within a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
