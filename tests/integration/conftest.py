"""The stack named by ADNOMALY_HOME and PORT_OFFSET.

tests/run.sh starts a separate stack and sets both variables.
"""

import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from adnomaly.clients.ray_serve import Serving
from adnomaly.settings import Settings, load_settings
from adnomaly.wiring import Backends, connect
from stack.ready import CHECKS


@pytest.fixture(scope="session")
def settings() -> Settings:
    return load_settings()


@pytest.fixture(scope="session", autouse=True)
def stack(settings: Settings) -> Iterator[Settings]:
    """The running servers; a test without them could only pretend."""
    problems = {name: problem for name, check in CHECKS.items() if (problem := check(settings))}
    if problems:
        pytest.fail(
            f"the stack in {settings.adnomaly_home} is not up: {problems}. `make test` starts it"
        )
    yield settings


@pytest.fixture(scope="session")
def backends(settings: Settings) -> Backends:
    return connect(settings)


@pytest.fixture(scope="module")
def only_deployer(settings: Settings) -> Iterator[None]:
    """Lock for test files that deploy a detector.

    Test files run in parallel, but the stack has one scoring application.
    """
    with (settings.adnomaly_home / "run" / "deployer.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module")
def served(settings: Settings, bundle: Path, only_deployer: None) -> Iterator[tuple[Serving, Path]]:
    """The application with the test's bundle; restores the previous bundle afterwards."""
    serving, bundles = connect(settings).serving, connect(settings).bundles
    before = bundles.current_path()
    folder = bundles.path(bundle.name)
    shutil.copytree(bundle, folder, dirs_exist_ok=True)
    serving.deploy(folder)
    yield serving, folder
    if before:
        serving.deploy(before)
    else:
        serving.delete()
