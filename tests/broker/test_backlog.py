"""The backlog on a real Kafka: records, seconds, money and status, as workers come and go."""

import json
import math
import os
import signal
import subprocess
import sys
import urllib.request
from uuid import uuid4

import pytest
from builders import an_intent
from cluster import ROOT, Cluster
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from headrace import broker
from headrace.backlog import Bounds, Watch, by_group, summed
from headrace.letterbox import Letterbox
from headrace.pace import LagStatus
from schemas import codec
from topologies import topics
from topologies.payments import CORE

pytestmark = pytest.mark.broker


def environment(cluster):
    return {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap,
        "HEADRACE_TOPIC_PREFIX": cluster.prefix,
        "HEADRACE_HOME": str(cluster.home / "state-of-workers"),
    }


def headrace(cluster, *words):
    """A command as the operator starts it: exit code, and the JSON that it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "headrace", *words, "--json"],
        cwd=ROOT, env=environment(cluster), capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def cluster(kafka, tmp_path):
    """A bank and a customer, and 40 payments of 1.00 EUR that wait; no worker yet."""
    made = Cluster(kafka, tmp_path)
    made.open("bank", flags=("DEBIT_NORMAL",))
    made.open("alice")
    pay(made, 40)
    yield made
    made.close()


def pay(cluster, count):
    for _ in range(count):
        cluster.pay("bank", "alice", 100)
    cluster.sender.flush()


def of(found, topic):
    """The partitions of a topic where something waits."""
    return [one for one in found if one.topic.endswith(topic) and one.records]


def total(found):
    return summed(found, by_group)[found[0].group]


def test_what_waits_is_told_in_money_until_a_worker_has_done_it(cluster):
    """Never run: stopped, with the sum; done: zeros; stopped again: what came since, and nothing that was done."""
    cluster.send(topics.INTENTS, "bank", b"no intent")
    cluster.send(topics.INTENTS, "bank", codec.encode(an_intent(debtor="bank", amount_minor=0)))
    cluster.sender.flush()
    code, lines = headrace(cluster, "lag", "--role", "core")
    assert (code, lines[-1]["status"], lines[-1]["cause"]) == (0, "stopped", "no worker has ever run")
    assert (lines[-1]["money"], lines[-1]["exact"], lines[-1]["records"]) == ({"EUR": 4_000}, True, 44)
    assert not lines[-1]["ever"]
    worker = cluster.worker()
    with Watch(cluster.config, (CORE,)) as watch:
        done = cluster.wait(lambda: quiet(watch.look()), 60, "zero lag")
        assert (done.money, done.drain_seconds, done.ever) == ({}, 0.0, True)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        pay(cluster, 3)
        found = cluster.wait(lambda: with_status(watch.look(), LagStatus.STOPPED), 60, "a stopped group")
        assert [(one.money, one.records) for one in of(found, "payments.intents")] == [({"EUR": 300}, 3)]
        assert total(found).cause == "no worker"


def quiet(found):
    one = total(found)
    return one if one.status is LagStatus.OK and not one.records and not one.uncommitted_tail else None


def with_status(found, status):
    return found if total(found).status is status else None


def test_a_worker_that_is_slow_but_gains_is_catching_up(cluster):
    """With a time to drain, at the rate at which it goes; a worker that is held still is stalled, by its name."""
    pay(cluster, 2_000)
    worker = cluster.worker(HEADRACE_LIMIT__STEP_RECORDS="50", HEADRACE_LIMIT__FLOOR_MS="400")
    with Watch(cluster.config, (CORE,)) as watch:
        (one,) = cluster.wait(lambda: going(watch.look()), 60, "progress")
        assert one.money["EUR"] == 100 * (one.end - one.committed)
        assert one.one_minute.gained > 0
        assert one.drain_seconds == pytest.approx(one.records / one.one_minute.gained)
        worker.send_signal(signal.SIGSTOP)
        found = cluster.wait(lambda: with_status(watch.look(), LagStatus.STALLED), 60, "a standstill")
        assert f"{cluster.prefix}headrace-core-a has it" in total(found).cause
        worker.send_signal(signal.SIGCONT)
        cluster.wait(lambda: going(watch.look()), 60, "progress")


def going(found):
    """The intents' partition is catching up."""
    return [one for one in of(found, "payments.intents") if one.status is LagStatus.CATCHING_UP]


def test_a_transaction_that_stays_open_blocks_its_partition(cluster):
    """Its age is that of its first record; when it ends, so does the block."""
    producer = Producer(cluster.config.client(**{"transactional.id": f"{cluster.prefix}test-{uuid4()}"}))
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce(cluster.prefix + topics.CREDITS.name, b"x", b"alice", partition=2)
    producer.flush()
    with Watch(cluster.config, (CORE,), Bounds(transaction_s=1.0)) as watch:
        found = cluster.wait(lambda: with_status(watch.look(), LagStatus.BLOCKED), 30, "a block")
        (one,) = [one for one in found if one.status is LagStatus.BLOCKED]
        assert (one.topic, one.partition, one.uncommitted_tail) == (f"{cluster.prefix}ledger.credits", 2, 1)
        assert 1.0 < one.tail_seconds < 60.0
        producer.abort_transaction()
        cluster.wait(lambda: with_status(watch.look(), LagStatus.STOPPED), 30, "the block's end")


