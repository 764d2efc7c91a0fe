"""Keeps the scoring application on Ray: puts it, and puts it again after Ray has restarted with no memory of it.

Waits while no model has been deployed (`bundles/CURRENT` does not exist). A new model is rolled out by `deploy_detector`;
this program leaves a running application alone.
"""

import logging
import shutil
import sys
import threading
from pathlib import Path
from typing import Final

from adnomaly.clients.ray_serve import ABSENT, Serving
from adnomaly.errors import JobFailed, Unavailable
from adnomaly.home import Home
from adnomaly.process import run_process
from adnomaly.scoring.override import own_bundle
from adnomaly.settings import Settings
from adnomaly.stores.bundles import BundleStore
from adnomaly.wiring import connect

LOOK_SECONDS: Final = 2.0
MAX_PAUSE_SECONDS: Final = 30.0

log = logging.getLogger("serve_detector")


class ServeReconciler:
    """Looks at the application and does what is missing. Says each new state once."""

    def __init__(self, serving: Serving, home: Home, *, instead: Path | None = None) -> None:
        self._instead = instead
        self._serving, self._bundles, self._metrics = (
            serving,
            BundleStore(home.bundles),
            home.serving_metrics,
        )
        self._said = ""

    def reconcile(self) -> None:
        """One look.

        Raises:
            Unavailable: Ray cannot be reached.
            JobFailed: Ray could not start the application; it has been taken away, so that the next look puts it again.
        """
        status = self._serving.status()
        bundle = self._instead or self._bundles.current_path()
        if status == ABSENT and bundle is None:
            self.say("no model yet: waiting for deploy_detector to name one in bundles/CURRENT")
        elif status == ABSENT and bundle is not None:
            # Counters of replicas that are gone for good start again from 0, as Prometheus expects of a restart.
            shutil.rmtree(self._metrics, ignore_errors=True)
            self.say(f"putting the application with model {bundle.name}")
            self._serving.put(bundle)
        elif status == "DEPLOY_FAILED":
            # Putting an unchanged configuration does nothing, even after the cause is gone.
            self._serving.delete()
            raise JobFailed(
                "the application did not start; its reason is in Ray's dashboard and logs. Taken away, to be put again"
            )
        else:
            self.say(f"application is {status}")

    def say(self, line: str) -> None:
        """Log a line, unless it is the one that was logged last."""
        if line != self._said:
            log.info(line)
            self._said = line


def run(settings: Settings, stopping: threading.Event) -> None:
    """Look every two seconds, until asked to stop; the application goes on."""
    backends = connect(settings)
    own = own_bundle(
        backends.home.bundles,
        model=settings.model_path,
        preprocess=settings.preprocess_path,
        threshold=settings.threshold_path,
    )
    reconciler, pause = ServeReconciler(backends.serving, backends.home, instead=own), LOOK_SECONDS
    while not stopping.is_set():
        try:
            reconciler.reconcile()
            pause = LOOK_SECONDS
        except Unavailable as error:
            reconciler.say(f"waiting: {error}")
        except JobFailed as error:
            pause = min(2 * pause, MAX_PAUSE_SECONDS)
            log.warning("%s; again in %.0f s", error, pause)
        stopping.wait(pause)


def main() -> int:
    return run_process(run)


if __name__ == "__main__":
    sys.exit(main())
