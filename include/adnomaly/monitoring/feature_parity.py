"""Feature parity: compare Feast's online store with the offline store, for `make feast-test`.

The online window of each entity is compared with the offline window of the same time. If it is
newer than every offline window, it is compared with the window of the stream.
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
"""Entities without a window in this time may be missing online."""


class ParityCheck(NamedTuple):
    """One entity: its online window, the expected window, and the verdict."""

    entity: str
    online: TrafficWindow | None
    expected: TrafficWindow | None
    verdict: str
    ok: bool


def compare_entity(
    online: TrafficWindow | None, offline: TrafficWindow | None, streamed: TrafficWindow | None
) -> tuple[TrafficWindow | None, str, bool]:
    """The expected window of an entity, the verdict, and whether it is good.

    Args:
        offline: the entity's newest offline window.
        streamed: the stream's window with the time of the online window.
    """
    if online is None:
        return (offline or streamed), "not online", False
    if offline is not None and offline.window_end > online.window_end:
        return offline, "older than offline", False
    if offline is not None and offline.window_end == online.window_end:
        same = offline == online
        return offline, "equals offline" if same else "differs from offline", same
    if streamed is None:
        return None, "stored nowhere else", False
    same = streamed == online
    return streamed, "equals the stream" if same else "differs from the stream", same


def run(
    online: "OnlineFeatures", offline: "OfflineFeatures", stream: "WindowStore", *, now: datetime
) -> list[ParityCheck]:
    """Check every entity with an offline or streamed window within LOOK_BACK."""
    offline.sync()
    newest = {w.key: w for w in offline.newest(now - LOOK_BACK, now)}
    since = max((w.window_end for w in newest.values()), default=now - LOOK_BACK) - timedelta(
        minutes=1
    )
    # Online before the table: the publisher writes in that order and may be between the two.
    live = {w.key for w in stream.windows(since, now + LOOK_BACK)}
    keys = sorted(newest.keys() | live)
    entities = [(geo, platform) for geo, _, platform in (key.partition("|") for key in keys)]
    windows = online.read(entities)
    streamed = {(w.key, w.window_end): w for w in stream.windows(since, now + LOOK_BACK)}
    checks = []
    for key, window in zip(keys, windows, strict=True):
        same = streamed.get((key, window.window_end)) if window else None
        checks.append(ParityCheck(key, window, *compare_entity(window, newest.get(key), same)))
    return checks


def as_text(checks: Sequence[ParityCheck]) -> str:
    """A table: one line per entity, then the number of mismatches."""
    lines = [f"{'entity':<12} {'window_end':<20}  online -> expected"]
    for check in checks:
        moment = time_text(check.online.window_end) if check.online else "-"
        lines.append(
            f"{check.entity:<12} {moment:<20}  {_values(check.online)} ->"
            f" {_values(check.expected)}  {check.verdict}"
        )
    wrong = sum(not check.ok for check in checks)
    return "\n".join([*lines, f"{len(checks)} entities, {wrong} mismatches"])


def _values(window: TrafficWindow | None) -> str:
    return (
        "nothing"
        if window is None
        else " ".join(f"{name}={value:.6g}" for name, value in window.features.items())
    )
