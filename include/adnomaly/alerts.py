"""The alert: what the topic `alerts` and the table `anomaly_results` say about one scored window."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from adnomaly.windows import TrafficWindow, time_text

LISTED_FEATURES: Final = 4
"""How many features the summary names, the most unusual first."""


class Explanation(msgspec.Struct, frozen=True):
    """Why a window has its score: what was expected, how far off each feature is, and that as one sentence."""

    summary: str
    expected: dict[str, float]
    z: dict[str, float]


class ScoredWindow(msgspec.Struct, frozen=True, kw_only=True):
    """One window with its score. Higher is more anomalous; anomalous means anomaly_score >= threshold.

    Attributes:
        baseline: `entity`, or `global` when the model does not know the entity or is warming up.
    """

    window: TrafficWindow
    anomaly_score: float
    threshold: float
    is_anomaly: bool
    baseline: str
    model_version: str
    explanation: Explanation

    @property
    def alert_id(self) -> str:
        """The same window scored by the same model is the same alert, however often it is sent."""
        w = self.window
        return hashlib.sha256("|".join((self.model_version, w.geo, w.platform, time_text(w.window_end))).encode()).hexdigest()

    def alert(self) -> dict[str, Any]:
        """The message of the topic `alerts`: the window's fields, then score, threshold, model, id and explanation."""
        w = self.window
        return {
            "window_start": time_text(w.window_start),
            "window_end": time_text(w.window_end),
            "geo": w.geo,
            "platform": w.platform,
            **w.features,
            "anomaly_score": self.anomaly_score,
            "threshold": self.threshold,
            "model_version": self.model_version,
            "alert_id": self.alert_id,
            "explanation": msgspec.to_builtins(self.explanation),
        }


def explain(window: TrafficWindow, expected: Mapping[str, float], z: Mapping[str, float], *, baseline: str) -> Explanation:
    """Expected value and z of each feature, and a sentence such as
    `DE ios: event_count 412 instead of 180 (z +9.1), ctr_avg 0.0221 instead of 0.0223 (z -0.4)`.
    """
    names = sorted(z, key=lambda name: -abs(z[name]))[:LISTED_FEATURES]
    parts = [f"{name} {_short(window.features[name])} instead of {_short(expected[name])} (z {z[name]:+.1f})" for name in names]
    against = "" if baseline == "entity" else ", against all entities: this one has no baseline yet"
    return Explanation(f"{window.geo} {window.platform}: {', '.join(parts)}{against}", dict(expected), dict(z))


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
