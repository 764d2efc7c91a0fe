"""Prometheus metrics of `score_windows`."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class ScorerMetrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.scored = Counter(
            "adnomaly_scorer_windows", "Windows scored", ("status",), registry=registry
        )
        self.alerts = Counter("adnomaly_scorer_alerts", "Alerts sent", registry=registry)
        self.dead = Counter(
            "adnomaly_scorer_dead_letters",
            "Windows sent to the dead letter topic",
            registry=registry,
        )
        self.failures = Counter(
            "adnomaly_scorer_failures",
            "Failed calls, each retried",
            ("server",),
            registry=registry,
        )
        self.lag = Gauge(
            "adnomaly_scorer_lag",
            "Consumer lag in windows",
            ("partition",),
            registry=registry,
        )
        self.heartbeat = Gauge(
            "adnomaly_scorer_heartbeat_seconds",
            "Unix time of the last read",
            registry=registry,
        )
        self.newest = Gauge(
            "adnomaly_scorer_newest_window_seconds",
            "Unix time of the newest window_end scored",
            registry=registry,
        )

    def beat(self, lag: dict[int, int]) -> None:
        """Set the heartbeat and the consumer lag by partition."""
        self.heartbeat.set_to_current_time()
        self.lag.clear()
        for partition, count in lag.items():
            self.lag.labels(partition).set(count)
