"""Watch the deployed detector: drift of inputs and scores against training, and alert volume."""

import json
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from adnomaly.errors import NotEnoughHistory
from adnomaly.files import write_atomic
from adnomaly.home import Home
from adnomaly.monitoring.drift import DriftMeasure, Reference, max_incidents
from adnomaly.stores.bundles import BundleStore
from adnomaly.windows import SIZE, SLIDE

if TYPE_CHECKING:
    from adnomaly.arrays import Floats
    from adnomaly.stores.model_health import ModelHistory
    from adnomaly.stores.offline_features import OfflineFeatures

RECENT: Final = timedelta(days=1)
VOLUME_DAYS: Final = 7
TRAINING_PAUSE: Final = timedelta(hours=20)
"""No training is requested this soon after the last one."""
EVERY: Final = SIZE // SLIDE
"""Every fifth window of an entity: these do not overlap."""
SCORE: Final = "score"

log = logging.getLogger(__name__)


def measure(
    history: "ModelHistory",
    offline: "OfflineFeatures",
    home: Home,
    *,
    budget_per_day: float,
    now: datetime,
) -> list[str]:
    """Measure and save drift and alert volume; returns what exceeds its limit, in words.

    Raises:
        NotEnoughHistory: nothing is deployed.
    """
    version = BundleStore(home.bundles).current()
    if version is None:
        raise NotEnoughHistory("no detector is deployed yet: run deploy_detector")
    measures = [
        *_drift(history, reference_of(version, offline, home), version, now),
        *_volume(history, budget_per_day, now),
    ]
    history.save(version, measures, now)
    for m in measures:
        value = "too little data" if m.value is None else f"{m.value:.3f}"
        log.info("%s, %s: %s (at most %.3f)", m.measure, m.subject, value, m.limit)
    return [
        f"{m.measure}, {m.subject}: {m.value:.3f} > {m.limit:.3f}" for m in measures if not m.ok
    ]


def _drift(
    history: "ModelHistory", references: dict[str, Reference], version: str, now: datetime
) -> list[DriftMeasure]:
    rows = history.scored(version, now - RECENT)
    return [
        DriftMeasure(
            "drift of scores" if name == SCORE else "drift of inputs",
            name,
            reference.psi(_values(rows, name)),
            reference.limit,
        )
        for name, reference in references.items()
    ]


def _volume(history: "ModelHistory", budget_per_day: float, now: datetime) -> list[DriftMeasure]:
    incidents, days = history.unconfirmed_incidents(now - timedelta(days=VOLUME_DAYS))
    if days < 1:
        return []
    limit = max_incidents(budget_per_day, days)
    subject = f"last {days:.0f} days"
    return [DriftMeasure("incidents not confirmed", subject, float(incidents), limit)]


def should_train(moved: Sequence[str], trained_at: datetime | None, now: datetime) -> bool:
    """Whether to train: something has drifted, and the newest model is older than a day or so."""
    if moved and trained_at and now - trained_at < TRAINING_PAUSE:
        log.info("no training: the newest model is only %s old", now - trained_at)
        return False
    return bool(moved)


def reference_of(version: str, offline: "OfflineFeatures", home: Home) -> dict[str, Reference]:
    """Distributions of deviations (per feature) and scores of a bundle in its training days.

    Computed once per version from the offline features, and saved below `drift/`.
    """
    file = home.drift / f"{version}.json"
    if not file.exists():
        references = _compute_reference(version, offline, home)
        plain = {name: reference.to_plain() for name, reference in references.items()}
        write_atomic(file, json.dumps(plain).encode())
    return {name: Reference.from_plain(raw) for name, raw in json.loads(file.read_text()).items()}


def _compute_reference(
    version: str, offline: "OfflineFeatures", home: Home
) -> dict[str, Reference]:
    # DAG files must not load the numerical libraries.
    import numpy as np

    from adnomaly.bundle.bundle import Bundle
    from adnomaly.detector.grid import to_grid
    from adnomaly.scoring.live import as_windows

    bundle = Bundle.load(home.bundles / version)
    training = bundle.card["training"]
    end = datetime.fromisoformat(training["last"])
    windows = offline.windows(end - timedelta(days=float(training["days"])), end)
    if not windows:
        raise NotEnoughHistory(
            f"the offline features have no windows of the {training['days']:g} days before {end}"
            f" that {version} was trained on; run backfill_features for them, or train again"
        )
    grid, _ = to_grid(
        as_windows(windows, bundle.detector.spec), bundle.detector.cadence, bundle.detector.names
    )
    scores = bundle.detector.score(grid)
    day = np.repeat((grid.end_s // 86400)[::EVERY], scores.score.shape[1])
    columns = {
        name: scores.z[::EVERY, :, f].ravel() for f, name in enumerate(bundle.detector.spec.names)
    }
    columns[SCORE] = scores.score[::EVERY].ravel()
    references = {name: Reference.of(values, day) for name, values in columns.items()}
    return {name: reference for name, reference in references.items() if reference is not None}


def _values(rows: Sequence[tuple[float | None, dict[str, float]]], name: str) -> "Floats":
    """Scores, or deviations of one feature, (n,); nan where absent."""
    import numpy as np

    values = (score if name == SCORE else z.get(name) for score, z in rows)
    return np.array([np.nan if value is None else value for value in values], float)
