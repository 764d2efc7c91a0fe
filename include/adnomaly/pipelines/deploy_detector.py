"""Deploy the champion: fetch and verify its bundle, roll it out, mark it current, verify the service; and roll back.

`bundles/` of ADNOMALY_HOME holds the last bundles by version; its `CURRENT` names the one to serve. A process that starts
serving needs nothing else.
"""

import logging
import shutil
from datetime import datetime
from typing import TYPE_CHECKING, Final

from adnomaly.errors import JobFailed, NotEnoughHistory
from adnomaly.stores.bundles import BundleStore

if TYPE_CHECKING:
    from adnomaly.clients.mlflow import Registered, Registry
    from adnomaly.clients.ray_serve import Serving
    from adnomaly.stores.model_health import ModelHistory

BY_HAND: Final = "make rollback"
"""Recorded as the run of a deployment that no DAG made."""

log = logging.getLogger(__name__)


def fetch(registry: "Registry", bundles: BundleStore, which: str = "champion") -> str:
    """Download the bundle to deploy, verify it, and check its sentinels; returns its version.

    Args:
        which: `champion`, or `previous` for the champion before it.

    Raises:
        NotEnoughHistory: no model was promoted yet, or there was none before.
        BundleRejected: the bundle is not what was sealed, or fails its sentinels. What is served stays.
    """
    chosen = registry.champion() if which == "champion" else registry.previous()
    if chosen is None and which == "champion":
        raise NotEnoughHistory(
            "there is no champion yet: run train_detector; its last task says why a model was not promoted"
        )
    if chosen is None:
        raise NotEnoughHistory("there is no champion before this one to go back to")
    return _import(registry, chosen, bundles)


def promote(registry: "Registry", version: str) -> str:
    """Make the model of a bundle the champion; returns the version. Idempotent.

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


def roll_out(serving: "Serving", bundles: BundleStore, version: str) -> str:
    """Have every replica serve this bundle, then mark it current; returns the version.

    Raises:
        BundleRejected: the replicas refused it and keep serving the current one.
        JobFailed: the application does not start.
    """
    serving.deploy(bundles.path(version))
    return mark_current(bundles, version)


def mark_current(bundles: BundleStore, version: str) -> str:
    """Every replica serves this bundle: restarts load it from now on. Returns the version."""
    before = bundles.current()
    bundles.set_current(version)
    log.info("serving %s%s", version, f", before {before}" if before and before != version else "")
    return version


def verify(serving: "Serving", bundles: BundleStore, version: str) -> str:
    """Ask the service for its version and its sentinels, then prune old bundles; returns the version.

    Raises:
        JobFailed: it serves something else, or is not ready.
    """
    served = serving.served()["model_version"]
    if served != version:
        raise JobFailed(
            f"/v1/model names {served}, not {version}: another deployment is under way, or a replica was left behind"
        )
    if not serving.ready():
        raise JobFailed(
            f"/readyz does not answer 200 for {version}: its sentinel rows fail; see logs/ray.log"
        )
    for old in bundles.prune():
        log.info("removed old bundle %s", old)
    return version


def record(history: "ModelHistory", version: str, run_id: str, at: datetime) -> None:
    """Keep which bundle serves since when. Recording the one that serves already changes nothing."""
    history.deployed(version, run_id, at)


def rollback(
    registry: "Registry",
    serving: "Serving",
    bundles: BundleStore,
    history: "ModelHistory",
    *,
    now: datetime,
) -> str:
    """Serve the champion before this one, and make it the champion; returns its version. Twice goes there and back.

    Raises:
        NotEnoughHistory: there was no champion before.
    """
    version = fetch(registry, bundles, "previous")
    verify(serving, bundles, roll_out(serving, bundles, version))
    promote(registry, version)
    record(history, version, BY_HAND, now)
    return version


def _import(registry: "Registry", registered: "Registered", bundles: BundleStore) -> str:
    from adnomaly.scoring.rows import RowScorer

    download = bundles.folder.parent / "work" / "download" / registered.bundle
    download.mkdir(parents=True, exist_ok=True)
    try:
        folder = bundles.import_bundle(registry.download(registered, download))
    finally:
        shutil.rmtree(download, ignore_errors=True)
    RowScorer.load(folder).check_sentinels()
    return folder.name
