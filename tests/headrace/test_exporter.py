"""The exporter's page: what was seen is what is shown, and it stays when nothing can be seen any more."""

import json
import math
import socket
import urllib.error
import urllib.request
from threading import Thread

import pytest
from confluent_kafka import KafkaException
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from headrace import metrics
from headrace.backlog import Backlog
from headrace.cli import app
from headrace.exporter import COUNTERS, GAUGES, Exporter, PortTaken, Server, metric_names
from headrace.letterbox import Letters, _letters, _Shelf
from headrace.pace import LagStatus
from topologies.engine.config import ClusterConfig
from topologies.payments import PLANS

NOBODY = ClusterConfig("127.0.0.1:1")
TOPIC = {"group": "headrace.core", "topic": "payments.intents"}


def a_backlog(**fields):
    quiet = Backlog("headrace.core", "payments.intents", 0, 50, 50, 0, 0.0, 0, {}, True, 0.0, LagStatus.OK, "")
    return quiet._replace(**fields)


WAITING = a_backlog(
    partition=1,
    records=7,
    seconds=2.5,
    uncommitted_tail=3,
    money={"EUR": 1_234},
    status=LagStatus.STOPPED,
    drain_seconds=None,
)


def an_exporter(*backlogs, letters=None, alias=False):
    """One that has seen these."""
    made = Exporter(NOBODY, tuple(PLANS.values()), alias=alias)
    if backlogs:
        made._page.saw(backlogs, letters)
    return made