def test_money_beyond_the_cap_is_at_least_so_much(cluster):
    """What is kept is bounded; when the group has come nearer, the rest is read."""
    with Watch(cluster.config, (CORE,), Bounds(money_records=10)) as watch:
        (one,) = of(watch.look(), "payments.intents")
        assert (one.exact, one.records) == (False, 40)
        assert 1_000 <= one.money["EUR"] < 4_000
        assert not total(watch.look()).exact
        cluster.worker()
        cluster.wait(lambda: quiet(watch.look()), 60, "zero lag")
    with Watch(cluster.config, (CORE,), Bounds(money_records=100)) as watch:
        pay(cluster, 1)
        assert total(watch.look()).exact


def test_letters_wait_until_they_are_put_back(cluster):
    """A letter that was put back and came back is one that waits, not two."""
    cluster.worker()
    cluster.send(topics.INTENTS, "bank", b"no intent")
    cluster.sender.flush()
    box = Letterbox(cluster.config)
    first = cluster.wait(lambda: letter(box, 1), 60, "a letter")
    code, lines = headrace(cluster, "dlq", "redrive", "--yes")
    assert (code, lines[-1]["redriven"]) == (0, 1)
    second = cluster.wait(lambda: letter(box, 1, after=first.oldest), 60, "its return")
    assert second.oldest > first.oldest
    assert letter(Letterbox(cluster.config), 1) == second


def letter(box, count, after=0.0):
    """Admission's letters, once `count` wait of which the oldest is younger than `after`."""
    found = (box.look(30.0) or {}).get("admission")
    return found if found and found.waiting == count and found.oldest > after else None


class Running:
    """`headrace exporter` in a process of its own."""

    def __init__(self, cluster):
        self._log = cluster.home / "exporter.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "headrace", "exporter", "--port", "0", "--every", "1"],
                cwd=ROOT, env=environment(cluster), stdout=log, stderr=log,
            )  # fmt: skip
        self._url = cluster.wait(self._said, 30, "the exporter's address")

    def _said(self):
        words = self._log.read_text().split()
        return next((word for word in words if word.startswith("http://")), None)

    def read(self, name, **labels):
        """A value on the page; None where it is not there."""
        with urllib.request.urlopen(self._url, timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        samples = [sample for family in families for sample in family.samples]
        return next((one.value for one in samples if one.name == name and labels.items() <= one.labels.items()), None)


def test_the_exporter_outlives_the_workers_and_the_broker(tmp_path):
    """Series stay when the worker dies; without Kafka it stays, says so, and goes on when Kafka is back."""
    state = broker.up(tmp_path / "kafka", port=0, say=sys.stderr.write)
    cluster = Cluster(state, tmp_path)
    exporter = Running(cluster)
    try:
        group, intents = f"{cluster.prefix}headrace.core", f"{cluster.prefix}payments.intents"

        def told(name, **labels):
            return exporter.read(name, group=group, topic=intents, **labels)

        cluster.open("bank", flags=("DEBIT_NORMAL",))
        cluster.open("alice")
        worker = cluster.worker()
        pay(cluster, 5)
        cluster.wait(lambda: committed(cluster), 60, "a commit")
        cluster.wait(lambda: told("headrace_lag_status", status="ok"), 60, "an ok")
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        pay(cluster, 7)
        cluster.wait(lambda: told("headrace_lag_money_minor", currency="EUR") == 700, 60, "money that waits")
        cluster.wait(lambda: told("headrace_lag_status", status="stopped"), 60, "a stopped group")
        assert told("headrace_drain_seconds") == math.inf
        broker.down(tmp_path / "kafka", say=sys.stderr.write)
        cluster.wait(lambda: exporter.read("headrace_exporter_up") == 0.0, 60, "its word that Kafka is away")
        assert told("headrace_lag_money_minor", currency="EUR") == 700
        assert told("headrace_lag_status", status="unknown") == 1.0
        broker.up(tmp_path / "kafka", port=state.port, say=sys.stderr.write)
        cluster.wait(lambda: exporter.read("headrace_exporter_up"), 90, "its word that Kafka is back")
        assert told("headrace_lag_money_minor", currency="EUR") == 700
        exporter.process.send_signal(signal.SIGTERM)
        assert exporter.process.wait(30) == 0
    finally:
        exporter.process.kill()
        exporter.process.wait()
        cluster.close()
        broker.down(tmp_path / "kafka", say=sys.stderr.write)


def committed(cluster):
    with Watch(cluster.config, (CORE,)) as watch:
        return quiet(watch.look())
