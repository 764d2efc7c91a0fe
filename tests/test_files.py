"""Atomic writes."""

import os
import stat
from pathlib import Path

import pytest

from adnomaly.files import replacing, write_atomic


def test_missing_folders_are_created_and_content_is_replaced(tmp_path):
    file = tmp_path / "a" / "b" / "state.json"
    write_atomic(file, b"old, and longer")
    write_atomic(file, b"new")
    assert file.read_bytes() == b"new"
    assert os.listdir(file.parent) == ["state.json"]


def test_readers_see_the_old_content_until_the_block_ends(tmp_path):
    file = tmp_path / "state.json"
    write_atomic(file, b"old")
    with replacing(file) as draft:
        draft.write_bytes(b"half")
        assert draft.parent == file.parent
        assert file.read_bytes() == b"old"
        draft.write_bytes(b"new")
    assert file.read_bytes() == b"new"


def fail_halfway(file: Path) -> None:
    with replacing(file) as draft:
        draft.write_bytes(b"half")
        raise RuntimeError


def test_a_failed_block_leaves_the_old_content_and_no_draft(tmp_path):
    file = tmp_path / "state.json"
    write_atomic(file, b"old")
    with pytest.raises(RuntimeError):
        fail_halfway(file)
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state.json"]


def test_a_draft_left_by_a_killed_process_is_no_obstacle(tmp_path):
    file = tmp_path / "state.json"
    (tmp_path / f".state.json.{os.getpid()}.part").write_bytes(b"half")
    write_atomic(file, b"new")
    assert file.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["state.json"]


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_the_new_file_has_the_mode_from_its_beginning(tmp_path, mode):
    file = tmp_path / "secrets.env"
    umask = os.umask(0o022)
    try:
        with replacing(file, mode=mode) as draft:
            assert stat.S_IMODE(draft.stat().st_mode) == mode
            draft.write_bytes(b"SECRET=1")
    finally:
        os.umask(umask)
    assert stat.S_IMODE(file.stat().st_mode) == mode
