"""From where a window job starts. The program on real servers: integration/test_windows.py."""

import os
from datetime import UTC, datetime
from pathlib import Path

from adnomaly.clients.flink import Flink, Job
from adnomaly.clients.flink_job import JobState, next_start

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
CHECKPOINT = Path("/checkpoints/a/chk-7")
MORNING = datetime(2026, 11, 22, 6, tzinfo=UTC)


def test_a_fitting_checkpoint_is_gone_on_from():
    memory = JobState("text", "topic", NOON, ["a"])
    assert next_start(memory, "topic", CHECKPOINT, lambda: None, lambda: MORNING) == (
        memory,
        CHECKPOINT,
    )


def test_without_one_no_window_is_left_out_or_repeated():
    started, checkpoint = next_start(
        JobState("text", "topic", None, ["a"]), "topic", None, lambda: NOON, lambda: MORNING
    )
    assert checkpoint is None
    assert (started.since, started.jobs) == (NOON, [])


def test_the_first_start_emits_whole_windows_only():
    started, checkpoint = next_start(JobState(), "topic", None, lambda: None, lambda: MORNING)
    assert (started.since, checkpoint) == (MORNING, None)


def test_offsets_of_another_topic_mean_nothing():
    started, checkpoint = next_start(
        JobState("text", "old topic", NOON, ["a"]),
        "new topic",
        CHECKPOINT,
        lambda: NOON,
        lambda: MORNING,
    )
    assert (started, checkpoint) == (JobState(since=MORNING), None)


def test_the_newest_complete_checkpoint_counts(tmp_path):
    flink = Flink("http://localhost:1", flink_home=tmp_path, checkpoints=tmp_path)
    for age, (job, number, complete) in enumerate(
        [("b", 9, False), ("b", 8, True), ("a", 12, True), ("c", 99, True)]
    ):
        folder = tmp_path / job / f"chk-{number}"
        folder.mkdir(parents=True)
        if complete:
            (folder / "_metadata").touch()
            os.utime(folder / "_metadata", (1000 - age, 1000 - age))
    newest = tmp_path / "b" / "chk-8"
    assert flink.newest_checkpoint(["a", "b"]) == newest
    assert flink.newest_checkpoint(["a", "b"], refused=[str(newest)]) == tmp_path / "a" / "chk-12"
    flink.discard_checkpoints(["a", "b"])
    assert flink.newest_checkpoint(["a", "b"]) is None
    assert (tmp_path / "c").exists()


def test_a_job_being_cancelled_is_alive():
    assert [
        Job("", "", state, 0).alive
        for state in ("RUNNING", "RESTARTING", "CANCELLING", "CANCELED", "FAILED")
    ] == [True] * 3 + [False] * 2