def samples(exporter):
    """Value by name and labels."""
    families = text_string_to_metric_families(exporter.render().decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def value(exporter, name, **labels):
    return samples(exporter)[name, tuple(sorted(labels.items()))]


def test_a_partition_has_its_records_seconds_and_open_transactions():
    """Under group, topic and partition."""
    exporter = an_exporter(a_backlog(), WAITING)
    assert value(exporter, "headrace_lag_records", **TOPIC, partition="1") == 7
    assert value(exporter, "headrace_lag_records", **TOPIC, partition="0") == 0
    assert value(exporter, "headrace_lag_seconds", **TOPIC, partition="1") == 2.5
    assert value(exporter, "headrace_uncommitted_tail_records", **TOPIC, partition="1") == 3


def test_a_topic_has_its_money_by_currency_and_whether_that_is_all():
    """Minor units, summed over partitions, never over currencies."""
    exporter = an_exporter(WAITING, a_backlog(money={"EUR": 6, "JPY": 5}, exact=False))
    assert value(exporter, "headrace_lag_money_minor", **TOPIC, currency="EUR") == 1_240
    assert value(exporter, "headrace_lag_money_minor", **TOPIC, currency="JPY") == 5
    assert value(exporter, "headrace_lag_money_exact", **TOPIC) == 0
    assert value(an_exporter(WAITING), "headrace_lag_money_exact", **TOPIC) == 1


def test_money_that_is_gone_is_zero():
    """A series that ends would leave its last value on the board."""
    exporter = an_exporter(WAITING)
    exporter._page.saw((a_backlog(),), None)
    assert value(exporter, "headrace_lag_money_minor", **TOPIC, currency="EUR") == 0


def test_the_present_status_is_1_and_the_others_are_0():
    """The worst of the topic's partitions."""
    exporter = an_exporter(a_backlog(), WAITING)
    for status in LagStatus:
        wanted = float(status is LagStatus.STOPPED)
        assert value(exporter, "headrace_lag_status", **TOPIC, status=status.value) == wanted


@pytest.mark.parametrize(
    ("status", "drain", "shown"),
    [
        (LagStatus.OK, 0.0, 0.0),
        (LagStatus.CATCHING_UP, 12.5, 12.5),
        (LagStatus.FALLING_BEHIND, None, math.inf),
        (LagStatus.STOPPED, None, math.inf),
    ],
)
def test_a_drain_that_never_ends_is_infinite(status, drain, shown):
    """So that `> 600` is true of it."""
    exporter = an_exporter(a_backlog(status=status, drain_seconds=drain))
    assert value(exporter, "headrace_drain_seconds", **TOPIC) == shown


def test_a_drain_that_is_not_known_is_no_number():
    """So that no comparison is true of it."""
    exporter = an_exporter(a_backlog(status=LagStatus.UNKNOWN, drain_seconds=None))
    assert math.isnan(value(exporter, "headrace_drain_seconds", **TOPIC))


def test_dead_letters_are_counted_by_agent_and_age_between_looks():
    """An agent without any has zeros."""
    letters = {"admission": Letters(3, 1_000.0), "ledger": Letters(0, None)}
    exporter = an_exporter(a_backlog(), letters=letters)
    assert value(exporter, "headrace_dead_letters", agent="admission") == 3
    assert value(exporter, "headrace_dead_letters", agent="ledger") == 0
    assert value(exporter, "headrace_dead_letter_oldest_seconds", agent="admission") > 10**9
    assert value(exporter, "headrace_dead_letter_oldest_seconds", agent="ledger") == 0


def test_a_letter_that_was_put_back_waits_no_more():
    """The oldest is the first that is left, over all partitions; receipts may come before their letters."""
    one, other = _Shelf(), _Shelf()
    one.gone.add(0)
    for offset, millis in ((0, 1_000), (2, 3_000), (5, 4_000)):
        one.add(offset, millis)
    other.add(0, 3_500)
    assert _letters([one, other]) == Letters(3, 3.0)
    one.gone.add(2)
    assert _letters([one, other]) == Letters(2, 3.5)
    one.gone.add(5)
    other.gone.add(0)
    assert _letters([one, other]) == Letters(0, None)


def test_where_kafka_is_away_the_last_figures_stay_and_say_so(monkeypatch):
    """Up is 0, how it goes is unknown, the records are those of the last look that succeeded."""
    monkeypatch.setattr("topologies.engine.admin.CALL_S", 0.3)
    exporter = an_exporter(WAITING)
    assert value(exporter, "headrace_exporter_up") == 1
    exporter.look()
    assert value(exporter, "headrace_exporter_up") == 0
    assert value(exporter, "headrace_exporter_looks_total") == 2
    assert value(exporter, "headrace_exporter_failures_total") == 1
    assert value(exporter, "headrace_lag_records", **TOPIC, partition="1") == 7
    assert value(exporter, "headrace_lag_status", **TOPIC, status="unknown") == 1
    assert math.isnan(value(exporter, "headrace_drain_seconds", **TOPIC))
    exporter._page.saw((WAITING,), None)
    assert value(exporter, "headrace_exporter_up") == 1


def test_before_the_first_look_the_page_is_there():
    """Nothing is known, and up is 0."""
    exporter = an_exporter()
    assert value(exporter, "headrace_exporter_up") == 0
    assert not any(name == "headrace_lag_records" for name, _ in samples(exporter))


def test_the_names_that_are_declared_are_those_on_the_page():
    """Boards and alerts are checked against what is declared."""
    exporter = an_exporter(WAITING, letters={"ledger": Letters(1, 1.0)}, alias=True)
    assert {name for name, _ in samples(exporter)} == metric_names()
    for name, labels in samples(exporter):
        declared = {**GAUGES, **COUNTERS}.get(name)
        assert declared is None or {label for label, _ in labels} == set(declared[1]), name


def test_kafka_exporters_name_is_there_where_it_is_asked_for():
    """The same records under the labels that its boards know."""
    place = {"consumergroup": "headrace.core", "topic": "payments.intents", "partition": "1"}
    assert value(an_exporter(WAITING, alias=True), "kafka_consumergroup_lag", **place) == 7
    assert not any(name.startswith("kafka_") for name, _ in samples(an_exporter(WAITING)))


def test_the_workers_share_two_names_with_the_exporter_and_no_more():
    """A worker tells its own lag where no exporter runs; ops/prometheus/prometheus.yml drops it, to count once."""
    assert metrics.metric_names() & metric_names() == {"headrace_lag_records", "headrace_lag_seconds"}


@pytest.fixture
def server(monkeypatch):
    """Serves on a free port, and looks at a Kafka that is away."""
    monkeypatch.setattr("topologies.engine.admin.CALL_S", 0.1)
    made = Server(an_exporter(WAITING), ("127.0.0.1", 0), 3_600.0)
    thread = Thread(target=made.run)
    thread.start()
    yield made
    made.stop()
    thread.join()


def get(server, path):
    with urllib.request.urlopen(server.url.removesuffix("/metrics") + path, timeout=10) as answer:
        return answer.headers, answer.read().decode()


def test_the_page_is_served(server):
    """In Prometheus' text format."""
    headers, body = get(server, "/metrics")
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert 'headrace_lag_records{group="headrace.core",partition="1",topic="payments.intents"} 7.0' in body


def test_the_exporter_lives_while_it_turns(server):
    """Kafka's absence is none of its faults; a look that never ends is."""
    assert json.loads(get(server, "/livez")[1])["ok"]
    server._exporter.turned_at -= 10_000
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(server, "/livez")
    assert refused.value.code == 503
    refused.value.close()


def test_another_path_is_not_found(server):
    """With the paths that there are."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(server, "/")
    assert refused.value.code == 404
    assert b"/metrics" in refused.value.read()
    refused.value.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_exporter_that_can_not_look_any_more_ends(monkeypatch):
    """A page that stays as it was would lie; whoever started it starts it again."""
    made = an_exporter(WAITING)
    monkeypatch.setattr(made, "look", lambda: 1 / 0)
    assert not Server(made, ("127.0.0.1", 0), 3_600.0).run()


def test_a_wrong_option_of_kafkas_client_is_told_at_the_start():
    """Not once in each look."""
    with pytest.raises(KafkaException, match=r"security\.protocol"):
        Exporter(ClusterConfig("127.0.0.1:1", kafka={"security.protocol": "TLS"}), ())


def test_a_port_that_is_taken_is_named_with_the_way_out():
    """Never another one in silence."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"port {port}: .*--port"):
            Server(an_exporter(), ("127.0.0.1", port), 5.0)


def test_a_single_page_from_a_kafka_that_is_away_is_exit_3(monkeypatch):
    """Nothing was seen, so nothing is printed."""
    monkeypatch.setattr("topologies.engine.admin.CALL_S", 0.3)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    result = CliRunner().invoke(app, ["exporter", "--once"])
    assert result.stdout == ""
    assert type(result.exception).__name__ == "ClusterUnreachable"
