"""Is the deployed detector still fit for what comes? Drift of its inputs and scores against training, and its alert volume."""

import json
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from adnomaly.errors import NotEnoughHistory
from adnomaly.home import Home
from adnomaly.monitoring.drift import DriftMeasure, Reference, most_incidents
from adnomaly.stores.bundles import BundleStore

if TYPE_CHECKING:
    from adnomaly.stores.model_health import ModelHistory
    from adnomaly.stores.offline_features import OfflineFeatures

RECENT: Final = timedelta(days=1)
VOLUME_DAYS: Final = 7
RESTED: Final = timedelta(hours=20)
"""After a training no other one is asked for so soon."""
EVERY: Final = 5
"""Windows overlap by four fifths: of each entity every fifth one counts."""
SCORE: Final = "score"

log = logging.getLogger(__name__)


def measure(
    judged: "ModelHistory",
    offline: "OfflineFeatures",
    history: "ModelHistory",
    home: Home,
    *,
    budget_per_day: float,
    now: datetime,
) -> list[str]:
    """Measure, keep the figures, and name what has moved further than it should.

    Raises:
        NotEnoughHistory: nothing is deployed.
    """
    version = BundleStore(home.bundles).current()
    if version is None:
        raise NotEnoughHistory("no detector is deployed yet: nothing to watch")
    references = reference_of(version, offline, home)
    rows = judged.judged(version, now - RECENT)
    found = [
        DriftMeasure(
            "drift of inputs" if n != SCORE else "drift of scores",
            n,
            r.psi(_values(rows, n)),
            r.limit,
        )
        for n, r in references.items()
    ]
    incidents, days = judged.unjust_incidents(now - timedelta(days=VOLUME_DAYS))
    if days >= 1:
        found.append(
            DriftMeasure(
                "incidents not confirmed",
                f"last {days:.0f} days",
                float(incidents),
                most_incidents(budget_per_day, days),
            )
        )
    history.keep(version, found, now)
    for m in found:
        log.info(
            "%s, %s: %s (at most %.3f)",
            m.measure,
            m.subject,
            "too little data" if m.value is None else f"{m.value:.3f}",
            m.limit,
        )
    return [f"{m.measure}, {m.subject}: {m.value:.3f} > {m.limit:.3f}" for m in found if not m.ok]


def should_train(moved: Sequence[str], trained_at: datetime | None, now: datetime) -> bool:
    """Whether training is worth it: something has moved, and the newest model has not seen the newest day already."""
    if moved and trained_at and now - trained_at < RESTED:
        log.info("the newest model is %s old: it is given a day to prove itself", now - trained_at)
        return False
    return bool(moved)


def reference_of(version: str, offline: "OfflineFeatures", home: Home) -> dict[str, Reference]:
    """How inputs (deviations from what is expected, per feature) and scores of a bundle were distributed in its training.

    Worked out once per version, from the offline features of its training days, and kept below `drift/`.
    """
    file = home.drift / f"{version}.json"
    if not file.exists():
        found = _work_out(version, offline, home)
        file.parent.mkdir(exist_ok=True)
        draft = file.with_suffix(".part")
        draft.write_text(json.dumps({name: r.to_plain() for name, r in found.items()}))
        draft.replace(file)
    return {name: Reference.from_plain(raw) for name, raw in json.loads(file.read_text()).items()}


def _work_out(version: str, offline: "OfflineFeatures", home: Home) -> dict[str, Reference]:
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
            f"the offline features hold nothing of the {training['days']:g} days before {end} that {version} learned from"
        )
    grid, _ = to_grid(
        as_windows(windows, bundle.detector.spec), bundle.detector.cadence, bundle.detector.names
    )
    judged = bundle.detector.score(grid)
    day = np.repeat((grid.end_s // 86400)[::EVERY], judged.score.shape[1])
    columns = {
        name: judged.z[::EVERY, :, f].ravel() for f, name in enumerate(bundle.detector.spec.names)
    }
    columns[SCORE] = judged.score[::EVERY].ravel()
    found = {name: Reference.of(values, day) for name, values in columns.items()}
    return {name: reference for name, reference in found.items() if reference is not None}


def _values(rows: Sequence[tuple[float | None, dict[str, float]]], name: str) -> Any:
    import numpy as np

    given = (score if name == SCORE else z.get(name) for score, z in rows)
    return np.array([np.nan if value is None else value for value in given], float)
