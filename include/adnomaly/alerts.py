"""Alerts about scored windows and silences, for the topic `alerts` and `anomaly_results`."""

import hashlib
from datetime import UTC, datetime
from typing import Any

import msgspec

from adnomaly.windows import TrafficWindow, time_text

ANOMALY = "anomaly"


class WindowExplanation(msgspec.Struct, frozen=True):
    """Explanation of a score by feature.

    Attributes:
        summary: one sentence.
        z: deviation from the expected value, in robust standard deviations.
        share: share of the feature in the score.
        low, high: range of nearly all normal windows (3 robust deviations).
    """

    summary: str
    expected: dict[str, float]
    z: dict[str, float]
    share: dict[str, float]
    low: dict[str, float] = {}
    high: dict[str, float] = {}


class ScoredWindow(msgspec.Struct, frozen=True, kw_only=True):
    """One window with its score. Higher is more anomalous; anomalous means score >= threshold.

    Attributes:
        anomaly_score: None while the entity warms up, with too little data for a baseline.
        incident_id: incident of an anomalous window, named by entity and first window.
    """

    window: TrafficWindow
    anomaly_score: float | None
    threshold: float
    incident_id: str | None
    model_version: str
    explanation: WindowExplanation

    @property
    def is_anomaly(self) -> bool:
        return self.incident_id is not None

    @property
    def alert_id(self) -> str:
        """Equal for the same window and model, so a repeated alert is recognizable."""
        w = self.window
        return _id(self.model_version, w.geo, w.platform, time_text(w.window_end))

    def alert(self) -> dict[str, Any]:
        """The message of the topic `alerts`: the window, its score and the explanation."""
        w = self.window
        return {
            "kind": ANOMALY,
            "window_start": time_text(w.window_start),
            "window_end": time_text(w.window_end),
            "geo": w.geo,
            "platform": w.platform,
            **w.features,
            "anomaly_score": self.anomaly_score,
            "threshold": self.threshold,
            "incident_id": self.incident_id,
            "model_version": self.model_version,
            "alert_id": self.alert_id,
            "explanation": msgspec.to_builtins(self.explanation),
        }


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """Missing windows: `silence` of one entity, or `platform outage` without geo and platform."""

    kind: str
    incident_id: str
    geo: str | None
    platform: str | None
    since_s: int
    model_version: str

    @property
    def key(self) -> str:
        return f"{self.geo}|{self.platform}" if self.geo else "platform"

    def alert(self) -> dict[str, Any]:
        """The message of the topic `alerts`."""
        since = time_text(datetime.fromtimestamp(self.since_s, UTC))
        who = f"{self.geo} {self.platform}" if self.geo else "the platform: many entities at once"
        return {
            "kind": self.kind,
            "since": since,
            "geo": self.geo,
            "platform": self.platform,
            "incident_id": self.incident_id,
            "model_version": self.model_version,
            "alert_id": _id(self.model_version, self.incident_id),
            "explanation": {"summary": f"{who}: no clicks since {since}, or next to none"},
        }


def _id(*parts: str) -> str:
    return hashlib.sha256("|".join(parts).encode()).hexdigest()
