"""Did the alert come, for what reason, and was it the only one? Read from `anomaly_results`, which has every scored window."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from adnomaly.attacks import Attack, read_truth
from adnomaly.errors import JobFailed, Unavailable
from adnomaly.evaluation.metrics import Event
from adnomaly.evaluation.scenarios import surges_of
from adnomaly.generator_state import GeneratorFiles
from adnomaly.windows import time_text
from adnomaly.wiring import Backends
from stack.progress import Progress

PATIENCE: Final = timedelta(minutes=8)
"""After the attack begins, or from now when it has begun already."""

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
        """Whether it is about the attacked entity while the attack lasts."""
        same = (self.geo, self.platform) == (attack.geo, attack.platform)
        return same and self.window_start < attack.end and self.window_end > attack.start


def await_alert(backends: Backends, attack: Attack, progress: Progress) -> Alert:
    """The first alert about the attack.

    Raises:
        JobFailed: none came in time; with how far the streams are.
    """
    until = max(datetime.now(UTC), attack.start) + PATIENCE
    while datetime.now(UTC) < until:
        try:
            if found := [
                alert for alert in _alerts(backends, attack.start) if alert.belongs_to(attack)
            ]:
                return found[0]
            progress.waiting(lambda: f"   {_how_far(backends, attack)}")
        except Unavailable as error:
            progress.waiting(lambda error=error: f"   {error}; still trying")
        time.sleep(1)
    raise JobFailed(f"no alert about {attack} within {PATIENCE}: {_how_far(backends, attack)}")


def await_present(backends: Backends, progress: Progress) -> None:
    """Wait until scoring has caught up with the clock, two minutes at most."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        _, newest = _scored(backends, datetime.now(UTC) - timedelta(hours=1))
        if newest and datetime.now(UTC) - newest < timedelta(minutes=3):
            return
        at = time_text(newest) if newest else "nothing yet"
        progress.waiting(lambda at=at: f"   scored up to {at}, catching up with the clock")
        time.sleep(1)


def await_incident(backends: Backends, attack: Attack, progress: Progress) -> str:
    """The incident about the attack, as the page Adnomaly shows it; returns its address.

    Raises:
        JobFailed: there is none in time: handle_alert does not run.
    """
    until = time.monotonic() + 120
    while time.monotonic() < until:
        about = [
            i
            for i in backends.incidents.recent(attack.start)
            if (i.geo, i.platform) == (attack.geo, attack.platform)
        ]
        if found := [i for i in about if i.last_seen > attack.start and i.clicks]:
            i = found[0]
            print(
                f"incident: {i.who}, {i.windows} windows, {i.suspect_clicks:,.0f} of {i.clicks:,} clicks suspect, {i.money_at_risk:,.2f} at risk"
            )
            return backends.incident_page(i.incident_id)
        progress.waiting(lambda: "   waiting for handle_alert to open the incident")
        time.sleep(1)
    raise JobFailed(
        "no incident about the attack within two minutes of its alert: look at the DAG handle_alert in Airflow"
    )


def print_verdict(
    backends: Backends, attack: Attack, alert: Alert, *, since: datetime, progress: Progress
) -> None:
    """The alert with its reason, and how many windows of entities that nobody attacked were called anomalous since then."""
    print(
        f"alert: {alert.geo} {alert.platform} {time_text(alert.window_start)}..{time_text(alert.window_end)}"
    )
    print(
        f"  score {alert.score:.3f} >= threshold {alert.threshold:.3f}, model {alert.model_version}"
    )
    print(f"  why: {alert.explanation['summary']}", flush=True)
    with progress.step("the rest of the traffic, up to now"):
        await_present(backends, progress)
    truth = [attack, *read_truth(GeneratorFiles(backends.home).truth)]
    scored, _ = _scored(backends, since)
    false = [a for a in _alerts(backends, since) if not any(a.belongs_to(t) for t in truth)]
    share = len(false) / max(scored, 1)
    print(
        f"other alerts: {len(false)} of {scored:,} windows scored since {time_text(since)} ({share:.2%}; the promise is under 0.5 %)",
        flush=True,
    )
    if promotions := _promotions(backends, since):
        hit = sum(any(_touches(a, p) for a in false) for p in promotions)
        print(
            f"benign promotions in that time: {len(promotions)}, reported as attacks: {hit}",
            flush=True,
        )


def _promotions(backends: Backends, since: datetime) -> list[Event]:
    """Benign surges of the generated traffic between a moment and now."""
    return surges_of(backends.traffic, since, datetime.now(UTC))


def _touches(alert: Alert, event: Event) -> bool:
    same = alert.entity == event.entity
    start, end = (int(moment.timestamp()) for moment in (alert.window_start, alert.window_end))
    return same and event.start_s < end and start < event.end_s


def _how_far(backends: Backends, attack: Attack) -> str:
    """Where each stage is, to see where it hangs."""
    sent = GeneratorFiles(backends.home).read_progress().next
    scored, newest = _scored(backends, attack.start - timedelta(hours=2))
    at = f"up to {time_text(newest)}" if newest else "none"
    so_far = time_text(sent) if sent else "nothing"
    return f"clicks sent up to {so_far}; {scored:,} windows scored, {at}; the attack begins {time_text(attack.start)}"


def _alerts(backends: Backends, since: datetime) -> list[Alert]:
    with backends.postgres.connection() as connection:
        return [Alert(*row) for row in connection.execute(_ALERTS, (since,))]


def _scored(backends: Backends, since: datetime) -> tuple[int, datetime | None]:
    with backends.postgres.connection() as connection:
        return connection.execute(_SCORED, (since,)).fetchone()
