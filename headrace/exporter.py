"""The exporter's page: the backlog of every role and the dead letters that wait, in Prometheus' text format.

It outlives the workers: it looks from outside, joins no group and commits nothing. Names begin with `headrace_`, units
are base units, money is minor units by currency. Where Kafka does not answer, the last figures stay, their status is
`unknown`, and `headrace_exporter_up` is 0.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from time import monotonic, time
from typing import NamedTuple

from confluent_kafka.admin import AdminClient
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from headrace.backlog import Backlog, Summary, Watch, by_topic, see, summed
from headrace.letterbox import Letterbox, Letters
from headrace.missing import MissingTopics
from headrace.pace import LagStatus
from topologies.engine.admin import ClusterUnreachable
from topologies.engine.config import ClusterConfig
from topologies.plan import Plan

LETTERS_S = 10.0
"""How long one look reads dead letters; the next one goes on."""
TURNS_WITHIN_S = 120.0
"""A look may wait for a Kafka that is away, but not for so long: then /livez says that the exporter is stuck."""
REQUEST_S = 10.0
"""How long a client may take for its request."""
ONCE_S = 60.0
"""The same where there is only one look."""
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PLACE = ("group", "topic", "partition")
_TOPIC = ("group", "topic")
GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "headrace_lag_records": ("Records that wait, at most; 0 is exact", _PLACE),
    "headrace_lag_seconds": ("Age of the first record that waits", _PLACE),
    "headrace_uncommitted_tail_records": ("Offsets of open transactions behind the stable end", _PLACE),
    "headrace_lag_money_minor": ("Minor units of the intents and credits that wait", (*_TOPIC, "currency")),
    "headrace_lag_money_exact": ("1 where headrace_lag_money_minor is all of it; 0: at least so much", _TOPIC),
    "headrace_drain_seconds": ("Until nothing waits; +Inf never at this rate, NaN not known", _TOPIC),
    "headrace_lag_status": ("1 for the worst status of the topic's partitions, 0 for the others", (*_TOPIC, "status")),
    "headrace_dead_letters": ("Dead letters that wait: not put back yet", ("agent",)),
    "headrace_dead_letter_oldest_seconds": ("Age of the oldest dead letter that waits; 0: none", ("agent",)),
    "headrace_exporter_up": ("1 where the last look succeeded", ()),
}
COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "headrace_exporter_looks_total": ("Looks at the cluster", ()),
    "headrace_exporter_failures_total": ("Looks that failed", ()),
}
ALIAS = "kafka_consumergroup_lag"
"""kafka_exporter's name for headrace_lag_records, where it is asked for."""
_ALIAS_LABELS = ("consumergroup", "topic", "partition")
_log = logging.getLogger(__name__)


def metric_names() -> frozenset[str]:
    """Every name that may stand on the page, as a query would have it."""
    return frozenset({*GAUGES, *COUNTERS, ALIAS})


class Seen(NamedTuple):
    """What the last look that succeeded saw, and how it goes."""

    backlogs: tuple[Backlog, ...] = ()
    letters: Mapping[str, Letters] | None = None
    """By agent; None before all were read."""
    currencies: frozenset[tuple[str, str, str]] = frozenset()
    """Group, topic and currency of all money that ever waited: it goes to 0, not away."""
    up: bool = False
    looks: int = 0
    failures: int = 0


class Exporter:
    """Looks, and keeps what it saw for the page. `look` is one thread's, `render` anybody's.

    Raises KafkaException where an option of Kafka's client is wrong: nothing would ever be seen.
    """

    def __init__(self, cluster: ClusterConfig, plans: Sequence[Plan], *, alias: bool = False) -> None:
        AdminClient(cluster.client(log_level=0))
        self._watch = Watch(cluster, plans)
        self._letterbox = Letterbox(cluster)
        self._page = _Page(alias=alias)
        self._registry = CollectorRegistry()
        self._registry.register(self._page)
        self.turned_at = monotonic()
        """When the last look ended, by the monotonic clock."""

    def close(self) -> None:
        """Ends the clients."""
        self._watch.close()

    def look(self) -> None:
        """One look; a Kafka that does not answer, or lacks topics, is logged once and told on the page."""
        seen = self._page.seen
        try:
            backlogs, letters = self._watch.look(), self._letterbox.look(LETTERS_S)
        except (ClusterUnreachable, MissingTopics) as error:
            if seen.up or not seen.looks:
                _log.warning("nothing can be seen: %s", error)
            self._page.failed()
        else:
            if not seen.up:
                _log.info("%d partitions of %d groups are seen", len(backlogs), len({one.group for one in backlogs}))
            self._page.saw(backlogs, letters)
        self.turned_at = monotonic()

    def look_once(self) -> None:
        """Enough looks to tell how it goes. Raises ClusterUnreachable, MissingTopics."""
        self._page.saw(see(self._watch), self._letterbox.look(ONCE_S))

    def render(self) -> bytes:
        """The page, in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)


class _Page(Collector):
    """What was seen, as metrics."""

    def __init__(self, *, alias: bool) -> None:
        self.seen = Seen()
        self._alias = alias

    def saw(self, backlogs: tuple[Backlog, ...], letters: Mapping[str, Letters] | None) -> None:
        """A look succeeded."""
        seen = self.seen
        paid = {(one.group, one.topic, currency) for one in backlogs for currency in one.money}
        self.seen = Seen(
            backlogs, letters, seen.currencies | paid, up=True, looks=seen.looks + 1, failures=seen.failures
        )

    def failed(self) -> None:
        """A look failed: what is known stays, and how it goes is not known any more."""
        seen = self.seen
        lost = tuple(one._replace(status=LagStatus.UNKNOWN, drain_seconds=None) for one in seen.backlogs)
        self.seen = seen._replace(backlogs=lost, up=False, looks=seen.looks + 1, failures=seen.failures + 1)

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """The families, from one look."""
        seen = self.seen
        values = {**_of_partitions(seen.backlogs), **_of_topics(seen), **_of_letters(seen.letters or {}, time())}
        values["headrace_exporter_up"] = {(): float(seen.up)}
        for name, (text, labels) in GAUGES.items():
            yield _gauge(name, text, labels, values[name])
        if self._alias:
            yield _gauge(ALIAS, GAUGES["headrace_lag_records"][0], _ALIAS_LABELS, values["headrace_lag_records"])
        for name, count in zip(COUNTERS, (seen.looks, seen.failures), strict=True):
            yield CounterMetricFamily(name.removesuffix("_total"), COUNTERS[name][0], value=count)


Samples = dict[tuple[str, ...], float]
"""Values by the labels' values."""


