"""Numbers about a service that Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The numbers of one service, in a registry of their own.

    Args:
        waiting: tells how many requests wait.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, waiting: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        Gauge("goca_waiting", "Requests that wait for the model.", registry=self.registry).set_function(waiting)
        self.batch = Histogram("goca_batch_size", "Requests a batch.", registry=self.registry, buckets=BATCHES)
        self._seconds = Histogram(
            "goca_seconds", "Seconds from arrival to answer.", ["path"], registry=self.registry, buckets=SECONDS
        )
        self._answered = Counter(
            "goca_answered", "Answers by path and status.", ["path", "status"], registry=self.registry
        )
        self._refused = Counter("goca_refused", "Requests refused, by status.", ["status"], registry=self.registry)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count an answer.

        Args:
            path: of the route, not of the request, whose paths have no end.
        """
        self._answered.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)
        if status >= 400:
            self._refused.labels(str(status)).inc()

    def text(self) -> bytes:
        """All numbers in Prometheus' text format."""
        return generate_latest(self.registry)
