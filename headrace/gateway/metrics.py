"""The gateway's metrics, in Prometheus' text format. Labels have few values: never an account or a payment."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0)
"""Upper bounds of a call's duration."""


class GatewayMetrics:
    """What the gateway counts; `render` gives the page."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._attempts = self._counter("webhook_attempts", "Calls of endpoints by what became of them", "outcome")
        self._seconds = Histogram(
            "webhook_call_seconds", "Duration of a call of an endpoint", ("endpoint",), "headrace",
            registry=self.registry, buckets=SECONDS,
        )  # fmt: skip
        self._pending = self._gauge("webhook_pending", "Deliveries that are here and not answered", "endpoint")
        self._parked = self._counter("webhook_parked", "Deliveries that were given up", "reason")
        self._unreadable = Counter(
            "webhook_unreadable", "Records of deliveries that can't be read", (), "headrace", registry=self.registry
        )
        self._streams = self._gauge("streams_open", "Open status streams", "kind")
        self._closed = Counter(
            "streams_closed", "Status streams that ended", ("reason",), "headrace", registry=self.registry
        )

    def _counter(self, name: str, text: str, label: str) -> Counter:
        return Counter(name, text, ("endpoint", label), "headrace", registry=self.registry)

    def _gauge(self, name: str, text: str, label: str) -> Gauge:
        return Gauge(name, text, (label,), "headrace", registry=self.registry)

    def attempt(self, endpoint: str, outcome: str, seconds: float) -> None:
        """A call was made, or could not be."""
        self._attempts.labels(endpoint, outcome).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def pending(self, endpoint: str, count: int) -> None:
        """So many deliveries of an endpoint are here."""
        self._pending.labels(endpoint).set(count)

    def parked(self, endpoint: str, reason: str) -> None:
        """A delivery was given up."""
        self._parked.labels(endpoint, reason).inc()

    def unreadable(self) -> None:
        """A record of a delivery can't be read."""
        self._unreadable.inc()

    def opened(self, kind: str) -> None:
        """A stream was opened: `sse` or `websocket`."""
        self._streams.labels(kind).inc()

    def closed(self, kind: str, reason: str) -> None:
        """A stream ended."""
        self._streams.labels(kind).dec()
        self._closed.labels(reason).inc()

    def render(self) -> bytes:
        """The page, in Prometheus' text format 0.0.4."""
        return generate_latest(self.registry)


def metric_names() -> set[str]:
    """Every metric of the gateway's own, as it stands on the page."""
    metrics = GatewayMetrics()
    metrics.attempt("", "", 0.0)
    metrics.pending("", 0)
    metrics.parked("", "")
    metrics.unreadable()
    metrics.opened("")
    metrics.closed("", "")
    samples = (sample.name for metric in metrics.registry.collect() for sample in metric.samples)
    return {name for name in samples if name.startswith("headrace_") and not name.endswith("_created")}
