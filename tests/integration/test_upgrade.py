"""An upgrade in place: the version in `earlier_version` runs, then `up` of this one on its data.

The earlier version has running streams, a checkpoint, a deployed bundle, an open incident and a
decision. It has servers and a home of its own.
"""

import hashlib
import json
import os
import site
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adnomaly.clients.kafka.reader import last_values
from adnomaly.monitoring import reconciliation
from adnomaly.pipelines.run_streams import CONSUMERS, GENERATOR
from adnomaly.settings import ROOT, Settings
from adnomaly.topics import FEATURES_TOPIC
from adnomaly.windows import SLIDE, decode_window
from adnomaly.wiring import Backends, connect

pytestmark = [pytest.mark.integration, pytest.mark.kills]

PORT_OFFSET = 600
COMMIT = (Path(__file__).parent / "earlier_version").read_text().strip()
START = f"""
from adnomaly.wiring import connect
connect().supervisor.start({[*CONSUMERS, *GENERATOR]})
"""
TRAIN = "import sys; from adnomaly.cli import main; sys.exit(main())"
OPEN = """
INSERT INTO incidents (incident_id, kind, geo, platform, began, last_seen, summary, revision)
VALUES ('DE|web@then', 'anomaly', 'DE', 'web', now(), now(), 'seen by the earlier version', 1);
INSERT INTO decisions (incident_id, revision, action, author, comment)
VALUES ('DE|web@then', 1, 'acknowledge', 'viewer of then', 'looking at it');
"""


@pytest.fixture(scope="session", autouse=True)
def stack() -> None:
    """Replaces the common fixture: these tests have servers of their own."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("upgrade") / "home"


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of the earlier version, with the libraries of this one."""
    tree = tmp_path_factory.mktemp("earlier")
    archive = subprocess.run(["git", "archive", COMMIT], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"the history lacks {COMMIT}: git fetch --unshallow")
    subprocess.run(["tar", "-x", "-C", tree], input=archive.stdout, check=True)
    _environment(tree)
    (tree / ".adnomaly").mkdir()
    (tree / ".adnomaly" / "jars").symlink_to(ROOT / ".adnomaly" / "jars")
    return tree


def _environment(tree: Path) -> None:
    """A virtual environment with the installed libraries and the packages of the tree."""
    venv = tree / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    paths = [tree / "include", tree, *map(Path, site.getsitepackages())]
    [packages] = venv.glob("lib/python*/site-packages")
    (packages / "earlier.pth").write_text("".join(f"{path}\n" for path in paths))
    for program in (ROOT / ".venv" / "bin").iterdir():
        if not (venv / "bin" / program.name).exists():
            (venv / "bin" / program.name).symlink_to(program)


def run(tree: Path, home: Path, *arguments: str, code: int | None = 0) -> str:
    """A command of one version on the home; `code` is the expected exit code, None for any."""
    own = {
        "ADNOMALY_HOME": str(home),
        "PORT_OFFSET": str(PORT_OFFSET),
        "PYTHONPATH": ":".join(str(tree / part) for part in ("include", "", "plugins")),
    }
    done = subprocess.run(
        [tree / ".venv" / "bin" / "python", *arguments],
        cwd=tree,
        env=os.environ | own,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert code in (None, done.returncode), done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def wait(what: str, condition: Callable[[], object], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(1)


def newest_window(backends: Backends) -> datetime:
    span = backends.window_store.span()
    return span[1] if span else datetime.min.replace(tzinfo=UTC)


@pytest.fixture(scope="module")
def bundle(earlier: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that the earlier version has sealed."""
    folder, example = tmp_path_factory.mktemp("trained"), ["-m", "adnomaly.evaluation", "example"]
    run(earlier, folder / "home", "-m", "stack", "secrets")
    run(earlier, folder / "home", *example, str(folder))
    train = ["--windows", str(folder / "history.parquet"), "--bundle", str(folder / "bundle")]
    # 2d35674 seals the bundle and ends with a traceback.
    run(earlier, folder / "home", "-c", TRAIN, "train", *train, code=None)
    version = hashlib.sha256((folder / "bundle" / "manifest.json").read_bytes()).hexdigest()[:16]
    return (folder / "bundle").rename(folder / version)


@pytest.fixture(scope="module")
def upgraded(earlier: Path, home: Path, bundle: Path) -> Iterator[tuple[Backends, datetime]]:
    """This version on the data of the earlier one, and the newest window before the upgrade."""
    run(earlier, home, "-m", "stack", "secrets")
    # The rest of the settings is the default.
    settings = Settings(_env_file=home / "secrets.env", adnomaly_home=home, port_offset=PORT_OFFSET)
    backends = connect(settings)
    version = backends.bundles.import_bundle(bundle).name
    (home / "bundles" / "CURRENT").write_text(f"{version}\n")
    begin = (datetime.now(UTC) - timedelta(minutes=20)).isoformat()
    (home / "truth").mkdir(parents=True)
    plan = {"from": begin, "attacks": [], "base_eps": 20}
    (home / "truth" / "plan.json").write_text(json.dumps(plan))
    try:
        run(earlier, home, "-m", "stack", "up")
        run(earlier, home, "-c", START)
        recent = datetime.now(UTC) - timedelta(minutes=3)
        wait("windows", lambda: newest_window(backends) > recent)
        wait("a checkpoint", lambda: list(home.glob("flink/checkpoints/*/chk-*/_metadata")))
        with backends.postgres.connection() as connection:
            connection.execute(OPEN)
        before = newest_window(backends)
        run(earlier, home, "-m", "stack", "down")
        run(ROOT, home, "-m", "stack", "up")
        yield backends, before
    finally:
        run(ROOT, home, "-m", "stack", "reset", "--yes")


def test_incident_and_decision_are_there(upgraded):
    backends, _ = upgraded
    [incident] = backends.incidents.recent(datetime.now(UTC) - timedelta(days=1))
    assert (incident.summary, incident.status) == ("seen by the earlier version", "open")
    [decision] = backends.incidents.history("DE|web@then")
    assert (decision["author"], decision["comment"]) == ("viewer of then", "looking at it")


def test_a_bundle_of_the_earlier_version_is_served(upgraded):
    backends, _ = upgraded
    backends.supervisor.start(["serve_detector"])
    wait("the scoring API", backends.serving.ready)
    assert backends.serving.served()["model_version"] == backends.bundles.current()


def test_the_window_job_resumed_from_its_checkpoint(upgraded, home):
    state = json.loads((home / "flink" / "adnomaly-windows.json").read_text())
    assert "/chk-" in state["resumed_from"]


def test_no_window_is_missing_or_comes_twice(upgraded):
    backends, before = upgraded
    wait("new windows", lambda: newest_window(backends) >= before + 3 * SLIDE)
    values = last_values(backends.settings.kafka_bootstrap, FEATURES_TOPIC.name, 1_000_000)
    windows = [decode_window(value) for value in values]
    keys = Counter((w.window_end, w.key) for w in windows)
    assert keys.most_common(1)[0][1] == 1
    ends = sorted({w.window_end for w in windows})
    assert ends == [ends[0] + n * SLIDE for n in range(len(ends))]
    assert ends[0] < before < ends[-1]


def test_no_click_is_lost_or_doubled(upgraded):
    backends, _ = upgraded

    def unbalanced() -> list[reconciliation.Equation]:
        equations = reconciliation.equations(backends.collector.count())
        return [equation for equation in equations if not equation.balanced]

    wait("the reconciliation balances", lambda: not unbalanced(), seconds=60)
