"""The place of the served model in one process: load, self-test, swap; what cannot be loaded never replaces what works."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from adnomaly.stores.bundles import BundleStore

log = logging.getLogger("serving")


class RowScore(Protocol):
    """What the model says about one row. `features` are those it used; `expected`, `z` and `share` are keyed by them."""

    anomaly_score: float
    is_anomaly: bool
    threshold: float
    baseline: str
    features: Sequence[str]
    expected: Mapping[str, float]
    z: Mapping[str, float]
    share: Mapping[str, float]


class Scorer(Protocol):
    """A loaded bundle that has verified itself."""

    version: str
    card: Mapping[str, Any]

    def score_rows(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[RowScore]:
        """One result per row. A row holds the features, and what is known of `geo`, `platform` and `timestamp`."""
        ...

    def check_sentinels(self) -> None:
        """Raises when a sentinel row does not get its known answer."""
        ...


class ModelSlot:
    """Holds the scorer that this process serves.

    Attributes:
        scorer: the loaded model, None until the first bundle is loaded.
        loaded_at: when it was loaded.
        error: why the last offered bundle was refused; None when it was taken.
    """

    def __init__(
        self,
        load: Callable[[Path], Scorer],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._load, self._clock = load, clock
        self.scorer: Scorer | None = None
        self.loaded_at: datetime | None = None
        self.error: str | None = None

    def offer(self, folder: Path) -> bool:
        """Serve this bundle from now on, if it loads and knows its sentinels; else keep what is served.

        Never raises: Ray Serve takes a deployment down whose `reconfigure` raises.
        """
        try:
            scorer = self._load(folder)
            scorer.check_sentinels()
        except Exception as error:  # a bundle from outside may fail in any way
            self.error = f"{folder.name}: {type(error).__name__}: {error}"[:500]
            log.error(
                "bundle refused, %s stays: %s",
                self.scorer.version if self.scorer else "no model",
                self.error,
            )
            return False
        self.scorer, self.loaded_at, self.error = scorer, self._clock(), None
        log.info("serving model %s", scorer.version)
        return True

    def recover(self, bundles: Path) -> bool:
        """With nothing served, fall back to the last good bundle on this disk (the one that `CURRENT` names)."""
        version = BundleStore(bundles).current()
        if self.scorer is not None or version is None:
            return False
        refused = self.error
        taken = self.offer(bundles / version)
        self.error = refused or self.error
        return taken
