"""What the supervised starter does in each state that Ray can be in."""

import logging
from pathlib import Path

import pytest

from adnomaly.errors import JobFailed
from adnomaly.home import Home
from serving.serve_detector import ServeReconciler


class RememberingServing:
    """Ray as the starter sees it: a status, and what was asked of it."""

    def __init__(self, status: str) -> None:
        self.state, self.asked = status, []

    def status(self) -> str:
        return self.state

    def put(self, bundle: Path) -> None:
        self.asked.append(("put", bundle.name))

    def delete(self) -> None:
        self.asked.append(("delete",))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "bundles" / "v7").mkdir(parents=True)
    return tmp_path


def test_without_a_model_it_says_once_what_it_waits_for(
    home: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    serving = RememberingServing("ABSENT")
    reconciler = ServeReconciler(serving, Home(home))
    reconciler.reconcile()
    reconciler.reconcile()
    assert serving.asked == []
    assert [record.message for record in caplog.records] == [
        "no model yet: waiting for deploy_detector to name one in bundles/CURRENT"
    ]


def test_a_ray_without_memory_gets_the_application_again(home: Path):
    (home / "bundles" / "CURRENT").write_text("v7\n")
    serving = RememberingServing("ABSENT")
    ServeReconciler(serving, Home(home)).reconcile()
    assert serving.asked == [("put", "v7")]


def test_a_name_without_a_folder_is_no_model(home: Path):
    (home / "bundles" / "CURRENT").write_text("v8\n")
    serving = RememberingServing("ABSENT")
    ServeReconciler(serving, Home(home)).reconcile()
    assert serving.asked == []


@pytest.mark.parametrize("status", ["RUNNING", "DEPLOYING", "UNHEALTHY", "DELETING"])
def test_an_application_that_exists_is_left_alone(home: Path, status: str):
    (home / "bundles" / "CURRENT").write_text("v7\n")
    serving = RememberingServing(status)
    ServeReconciler(serving, Home(home)).reconcile()
    assert serving.asked == []


def test_a_failed_deployment_is_taken_away_first(home: Path):
    (home / "bundles" / "CURRENT").write_text("v7\n")
    serving = RememberingServing("DEPLOY_FAILED")
    reconciler = ServeReconciler(serving, Home(home))
    with pytest.raises(JobFailed):
        reconciler.reconcile()
    serving.state = "ABSENT"
    reconciler.reconcile()
    assert serving.asked == [("delete",), ("put", "v7")]
