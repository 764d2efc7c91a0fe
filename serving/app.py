"""The Ray Serve deployment: one model per replica; `user_config` is `{"bundle": <folder>}`."""

from functools import cache
from pathlib import Path
from typing import Any, Final

from ray import serve

from adnomaly.scoring.rows import RowScorer
from serving.api import Asgi, create_api
from serving.metrics import ApiMetrics
from serving.slot import ModelSlot

DEPLOYMENT: Final = "Detector"
"""As under `deployments` in serve.yaml."""


@cache
def parts() -> tuple[ModelSlot, ApiMetrics]:
    """Model and metrics of this replica. Ray pickles the class by value: state is in a function."""
    return ModelSlot(RowScorer.load), ApiMetrics()


def build() -> Asgi:
    """The application of this replica."""
    return create_api(*parts())


@serve.deployment(name=DEPLOYMENT)
@serve.ingress(build)
class ScoringReplica:
    """Serves a bundle, and keeps it when the next one is refused."""

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Load and swap in the bundle. Never raises: that would take the deployment down."""
        slot, metrics = parts()
        bundle = Path(user_config["bundle"])
        metrics.reloaded(slot.offer(bundle))
        slot.recover(bundle.parent)


app = ScoringReplica.bind()  # type: ignore[attr-defined]  # ray types the decorator as the class
