"""The Ray Serve binding: one deployment, whose replicas hold one model each. `user_config` is `{"bundle": <folder>}`."""

from functools import cache
from pathlib import Path
from typing import Any

from ray import serve

from adnomaly.scoring.rows import RowScorer
from serving.api import Asgi, create_api
from serving.metrics import ApiMetrics
from serving.slot import ModelSlot


@cache
def parts() -> tuple[ModelSlot, ApiMetrics]:
    """The model and the metrics of this replica. Ray copies the deployment's class by value, so state lives behind a function."""
    return ModelSlot(RowScorer.load), ApiMetrics()


def build() -> Asgi:
    """The application of this replica."""
    return create_api(*parts())


@serve.deployment
@serve.ingress(build)
class ScoringReplica:
    """Serves a bundle, and keeps serving it when the next one turns out to be bad."""

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take the bundle if it is good. Never raises, because that would take the deployment down."""
        slot, metrics = parts()
        bundle = Path(user_config["bundle"])
        metrics.reloaded(slot.offer(bundle))
        slot.recover(bundle.parent)


app = ScoringReplica.bind()
