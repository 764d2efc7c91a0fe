"""Score the stream of windows with the deployed bundle; history comes from `anomaly_results`."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from adnomaly.alerts import ScoredWindow, Silence, WindowExplanation
from adnomaly.bundle.bundle import Bundle
from adnomaly.detector import grouping
from adnomaly.detector.detector import THRESHOLD
from adnomaly.detector.grouping import IncidentSpan
from adnomaly.detector.spec import Spec
from adnomaly.detector.windows import SEPARATOR, Windows
from adnomaly.errors import BundleRejected, Unavailable
from adnomaly.scoring.attribution import summarize
from adnomaly.scoring.override import own_bundle
from adnomaly.scoring.rows import RowScorer
from adnomaly.scoring.stream import KEPT_S, StreamState, WindowScore
from adnomaly.settings import Settings
from adnomaly.stores.bundles import BundleStore
from adnomaly.windows import SLIDE, TrafficWindow

if TYPE_CHECKING:
    from adnomaly.stores.results import ResultStore

LATE_S: Final = 24 * 3600
"""Windows later than this behind the newest scored one have no history left."""

log = logging.getLogger(__name__)


class ScoredBatch(NamedTuple):
    """Results of some windows, and the state to commit once they are stored."""

    scored: list[ScoredWindow]
    silences: list[Silence]
    after: StreamState | None


class LiveScorer:
    """The deployed detector and its state in the stream."""

    def __init__(self, results: "ResultStore", bundles: BundleStore, settings: Settings) -> None:
        self._results, self._bundles, self._spec = results, bundles, Spec.ours()
        paths = {
            name: getattr(settings, f"{name}_path") for name in ("model", "preprocess", "threshold")
        }
        self._override = own_bundle(bundles.folder, **paths)
        self._bundle: Bundle | None = None
        self._refused = ""
        self._state: StreamState | None = None

    def load_current(self) -> None:
        """Load the deployed bundle; a refused one is logged once and the loaded one stays.

        Raises:
            Unavailable: no bundle was deployed yet.
        """
        version = self._override.name if self._override else self._bundles.current()
        if version and version not in (self._bundle and self._bundle.version, self._refused):
            try:
                RowScorer.load(self._bundles.path(version)).check_sentinels()
                self._bundle, self._state = Bundle.load(self._bundles.path(version)), None
                log.info("scoring with model %s", version)
            except BundleRejected as error:
                self._refused = version
                log.error(
                    "bundle refused, keep scoring with %s: %s",
                    self._bundle.version if self._bundle else "no model",
                    error,
                )
        if self._bundle is None:
            raise Unavailable("no model yet: deploy one with deploy_detector")

    def reset(self) -> None:
        """Rebuild the state from stored results at the next windows."""
        self._state = None

    def is_too_late(self, window: TrafficWindow) -> bool:
        """The window has no history left to be scored with."""
        return (
            self._state is not None
            and window.window_end.timestamp() < self._state.scored_until - LATE_S
        )

    def score(self, windows: Sequence[TrafficWindow]) -> ScoredBatch:
        """Score windows, in any order. The state changes only in `commit`."""
        if not windows:
            return ScoredBatch([], [], self._state)
        state = self._state or self._resumed(min(w.window_end for w in windows))
        scores, begun, after = state.score(as_windows(windows, self._spec))
        version = state.bundle.version
        scored = [_scored(w, s, version, self._spec) for w, s in zip(windows, scores, strict=True)]
        return ScoredBatch(scored, [_silence(i, version) for i in begun], after)

    def commit(self, batch: ScoredBatch) -> None:
        """Adopt the state after a batch that was stored."""
        self._state = batch.after

    def _resumed(self, first: datetime) -> StreamState:
        """The state before a window, from stored results."""
        bundle = self._bundle
        assert bundle is not None, "load_current comes first"
        end, start = first - SLIDE, first - timedelta(seconds=KEPT_S)
        past = self._results.windows(start, end)
        spans = {
            f"{geo}{SEPARATOR}{platform}": (int(last.timestamp()), grouping.began_s(name))
            for geo, platform, last, name in self._results.last_incidents(
                start, end, bundle.version
            )
        }
        return StreamState.begin(bundle, as_windows(past, self._spec) if past else None, spans)


def as_windows(windows: Sequence[TrafficWindow], spec: Spec) -> Windows:
    """The detector's form of windows; NaN for a missing feature."""
    keys = [SEPARATOR.join((w.geo, w.platform)) for w in windows]
    names, entity = np.unique(keys, return_inverse=True)
    start, end = (
        np.array([int(getattr(w, name).timestamp()) for w in windows], np.int64)
        for name in ("window_start", "window_end")
    )
    values = np.array(
        [[w.features.get(name, np.nan) for name in spec.names] for w in windows], np.float64
    )
    return Windows(tuple(names.tolist()), entity.astype(np.int64), start, end, values)


def _scored(window: TrafficWindow, score: WindowScore, version: str, spec: Spec) -> ScoredWindow:
    summary = (
        f"{window.geo} {window.platform}: warming up, not enough history"
        if score.score is None
        else summarize(
            (window.geo, window.platform), spec.measures, window.features, score.expected, score.z
        )
    )
    return ScoredWindow(
        window=window,
        anomaly_score=score.score,
        threshold=THRESHOLD,
        incident_id=score.incident,
        model_version=version,
        explanation=WindowExplanation(
            summary, score.expected, score.z, score.share, score.low, score.high
        ),
    )


def _silence(incident: IncidentSpan, version: str) -> Silence:
    geo, _, platform = incident.entity.partition(SEPARATOR)
    return Silence(
        kind=incident.kind,
        incident_id=incident.name,
        geo=geo or None,
        platform=platform or None,
        since_s=incident.start_s,
        model_version=version,
    )
