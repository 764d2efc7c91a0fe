"""Deploy the champion: fetch and verify its bundle, roll it out, verify the service; roll back.

`bundles/` of ADNOMALY_HOME holds the newest bundles by version; `CURRENT` names the one to serve.
"""

import logging
import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from adnomaly.errors import JobFailed, NotEnoughHistory
from adnomaly.stores.bundles import BundleStore

if TYPE_CHECKING:
    from adnomaly.clients.mlflow import Registered, Registry
    from adnomaly.clients.ray_serve import Serving
    from adnomaly.stores.model_health import ModelHistory

BY_HAND: Final = "make rollback"
"""Run id of a deployment without a DAG run."""

log = logging.getLogger(__name__)


def fetch(registry: "Registry", bundles: BundleStore, which: str = "champion") -> str:
    """Download the bundle to deploy, verify it and its sentinels; returns its version.

    Args:
        which: `champion`, or `previous` for the champion before it.

    Raises:
        NotEnoughHistory: there is no champion, or no previous one.
        BundleRejected: the bundle was changed or fails its sentinels. The served one stays.
    """
    chosen = registry.champion() if which == "champion" else registry.previous()
    if chosen is None and which == "champion":
        raise NotEnoughHistory(
            "there is no champion yet: run train_detector;"
            " its last task says why a model was not promoted"
        )
    if chosen is None:
        raise NotEnoughHistory("there is no previous champion to roll back to")
    return _import(registry, chosen, bundles)


def promote(registry: "Registry", version: str) -> str:
    """Make the model of a bundle the champion; returns the version. Idempotent.

    Raises:
        NotEnoughHistory: the registry has no such model.
    """
    champion = registry.champion()
    if champion is None or champion.bundle != version:
        model = registry.find(version)
        if model is None:
            raise NotEnoughHistory(f"the registry has no model with the bundle {version}")
        registry.promote(model)
    return version


def roll_out(serving: "Serving", bundles: BundleStore, version: str) -> str:
    """Deploy a bundle on every replica, then mark it current; returns the version.

    Raises:
        BundleRejected: the replicas refuse it and keep serving the current one.
        JobFailed: the application does not start.
    """
    serving.deploy(bundles.path(version))
    return mark_current(bundles, version)


def mark_current(bundles: BundleStore, version: str) -> str:
    """Make restarted replicas load this bundle; returns the version."""
    before = bundles.current()
    bundles.set_current(version)
    log.info("serving %s%s", version, f", before {before}" if before and before != version else "")
    return version


def verify(serving: "Serving", bundles: BundleStore, version: str) -> str:
    """Check the served version and its sentinels, then prune old bundles; returns the version.

    Raises:
        JobFailed: another version is served, or the service is not ready.
    """
    served = serving.served()["model_version"]
    if served != version:
        raise JobFailed(
            f"/v1/model names {served}, not {version}:"
            " another deployment is in progress, or a replica was not updated"
        )
    if not serving.ready():
        raise JobFailed(
            f"/readyz does not answer 200 for {version}: its sentinels fail; see logs/ray.log"
        )
    for old in bundles.prune():
        log.info("removed old bundle %s", old)
    return version


def record(history: "ModelHistory", version: str, run_id: str, at: datetime) -> None:
    """Add a deployment to the history. Idempotent for the version that is live."""
    history.deployed(version, run_id, at)


def rollback(
    registry: "Registry",
    serving: "Serving",
    bundles: BundleStore,
    history: "ModelHistory",
    *,
    now: datetime,
) -> str:
    """Deploy and promote the previous champion; returns its version.

    A second rollback returns to the first version.

    Raises:
        NotEnoughHistory: there is no previous champion.
    """
    version = fetch(registry, bundles, "previous")
    verify(serving, bundles, roll_out(serving, bundles, version))
    promote(registry, version)
    record(history, version, BY_HAND, now)
    return version


def _import(registry: "Registry", registered: "Registered", bundles: BundleStore) -> str:
    # DAG files must not load the ONNX libraries.
    from adnomaly.scoring.rows import RowScorer

    with tempfile.TemporaryDirectory() as download:
        folder = bundles.import_bundle(registry.download(registered, Path(download)))
    RowScorer.load(folder).check_sentinels()
    return folder.name
