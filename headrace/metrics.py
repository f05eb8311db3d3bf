"""The worker's metrics: what the engine reports, in Prometheus' text format.

Names begin with `headrace_`, units are base units, labels have few values: never an account or a payment.
"""

import platform

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of durations: from half a millisecond to a Kafka call's limit."""
RECORDS = (1, 3, 10, 30, 100, 300, 1_000, 2_000, 4_000, 6_000, 12_000)
"""Upper bounds of the records in a step."""


class Metrics:
    """Implements `topologies.engine.observer.Observer`; `render` gives the page. `group` is the consumer group."""

    def __init__(self, *, version: str = "0", group: str = "headrace.core") -> None:
        self.registry = CollectorRegistry()
        self._group = group
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._make_steps()
        self._make_payments()
        self._make_state()
        build = self._gauge("build_info", "What runs here; always 1", "version", "python")
        build.labels(version, platform.python_version()).set(1)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, namespace="headrace", registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, namespace="headrace", registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, text, labels, namespace="headrace", registry=self.registry, buckets=buckets)

    def _make_steps(self) -> None:
        self._step = self._histogram("step_duration_seconds", "Time in each phase of a step", SECONDS, "role", "phase")
        self._records = self._histogram("step_records", "Input records of a step", RECORDS, "role")
        self._transactions = self._counter("transactions_total", "Kafka transactions by outcome", "role", "outcome")
        self._agent = self._histogram("agent_duration_seconds", "Time of an agent for one batch", SECONDS, "agent")

    def _make_payments(self) -> None:
        self._payments = self._counter("payments_total", "Committed payment events", "status", "reason")
        self._letters = self._counter("dead_letters_total", "Committed dead letters", "agent", "code")
        self._alerts = self._counter("alerts_total", "What needs a person's eye; the log has the sentence", "code")

    def _make_state(self) -> None:
        self._rows = self._gauge("table_rows", "Rows of a table on this worker, about", "table")
        self._lag = self._gauge("lag_records", "Records that wait; 0 when all is done", "group", "topic", "partition")
        self._lag_seconds = self._gauge(
            "lag_seconds", "Age of the oldest record that waits, else 0", "group", "topic", "partition"
        )
        self._rebalances = self._counter("rebalances_total", "Assignments and revocations of partitions", "role")
        self._recovery = self._gauge("recovery_remaining_records", "Changelog records still to be read", "role")

    def step(self, role: str, phase: str, seconds: float) -> None:
        """A phase of a step is over."""
        self._step.labels(role, phase).observe(seconds)

    def records(self, role: str, count: int) -> None:
        """A step decided `count` records."""
        self._records.labels(role).observe(count)

    def transaction(self, role: str, outcome: str) -> None:
        """A transaction ended."""
        self._transactions.labels(role, outcome).inc()

    def payment(self, status: str, reason: str, count: int) -> None:
        """`count` payment events were committed."""
        self._payments.labels(status, reason).inc(count)

    def dead_letter(self, agent: str, code: str) -> None:
        """A dead letter was committed."""
        self._letters.labels(agent, code).inc()

    def alert(self, code: str) -> None:
        """Something needs a person's eye."""
        self._alerts.labels(code).inc()

    def agent_time(self, agent: str, seconds: float) -> None:
        """An agent decided a batch."""
        self._agent.labels(agent).observe(seconds)

    def table_rows(self, table: str, rows: int) -> None:
        """About how many rows a table holds."""
        self._rows.labels(table).set(rows)

    def lag(self, topic: str, partition: int, records: int, seconds: float) -> None:
        """Records that wait on an input partition, and the age of the oldest."""
        self._lag.labels(self._group, topic, partition).set(records)
        self._lag_seconds.labels(self._group, topic, partition).set(seconds)

    def forget_lag(self) -> None:
        """Partitions may have moved: the worker that has them now reports them."""
        self._lag.clear()
        self._lag_seconds.clear()

    def rebalance(self, role: str) -> None:
        """Partitions were assigned or taken away."""
        self._rebalances.labels(role).inc()

    def recovery(self, role: str, remaining: int) -> None:
        """Changelog records that a recovery still has to read."""
        self._recovery.labels(role).set(remaining)

    def render(self) -> bytes:
        """The page, in Prometheus' text format 0.0.4."""
        return generate_latest(self.registry)


_ENDS = {"counter": ("_total", "_created"), "histogram": ("_bucket", "_sum", "_count", "_created")}


def metric_names() -> frozenset[str]:
    """Every name that may stand on the page, as a query would have it."""
    families = Metrics().registry.collect()
    return frozenset(family.name + end for family in families for end in _ENDS.get(family.type, ("",)))
