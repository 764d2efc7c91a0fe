"""Windows of the stream, judged by the deployed bundle with their past; the past is what `anomaly_results` has."""

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
"""Windows that come later than this after newer ones were judged have no past any more."""

log = logging.getLogger(__name__)


class ScoredBatch(NamedTuple):
    """What came of some windows, and the course to go on from once that is stored."""

    scored: list[ScoredWindow]
    silences: list[Silence]
    after: StreamState | None


class LiveScorer:
    """The deployed detector, and where it is in the stream."""

    def __init__(self, results: "ResultStore", bundles: BundleStore, settings: Settings) -> None:
        self._results, self._bundles, self._spec = results, bundles, Spec.ours()
        paths = {
            name: getattr(settings, f"{name}_path") for name in ("model", "preprocess", "threshold")
        }
        self._own = own_bundle(bundles.folder, **paths)
        self._bundle: Bundle | None = None
        self._refused = ""
        self._state: StreamState | None = None

    def load_current(self) -> None:
        """Use the bundle that is deployed now; one that cannot be used is named once, and what was used stays.

        Raises:
            Unavailable: nothing was deployed yet.
        """
        version = self._own.name if self._own else self._bundles.current()
        if version and version not in (self._bundle and self._bundle.version, self._refused):
            try:
                RowScorer.load(self._bundles.path(version)).check_sentinels()
                self._bundle, self._state = Bundle.load(self._bundles.path(version)), None
                log.info("judging with model %s", version)
            except BundleRejected as error:
                self._refused = version
                log.error(
                    "bundle refused, %s stays: %s",
                    self._bundle.version if self._bundle else "no model",
                    error,
                )
        if self._bundle is None:
            raise Unavailable("no model yet: deploy one with deploy_detector")

    def reset(self) -> None:
        """Begin with what is stored at the next windows."""
        self._state = None

    def is_too_late(self, window: TrafficWindow) -> bool:
        return (
            self._state is not None
            and window.window_end.timestamp() < self._state.scored_until - LATE_S
        )

    def score(self, windows: Sequence[TrafficWindow]) -> ScoredBatch:
        """Judge windows, in any order. Nothing is remembered of it before `accept`."""
        if not windows:
            return ScoredBatch([], [], self._state)
        state = self._state or self._resumed(min(w.window_end for w in windows))
        found, begun, after = state.score(as_windows(windows, self._spec))
        version = state.bundle.version
        scored = [_scored(w, f, version, self._spec) for w, f in zip(windows, found, strict=True)]
        return ScoredBatch(scored, [_silence(i, version) for i in begun], after)

    def commit(self, batch: ScoredBatch) -> None:
        """All of it is stored: go on from there."""
        self._state = batch.after

    def _resumed(self, first: datetime) -> StreamState:
        """The course up to a window, from what is stored."""
        bundle = self._bundle
        assert bundle is not None
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


def _scored(window: TrafficWindow, found: WindowScore, version: str, spec: Spec) -> ScoredWindow:
    who = (window.geo, window.platform)
    summary = (
        f"{window.geo} {window.platform}: warming up, too little is known of it"
        if found.score is None
        else summarize(who, spec.measures, window.features, found.expected, found.z)
    )
    return ScoredWindow(
        window=window,
        anomaly_score=found.score,
        threshold=THRESHOLD,
        incident_id=found.incident,
        model_version=version,
        explanation=WindowExplanation(
            summary, found.expected, found.z, found.share, found.low, found.high
        ),
    )


def _silence(incident: IncidentSpan, version: str) -> Silence:
    geo, _, platform = incident.entity.partition(SEPARATOR)
    where = {"geo": geo or None, "platform": platform or None}
    return Silence(
        kind=incident.kind,
        incident_id=incident.name,
        **where,
        since_s=incident.start_s,
        model_version=version,
    )
