"""From the champion of the registry to the model that answers: fetch, verify, roll out, name, look; and back again.

`ADNOMALY_HOME/bundles/` holds the last bundles by version, and `CURRENT` names the one to serve. Whoever starts serving
needs nothing but that folder.
"""

import logging
import os
import shutil
from pathlib import Path
from typing import Any, Final, Protocol

from adnomaly.errors import JobFailed, NotEnoughHistory

CURRENT: Final = "CURRENT"
KEPT: Final = 5
"""Bundles that stay on disk, the newest first."""

log = logging.getLogger(__name__)


class Champions(Protocol):
    """The registry, as far as it says what is to be served. What it returns has a `bundle`, the version."""

    def champion(self) -> Any: ...
    def previous(self) -> Any: ...
    def find(self, bundle: str) -> Any: ...
    def promote(self, registered: Any) -> None: ...
    def download(self, registered: Any, to: Path) -> Path: ...


class Replicas(Protocol):
    """Whatever serves a bundle."""

    def deploy(self, bundle: Path) -> None: ...
    def served(self) -> dict[str, Any]: ...
    def ready(self) -> bool: ...


def fetch(registry: Champions, home: Path, which: str = "champion") -> str:
    """The bundle to deploy, below `bundles/`, verified and tried out; returns its version.

    Args:
        which: `champion`, or `previous` for the champion before it.

    Raises:
        NotEnoughHistory: no model was promoted yet, or there was none before.
        BundleRejected: what the registry holds is not what was sealed, or fails its sentinels. What is served stays.
    """
    chosen = registry.champion() if which == "champion" else registry.previous()
    if chosen is None and which == "champion":
        raise NotEnoughHistory("there is no champion yet: run train_detector; its last task says why a model was not promoted")
    if chosen is None:
        raise NotEnoughHistory("there is no champion before this one to go back to")
    return _adopt(registry, chosen, home)


def crown(registry: Champions, version: str) -> str:
    """Make the model of a bundle the champion, if it is not; returns the version. Repeating it changes nothing.

    Raises:
        NotEnoughHistory: the registry does not know it.
    """
    champion = registry.champion()
    if champion is None or champion.bundle != version:
        model = registry.find(version)
        if model is None:
            raise NotEnoughHistory(f"the registry has no model with the bundle {version}")
        registry.promote(model)
    return version


def roll_out(serving: Replicas, home: Path, version: str) -> str:
    """Have every replica serve this bundle, then name it in `CURRENT`, the last good one; returns the version.

    Raises:
        BundleRejected: the replicas refused it, and serve on what `CURRENT` names.
        JobFailed: the application does not start.
    """
    serving.deploy(home / "bundles" / version)
    return settle(home, version)


def settle(home: Path, version: str) -> str:
    """Every replica serves this bundle: it is the one to come back to from now on; returns the version."""
    bundles = home / "bundles"
    before = current(bundles)
    point(bundles, version)
    log.info("serving %s%s", version, f", before {before}" if before and before != version else "")
    return version


def verify(serving: Replicas, home: Path, version: str) -> str:
    """Ask the service itself: the version it names, and that its sentinels hold. Then old bundles are removed.

    Raises:
        JobFailed: it serves something else, or is not ready.
    """
    served = serving.served()["model_version"]
    if served != version:
        raise JobFailed(f"/v1/model names {served}, not {version}: another deployment is under way, or a replica was left behind")
    if not serving.ready():
        raise JobFailed(f"/readyz does not answer 200 for {version}: its sentinel rows fail; see logs/ray.log")
    for old in tidy(home / "bundles"):
        log.info("removed old bundle %s", old)
    return version


def rollback(registry: Champions, serving: Replicas, home: Path) -> str:
    """Make the champion before this one the champion again, and serve it. Doing it twice goes there and back.

    Raises:
        NotEnoughHistory: there was no champion before.
    """
    version = fetch(registry, home, "previous")
    verify(serving, home, roll_out(serving, home, version))
    return crown(registry, version)


def run(registry: Champions, serving: Replicas, home: Path) -> str:
    """All steps; returns the version that is served now."""
    return verify(serving, home, roll_out(serving, home, fetch(registry, home)))


def current(bundles: Path) -> str | None:
    """The version that `CURRENT` names; None before the first deployment."""
    pointer = bundles / CURRENT
    return pointer.read_text().strip() or None if pointer.is_file() else None


def point(bundles: Path, version: str) -> None:
    """Let `CURRENT` name this version, in one step: a reader sees the old name or the new one."""
    # Newest first is by this time: a bundle that is served again is new again.
    os.utime(bundles / version)
    draft = bundles / f".{CURRENT}.{os.getpid()}"
    draft.write_text(version + "\n")
    draft.replace(bundles / CURRENT)


def tidy(bundles: Path) -> list[str]:
    """Remove all but the newest bundles, never the current one; returns what was removed."""
    folders = [path for path in bundles.iterdir() if path.is_dir() and not path.name.startswith(".")]
    newest = sorted(folders, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    old = [path for path in newest[KEPT:] if path.name != current(bundles)]
    for path in old:
        shutil.rmtree(path)
    return [path.name for path in old]


def _adopt(registry: Champions, registered: Any, home: Path) -> str:
    from adnomaly.detector.bundle import adopt
    from adnomaly.detector.score import Scorer

    download = home / "work" / "download" / registered.bundle
    download.mkdir(parents=True, exist_ok=True)
    try:
        folder = adopt(home / "bundles", registry.download(registered, download))
    finally:
        shutil.rmtree(download, ignore_errors=True)
    Scorer.load(folder).check_sentinels()
    return folder.name