def _gauge(name: str, text: str, labels: tuple[str, ...], samples: Samples) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, number in samples.items():
        family.add_metric(values, number)
    return family


def _of_partitions(backlogs: Sequence[Backlog]) -> dict[str, Samples]:
    places = [(one.group, one.topic, str(one.partition)) for one in backlogs]
    return {
        "headrace_lag_records": {place: one.records for place, one in zip(places, backlogs, strict=True)},
        "headrace_lag_seconds": {place: one.seconds for place, one in zip(places, backlogs, strict=True)},
        "headrace_uncommitted_tail_records": {
            place: one.uncommitted_tail for place, one in zip(places, backlogs, strict=True)
        },
    }


def _of_topics(seen: Seen) -> dict[str, Samples]:
    topics = summed(seen.backlogs, by_topic)
    return {
        "headrace_lag_money_minor": {
            place: topics[place[:2]].money.get(place[2], 0) for place in sorted(seen.currencies) if place[:2] in topics
        },
        "headrace_lag_money_exact": {topic: float(one.exact) for topic, one in topics.items()},
        "headrace_drain_seconds": {topic: _drain(one) for topic, one in topics.items()},
        "headrace_lag_status": {
            (*topic, status): float(status is one.status) for topic, one in topics.items() for status in LagStatus
        },
    }


def _drain(one: Summary) -> float:
    if one.drain_seconds is not None:
        return one.drain_seconds
    return float("nan" if one.status is LagStatus.UNKNOWN else "inf")


def _of_letters(letters: Mapping[str, Letters], now: float) -> dict[str, Samples]:
    return {
        "headrace_dead_letters": {(agent,): one.waiting for agent, one in letters.items()},
        "headrace_dead_letter_oldest_seconds": {
            (agent,): 0.0 if one.oldest is None else max(now - one.oldest, 0.0) for agent, one in letters.items()
        },
    }


class PortTaken(Exception):
    """Somebody listens at the port already, or it can't be had. Exit 2."""


class Server:
    """Serves /metrics and /livez while a thread looks every `every_s` seconds."""

    def __init__(self, exporter: Exporter, address: tuple[str, int], every_s: float) -> None:
        self._exporter, self._every_s = exporter, every_s
        self._stopping, self._asked = Event(), False
        try:
            self._http = ThreadingHTTPServer(address, _handler(exporter))
        except OSError as error:
            host, port = address
            raise PortTaken(
                f"the exporter can't listen at {host} port {port}: {error.strerror}; give it another --host or --port "
                "(0: a free one)"
            ) from error
        self._threads = [Thread(target=self._http.serve_forever, daemon=True), Thread(target=self._turn, daemon=True)]

    @property
    def url(self) -> str:
        """Where the metrics are."""
        host, port = self._http.server_address[:2]
        shown = host.decode() if isinstance(host, bytes) else str(host)
        return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/metrics"

    def run(self) -> bool:
        """Serves until `stop`, and gives true; false where looking failed in a way that nobody has foreseen.

        A look that is under way at the end is left to itself.
        """
        for thread in self._threads:
            thread.start()
        while not self._stopping.wait(1.0):
            pass  # a wait without an end would let no signal through
        self._http.shutdown()
        self._http.server_close()
        return self._asked

    def stop(self) -> None:
        """Ends `run`, from a signal's handler or another thread."""
        self._asked = True
        self._stopping.set()

    def _turn(self) -> None:
        try:
            while not self._stopping.is_set():
                began = monotonic()
                self._exporter.look()
                self._stopping.wait(max(self._every_s - (monotonic() - began), 0.0))
        finally:
            self._stopping.set()


def _handler(exporter: Exporter) -> type[BaseHTTPRequestHandler]:
    def livez() -> tuple[int, str, bytes]:
        idle_s = monotonic() - exporter.turned_at
        told = {"ok": idle_s < TURNS_WITHIN_S, "detail": f"last look ended {idle_s:.1f} s ago"}
        return 200 if told["ok"] else 503, "application/json", json.dumps(told).encode()

    pages: dict[str, Callable[[], tuple[int, str, bytes]]] = {
        "/metrics": lambda: (200, METRICS_TYPE, exporter.render()),
        "/livez": livez,
    }

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_S
        server_version, sys_version = "headrace", ""

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            status, kind, body = page() if page else (404, "text/plain", b"/metrics and /livez are here\n")
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A scrape is no news."""

    return Handler
