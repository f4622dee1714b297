"""The metrics that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from quoth.serve.worker import Worker

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The counters of one server.

    Attributes:
        requests: by model, kind and outcome.
        tokens: by model, and whether they were read or written.
        first_token_seconds: until an answer's first token.
        request_seconds: until its end.
    """

    def __init__(self, worker: Worker) -> None:
        self.registry, self.worker = CollectorRegistry(), worker
        self.requests = Counter("quoth_requests", "Requests.", ["model", "kind", "outcome"], registry=self.registry)
        self.tokens = Counter("quoth_tokens", "Tokens.", ["model", "kind"], registry=self.registry)
        self.first_token_seconds = Histogram(
            "quoth_time_to_first_token_seconds", "From a request to its first token.", ["model"],
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self.request_seconds = Histogram(
            "quoth_request_seconds", "From a request to its end.", ["model"], buckets=SECONDS, registry=self.registry
        )
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The gauges, read when they are asked for."""
        yield GaugeMetricFamily("quoth_running", "Requests that have a slot.", value=self.worker.running)
        yield GaugeMetricFamily("quoth_waiting", "Requests that wait for one.", value=self.worker.waiting)

    def text(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self.registry)
