"""Prometheus metrics of the scoring API; PROMETHEUS_MULTIPROC_DIR sums them over all replicas."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.values import MutexValue, ValueClass

LATENCIES = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class ApiMetrics:
    """Metrics of one API. Labels are route templates and known methods: their number is bounded."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "adnomaly_http_requests",
            "Requests answered",
            ("method", "route", "status"),
            registry=registry,
        )
        self.seconds = Histogram(
            "adnomaly_http_request_seconds",
            "Time from the first byte of the body to the answer",
            ("route",),
            buckets=LATENCIES,
            registry=registry,
        )
        self.rows = Counter("adnomaly_scored_rows", "Rows scored", ("baseline",), registry=registry)
        self.anomalies = Counter(
            "adnomaly_anomalous_rows", "Rows scored at or above the threshold", registry=registry
        )
        self.reloads = Counter(
            "adnomaly_model_reloads", "Bundles offered to this API", ("result",), registry=registry
        )
        self.refused = Gauge(
            "adnomaly_model_reload_refused",
            "1 while the last offered bundle was refused",
            registry=registry,
            multiprocess_mode="mostrecent",
        )

    def reloaded(self, taken: bool) -> None:
        """Count a bundle that was offered: taken or refused."""
        self.reloads.labels("taken" if taken else "refused").inc()
        self.refused.set(0 if taken else 1)

    def exposition(self) -> bytes:
        """The text format, over all processes that share a metrics folder, dead ones included."""
        if ValueClass is MutexValue:
            return generate_latest(self._registry)
        shared = CollectorRegistry()
        MultiProcessCollector(shared)  # type: ignore[no-untyped-call]  # it is untyped
        return generate_latest(shared)
