"""The served model of one process: load, check sentinels, swap. A bad bundle is refused."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from adnomaly.stores.bundles import BundleStore

if TYPE_CHECKING:
    from adnomaly.scoring.rows import RowScore

log = logging.getLogger("serving")


class Scorer(Protocol):
    """A loaded and verified bundle."""

    version: str
    card: dict[str, Any]

    def score_rows(self, rows: Sequence[Mapping[str, Any]]) -> "Sequence[RowScore]":
        """One result per row of features and, optionally, `geo`, `platform` and `timestamp`."""
        ...

    def check_sentinels(self) -> None:
        """Raise when a sentinel does not get its known answer."""
        ...


class ModelSlot:
    """Holds the scorer that this process serves.

    Attributes:
        scorer: the loaded model, None until the first bundle is loaded.
        loaded_at: when it was loaded.
        error: why the last offered bundle was refused; None when it was not.
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
        """Serve this bundle if it loads and passes its sentinels, else keep the served one.

        Never raises: Ray Serve takes down a deployment whose `reconfigure` raises.
        """
        try:
            scorer = self._load(folder)
            scorer.check_sentinels()
        except Exception as error:  # an imported bundle can fail in any way
            self.error = f"{folder.name}: {type(error).__name__}: {error}"[:500]
            log.error(
                "bundle refused, keep serving %s: %s",
                self.scorer.version if self.scorer else "no model",
                self.error,
            )
            return False
        self.scorer, self.loaded_at, self.error = scorer, self._clock(), None
        log.info("serving model %s", scorer.version)
        return True

    def recover(self, bundles: Path) -> bool:
        """Without a served model, load the bundle of `CURRENT`; returns whether it was loaded."""
        version = BundleStore(bundles).current()
        if self.scorer is not None or version is None:
            return False
        refused = self.error
        loaded = self.offer(bundles / version)
        self.error = refused or self.error
        return loaded
