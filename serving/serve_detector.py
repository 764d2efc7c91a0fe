"""Keeps the scoring application on Ray: deploys it when it is absent, also after a restart of Ray.

Waits while no model is deployed (`bundles/CURRENT` does not exist). `deploy_detector` rolls out new
models; a running application is left alone.
"""

import logging
import shutil
import sys
from pathlib import Path
from threading import Event
from typing import Final

from adnomaly.clients.ray_serve import ABSENT, Serving
from adnomaly.errors import JobFailed, Unavailable
from adnomaly.home import Home
from adnomaly.process import announce_ready, run_process
from adnomaly.retry import retry, until
from adnomaly.scoring.override import own_bundle
from adnomaly.settings import Settings
from adnomaly.stores.bundles import BundleStore
from adnomaly.wiring import connect

CHECK_SECONDS: Final = 2.0
FIRST_RETRY_SECONDS: Final = 5.0
MAX_RETRY_SECONDS: Final = 30.0

log = logging.getLogger("serve_detector")


class ServeReconciler:
    """Deploys the application when it is absent or failed. Logs each new state once."""

    def __init__(self, serving: Serving, home: Home, *, override: Path | None = None) -> None:
        """`override` is a bundle to serve instead of the current one."""
        self._serving, self._override = serving, override
        self._bundles, self._metrics = BundleStore(home.bundles), home.serving_metrics
        self._last_line = ""

    def reconcile(self) -> None:
        """Check once; waits for the next check while Ray cannot be reached.

        Raises:
            JobFailed: Ray could not start the application; it is deleted, so that the next check
                deploys it again.
        """
        try:
            self._reconcile()
        except Unavailable as error:
            self._log(f"waiting: {error}")

    def _reconcile(self) -> None:
        status = self._serving.status()
        bundle = self._override or self._bundles.current_path()
        if status == ABSENT and bundle is None:
            self._log("no model yet: waiting for deploy_detector to name one in bundles/CURRENT")
        elif status == ABSENT and bundle is not None:
            # The new replicas' counters start from 0, as Prometheus expects after a restart.
            shutil.rmtree(self._metrics, ignore_errors=True)
            self._log(f"deploying the application with model {bundle.name}")
            self._serving.put(bundle)
        elif status == "DEPLOY_FAILED":
            # An unchanged configuration has no effect, even after the cause is gone.
            self._serving.delete()
            raise JobFailed(
                "the application did not start, see Ray's dashboard and logs; deleted, to be deployed again"
            )
        else:
            self._log(f"application is {status}")
        if status == "RUNNING" or bundle is None:
            announce_ready()

    def _log(self, line: str) -> None:
        if line != self._last_line:
            log.info(line)
            self._last_line = line


def run(settings: Settings, stop: Event) -> None:
    """Check every two seconds until `stop` is set; the application keeps running."""
    backends = connect(settings)
    override = own_bundle(
        backends.home.bundles,
        model=settings.model_path,
        preprocess=settings.preprocess_path,
        threshold=settings.threshold_path,
    )
    reconciler = ServeReconciler(backends.serving, backends.home, override=override)
    while not stop.is_set():
        retry(
            reconciler.reconcile,
            wait=until(stop),
            errors=(JobFailed,),
            first_delay_s=FIRST_RETRY_SECONDS,
            max_delay_s=MAX_RETRY_SECONDS,
        )
        stop.wait(CHECK_SECONDS)


def main() -> int:
    return run_process(run)


if __name__ == "__main__":
    sys.exit(main())
