"""The scoring API as a client sees it: windows in, scores with their reasons out."""

from collections.abc import Sequence
from typing import Any, Final

import httpx

from adnomaly.alerts import ScoredWindow, explain
from adnomaly.errors import AdnomalyError, Unavailable
from adnomaly.windows import TrafficWindow, time_text

MAX_ROWS: Final = 1000
TIMEOUT_SECONDS: Final = 10.0


class Busy(Unavailable):
    """The service sheds load, or has no model yet."""

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class WindowRefused(AdnomalyError):
    """One window of the batch breaks a rule of the contract; the others may be scored without it."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(reason)
        self.position = position


class ScoringApi:
    """Scores windows over HTTP, on one kept connection. Asking again is harmless."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS)

    def score(self, windows: Sequence[TrafficWindow]) -> list[ScoredWindow]:
        """Score, expected values and z of each window, all by one model. At most 1000 windows.

        Raises:
            WindowRefused: the service names one window as invalid.
            Unavailable: no usable answer now; Busy when the service says when to come again.
        """
        rows = [{**w.features, "geo": w.geo, "platform": w.platform, "timestamp": time_text(w.window_end)} for w in windows]
        try:
            answer = self._http.post("/v1/batch?explain=1", json={"rows": rows})
        except httpx.TransportError as error:
            raise Unavailable(f"scoring does not answer: {error or type(error).__name__}") from None
        if answer.status_code != httpx.codes.OK:
            raise _problem(answer)
        version, results = answer.headers["x-model-version"], answer.json()["results"]
        return [_scored(window, result, version) for window, result in zip(windows, results, strict=True)]

    def close(self) -> None:
        self._http.close()


def _scored(window: TrafficWindow, result: dict[str, Any], version: str) -> ScoredWindow:
    baseline, reasons = result["meta"]["baseline"], result["explanation"]
    return ScoredWindow(
        window=window,
        anomaly_score=result["anomaly_score"],
        threshold=result["threshold"],
        is_anomaly=result["is_anomaly"],
        baseline=baseline,
        model_version=version,
        explanation=explain(window, reasons["expected"], reasons["z"], baseline=baseline),
    )


def _problem(answer: httpx.Response) -> AdnomalyError:
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    said = problem.get("detail", answer.text[:200])
    field = problem.get("field", "")
    if answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY and field.startswith("rows["):
        return WindowRefused(int(field[len("rows[") : field.index("]")]), said)
    message = f"scoring answers {answer.status_code}: {said}"
    wait = answer.headers.get("retry-after", "")
    return Busy(message, float(wait)) if wait.isdigit() else Unavailable(message)
