"""Does Feast's online store answer what was stored? What `make feast-test` prints.

Each entity's online window is compared with the offline window of the same moment, or, when it is newer than every
offline one, with what the stream said.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from adnomaly.windows import TrafficWindow, time_text

if TYPE_CHECKING:
    from adnomaly.stores.offline_features import OfflineFeatures
    from adnomaly.stores.online_features import OnlineFeatures
    from adnomaly.stores.windows import WindowStore

LOOK_BACK: Final = timedelta(days=7)
"""Entities without a window in this time may be gone from the online store."""


class ParityCheck(NamedTuple):
    """One entity: its online window, what it should equal, and the verdict."""

    entity: str
    online: TrafficWindow | None
    expected: TrafficWindow | None
    verdict: str
    ok: bool


def compare_entity(
    online: TrafficWindow | None, offline: TrafficWindow | None, streamed: TrafficWindow | None
) -> tuple[TrafficWindow | None, str, bool]:
    """What an entity's online window should equal, the verdict, and whether all is well.

    Args:
        offline: the entity's newest offline window.
        streamed: the stream's window with the moment of the online one.
    """
    if online is None:
        return (offline or streamed), "not online", False
    if offline is not None and offline.window_end > online.window_end:
        return offline, "older than offline", False
    if offline is not None and offline.window_end == online.window_end:
        return offline, *(
            ("equals offline", True) if offline == online else ("differs from offline", False)
        )
    if streamed is None:
        return None, "stored nowhere else", False
    return streamed, *(
        ("equals the stream", True) if streamed == online else ("differs from the stream", False)
    )


def run(
    online: "OnlineFeatures", offline: "OfflineFeatures", stream: "WindowStore", *, now: datetime
) -> list[ParityCheck]:
    """Check every entity that has a window offline or streamed in the last LOOK_BACK."""
    offline.sync()
    newest = {w.key: w for w in offline.newest(now - LOOK_BACK, now)}
    since = max((w.window_end for w in newest.values()), default=now - LOOK_BACK) - timedelta(
        minutes=1
    )
    # Online first, then the table: the publisher writes them in that order, and may be at work between the two.
    live = {w.key for w in stream.windows(since, now + LOOK_BACK)}
    entities = [tuple(key.split("|")) for key in sorted(newest.keys() | live)]
    found = online.read(entities)
    streamed = {(w.key, w.window_end): w for w in stream.windows(since, now + LOOK_BACK)}
    checks = []
    for entity, window in zip(map("|".join, entities), found, strict=True):
        said = streamed.get((entity, window.window_end)) if window else None
        checks.append(
            ParityCheck(entity, window, *compare_entity(window, newest.get(entity), said))
        )
    return checks


def as_text(checks: Sequence[ParityCheck]) -> str:
    """The table for a person: one line per entity, then a count."""
    lines = [f"{'entity':<12} {'window_end':<20}  online -> expected"]
    for check in checks:
        moment = time_text(check.online.window_end) if check.online else "-"
        lines.append(
            f"{check.entity:<12} {moment:<20}  {_values(check.online)} -> {_values(check.expected)}  {check.verdict}"
        )
    wrong = sum(not check.ok for check in checks)
    return "\n".join([*lines, f"{len(checks)} entities, {wrong} mismatches"])


def _values(window: TrafficWindow | None) -> str:
    return (
        "nothing"
        if window is None
        else " ".join(f"{name}={value:.6g}" for name, value in window.features.items())
    )
