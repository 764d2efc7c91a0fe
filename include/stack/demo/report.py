"""The alert with its reason, its incident and the false alerts, read from `anomaly_results`."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from adnomaly.attacks import Attack, read_ground_truth
from adnomaly.errors import JobFailed, Unavailable
from adnomaly.evaluation.metrics import Event
from adnomaly.evaluation.scenarios import surges_of
from adnomaly.generator_state import GeneratorFiles
from adnomaly.windows import time_text
from adnomaly.wiring import Backends
from stack.progress import Progress

PATIENCE: Final = timedelta(minutes=8)
"""Maximum wait for an alert, from the start of the attack or from now, whichever is later."""

_ALERTS = """
SELECT window_start, window_end, geo, platform, anomaly_score, threshold, model_version, explanation
FROM anomaly_results WHERE is_anomaly AND window_end > %s ORDER BY window_end
"""
_SCORED = "SELECT count(*), max(window_end) FROM anomaly_results WHERE window_end > %s"


class Alert(NamedTuple):
    """One anomalous window."""

    window_start: datetime
    window_end: datetime
    geo: str
    platform: str
    score: float
    threshold: float
    model_version: str
    explanation: dict[str, Any]

    @property
    def entity(self) -> str:
        return f"{self.geo}|{self.platform}"

    def belongs_to(self, attack: Attack) -> bool:
        """Whether the window is of the attacked entity and overlaps the attack."""
        same = (self.geo, self.platform) == (attack.geo, attack.platform)
        return same and self.window_start < attack.end and self.window_end > attack.start


def await_alert(backends: Backends, attack: Attack, progress: Progress) -> Alert:
    """The first alert about the attack.

    Raises:
        JobFailed: none came in time; the message has the progress of the streams.
    """
    until = max(datetime.now(UTC), attack.start) + PATIENCE
    while datetime.now(UTC) < until:
        try:
            for alert in _alerts(backends, attack.start):
                if alert.belongs_to(attack):
                    return alert
            progress.waiting(lambda: f"   {_stream_progress(backends, attack)}")
        except Unavailable as error:
            problem = str(error)
            progress.waiting(lambda: f"   {problem}; retrying")  # noqa: B023 - called at once
        time.sleep(1)
    raise JobFailed(
        f"no alert about {attack} within {PATIENCE}: {_stream_progress(backends, attack)}"
    )


def await_present(backends: Backends, progress: Progress) -> None:
    """Wait until scoring has caught up with the clock, at most two minutes."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        _, newest = _scored(backends, datetime.now(UTC) - timedelta(hours=1))
        if newest and datetime.now(UTC) - newest < timedelta(minutes=3):
            return
        scored = f"scored up to {time_text(newest)}" if newest else "no window scored yet"
        line = f"   {scored}, catching up with the clock"
        progress.waiting(lambda: line)  # noqa: B023 - called at once
        time.sleep(1)


def await_incident(backends: Backends, attack: Attack, progress: Progress) -> str:
    """Print the incident about the attack; returns the URL of its page.

    Raises:
        JobFailed: handle_alert has not opened one within two minutes.
    """
    until = time.monotonic() + 120
    while time.monotonic() < until:
        for i in backends.incidents.recent(attack.start):
            same = (i.geo, i.platform) == (attack.geo, attack.platform)
            if same and i.last_seen > attack.start and i.clicks:
                print(
                    f"incident: {i.who}, {i.windows} windows, {i.suspect_clicks:,.0f} of "
                    f"{i.clicks:,} clicks suspect, {i.money_at_risk:,.2f} at risk"
                )
                return backends.incident_page(i.incident_id)
        progress.waiting(lambda: "   waiting for handle_alert to open the incident")
        time.sleep(1)
    raise JobFailed(
        "no incident about the attack within two minutes of its alert: "
        "see the DAG handle_alert in Airflow"
    )


def print_verdict(
    backends: Backends, attack: Attack, alert: Alert, *, since: datetime, progress: Progress
) -> None:
    """Print the alert with its reason, and the false alerts since `since`."""
    span = f"{time_text(alert.window_start)}..{time_text(alert.window_end)}"
    print(f"alert: {alert.geo} {alert.platform} {span}")
    print(
        f"  score {alert.score:.3f} >= threshold {alert.threshold:.3f}, model {alert.model_version}"
    )
    print(f"  why: {alert.explanation['summary']}", flush=True)
    with progress.step("the rest of the traffic, up to now"):
        await_present(backends, progress)
    attacks = [attack, *read_ground_truth(GeneratorFiles(backends.home).truth)]
    scored, _ = _scored(backends, since)
    false = [a for a in _alerts(backends, since) if not any(a.belongs_to(t) for t in attacks)]
    share = len(false) / max(scored, 1)
    print(
        f"other alerts: {len(false)} of {scored:,} windows scored since {time_text(since)} "
        f"({share:.2%}; the promise is under 0.5 %)",
        flush=True,
    )
    if promotions := _promotions(backends, since):
        reported = sum(any(_overlaps(a, p) for a in false) for p in promotions)
        print(
            f"benign promotions in that time: {len(promotions)}, reported as attacks: {reported}",
            flush=True,
        )


def _promotions(backends: Backends, since: datetime) -> list[Event]:
    """Benign surges of the generated traffic since a moment."""
    return surges_of(backends.traffic, since, datetime.now(UTC))


def _overlaps(alert: Alert, event: Event) -> bool:
    same = alert.entity == event.entity
    start, end = (int(moment.timestamp()) for moment in (alert.window_start, alert.window_end))
    return same and event.start_s < end and start < event.end_s


def _stream_progress(backends: Backends, attack: Attack) -> str:
    """Progress of generator and scorer, to locate a stalled stage."""
    sent = GeneratorFiles(backends.home).read_progress().next
    scored, newest = _scored(backends, attack.start - timedelta(hours=2))
    at = f"up to {time_text(newest)}" if newest else "none"
    so_far = time_text(sent) if sent else "nothing"
    return (
        f"clicks sent up to {so_far}; {scored:,} windows scored, {at}; "
        f"the attack begins {time_text(attack.start)}"
    )


def _alerts(backends: Backends, since: datetime) -> list[Alert]:
    with backends.postgres.connection() as connection:
        return [Alert(*row) for row in connection.execute(_ALERTS, (since,))]


def _scored(backends: Backends, since: datetime) -> tuple[int, datetime | None]:
    with backends.postgres.connection() as connection:
        row = connection.execute(_SCORED, (since,)).fetchone()
    assert row is not None  # an aggregate has one row
    count, newest = row
    return count, newest
