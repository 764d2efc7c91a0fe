"""Actions of the reconciler in each state of Ray."""

import logging
from pathlib import Path

import pytest

from adnomaly.errors import JobFailed, Unavailable
from adnomaly.home import Home
from serving.serve_detector import ServeReconciler


class RecordingServing:
    """Ray as the reconciler sees it: a status, and the calls it got."""

    def __init__(self, status: str) -> None:
        self.state, self.calls = status, []

    def status(self) -> str:
        return self.state

    def put(self, bundle: Path) -> None:
        self.calls.append(("put", bundle.name))

    def delete(self) -> None:
        self.calls.append(("delete",))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "bundles" / "v7").mkdir(parents=True)
    return tmp_path


def test_without_a_model_it_logs_once_that_it_waits(home: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    serving = RecordingServing("ABSENT")
    reconciler = ServeReconciler(serving, Home(home))
    reconciler.reconcile()
    reconciler.reconcile()
    assert serving.calls == []
    assert [record.message for record in caplog.records] == [
        "no model yet: waiting for deploy_detector to name one in bundles/CURRENT"
    ]


def test_a_restarted_ray_gets_the_application_again(home: Path):
    (home / "bundles" / "CURRENT").write_text("v7\n")
    serving = RecordingServing("ABSENT")
    ServeReconciler(serving, Home(home)).reconcile()
    assert serving.calls == [("put", "v7")]


def test_a_name_without_a_folder_is_no_model(home: Path):
    (home / "bundles" / "CURRENT").write_text("v8\n")
    serving = RecordingServing("ABSENT")
    ServeReconciler(serving, Home(home)).reconcile()
    assert serving.calls == []


@pytest.mark.parametrize("status", ["RUNNING", "DEPLOYING", "UNHEALTHY", "DELETING"])
def test_an_application_that_exists_is_left_alone(home: Path, status: str):
    (home / "bundles" / "CURRENT").write_text("v7\n")
    serving = RecordingServing(status)
    ServeReconciler(serving, Home(home)).reconcile()
    assert serving.calls == []


def test_a_failed_deployment_is_deleted_first(home: Path):
    (home / "bundles" / "CURRENT").write_text("v7\n")
    serving = RecordingServing("DEPLOY_FAILED")
    reconciler = ServeReconciler(serving, Home(home))
    with pytest.raises(JobFailed):
        reconciler.reconcile()
    serving.state = "ABSENT"
    reconciler.reconcile()
    assert serving.calls == [("delete",), ("put", "v7")]


def test_an_unreachable_ray_is_waited_for(
    home: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    def unavailable() -> str:
        raise Unavailable("Ray's dashboard does not answer")

    caplog.set_level(logging.INFO)
    serving = RecordingServing("RUNNING")
    monkeypatch.setattr(serving, "status", unavailable)
    reconciler = ServeReconciler(serving, Home(home))
    reconciler.reconcile()
    reconciler.reconcile()
    assert caplog.messages == ["waiting: Ray's dashboard does not answer"]
