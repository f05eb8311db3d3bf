"""The promises on a real Kafka: whatever dies, no payment is lost, none is made twice, no cent is made."""

import json
import random
import shutil
import signal
import threading
import time
import urllib.request

import pytest
from cluster import Cluster

from headrace import broker
from schemas.keys import partition_of
from topologies import topics
from topologies.engine.config import ClusterConfig
from topologies.engine.sender import Sender

pytestmark = pytest.mark.broker

CUSTOMERS = [f"customer-{number}" for number in range(40)]


@pytest.fixture
def cluster(kafka, tmp_path):
    made = Cluster(kafka, tmp_path)
    yield made
    made.close()


@pytest.fixture
def seed():
    chosen = random.randrange(1_000_000)
    print(f"seed {chosen}")
    return chosen


def open_and_fund(cluster, each=100_000):
    """Opens a bank and the customers, and gives every customer money; done when all is settled."""
    cluster.open("bank", flags=("DEBIT_NORMAL",))
    cluster.open(*CUSTOMERS)
    for customer in CUSTOMERS:
        cluster.pay("bank", customer, each)


def publish_steadily(cluster, stop, chance):
    """A stream of payments, some of them repeated, until told to stop."""
    while not stop.is_set():
        for _ in range(50):
            debtor, creditor = chance.sample(CUSTOMERS, 2)
            intent = cluster.pay(debtor, creditor, chance.randint(1, 500))
            if chance.random() < 0.1:
                cluster.send(topics.INTENTS, debtor, intent)
        cluster.sender.flush()
        stop.wait(0.05)


class Publishing:
    """Publishes in a thread of its own while the block runs."""

    def __init__(self, cluster, seed):
        self._stop = threading.Event()
        self._thread = threading.Thread(target=publish_steadily, args=(cluster, self._stop, random.Random(seed)))

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def ready(cluster, instance="a"):
    """Waits until the worker has recovered its partitions."""

    def is_ready():
        try:
            return json.loads(get(f"{cluster.url_of(instance)}/readyz"))["ok"]
        except OSError:
            return False

    return cluster.wait(is_ready, 60, f"ready worker {instance}")


def test_every_intent_gets_its_answer(cluster):
    """Paid, repeated, in conflict, to nobody, with too little money, unreadable: each has one fate."""
    worker = cluster.worker()
    open_and_fund(cluster)
    cluster.settle()
    paid = cluster.pay("customer-1", "customer-2", 500)
    cluster.send(topics.INTENTS, "customer-1", paid)
    cluster.send(topics.INTENTS, "customer-1", paid._replace(amount_minor=501))
    cluster.pay("customer-1", "nobody", 100)
    cluster.pay("customer-1", "customer-2", 100_000_000)
    cluster.send(topics.INTENTS, "customer-1", b"these are no payment's bytes")
    report = cluster.settle()
    counted = report.to_json()
    statuses = counted["events_by_status"]
    assert statuses["COMPLETED"] == len(CUSTOMERS) + 1, counted
    assert statuses["REVERSED"] == 1
    assert statuses["DECLINED"] == 2
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(25) == 0


def test_workers_killed_at_random_lose_and_double_nothing(cluster, seed):
    """Ten SIGKILLs under load; the audit holds all along and at the end."""
    chance = random.Random(seed)
    workers = {name: cluster.worker(name) for name in "ab"}
    open_and_fund(cluster)
    with Publishing(cluster, seed):
        for _ in range(10):
            name = chance.choice("ab")
            ready(cluster, name)
            time.sleep(chance.uniform(0.0, 1.5))  # the moment of the kill is what the seed chooses
            workers[name].kill()
            workers[name].wait()
            workers[name] = cluster.worker(name)
    report = cluster.settle(120)
    assert report.ok


def test_partitions_move_under_load(cluster, seed):
    """A second worker joins, the first one leaves, and the payments go on."""
    first = cluster.worker("a")
    open_and_fund(cluster)
    with Publishing(cluster, seed):
        ready(cluster, "a")
        cluster.worker("b")
        cluster.wait(lambda: "ready: partitions [2, 3]" in cluster.log_of("b"), 60, "shared partitions")
        first.send_signal(signal.SIGTERM)
        assert first.wait(25) == 0
        cluster.wait(lambda: "ready: partitions [0, 1, 2, 3]" in cluster.log_of("b"), 60, "taken over partitions")
    assert cluster.settle(120).ok


def test_partitions_move_under_load_with_the_new_group_protocol(cluster, seed):
    """KIP-848: a second worker joins, is killed, and comes back into its slot once the broker has missed it."""
    protocol = {"HEADRACE_GROUP_PROTOCOL": "consumer"}
    cluster.worker("a", **protocol)
    open_and_fund(cluster)
    with Publishing(cluster, seed):
        ready(cluster, "a")
        second = cluster.worker("b", **protocol)
        cluster.wait(lambda: "ready: partitions [" in cluster.log_of("b"), 60, "partitions of the second worker")
        second.kill()
        second.wait()
        cluster.worker("b", **protocol)
        cluster.wait(lambda: cluster.log_of("b").count("ready: partitions [") > 1, 90, "partitions after a kill")
    assert cluster.settle(120).ok


def test_a_lost_store_is_rebuilt_from_the_changelog(cluster, seed):
    """The books live in Kafka: without its folder a worker knows every balance all the same."""
    worker = cluster.worker()
    open_and_fund(cluster, 1_000)
    cluster.settle()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(25) == 0
    for folder in (cluster.home / "state-of-workers" / "state").iterdir():
        shutil.rmtree(folder)
    cluster.worker()
    cluster.pay("customer-1", "customer-2", 1_000)
    cluster.pay("customer-1", "customer-2", 1)
    report = cluster.settle()
    assert report.to_json()["events_by_status"] == {"COMPLETED": len(CUSTOMERS) + 1, "DECLINED": 1}


def test_a_broker_restart_is_survived(tmp_path, seed):
    """Kafka goes away and comes back under the workers' feet; they go on by themselves.

    No commit is under way when it goes: docs/reliability.md says what a single Kafka node does to one that is.
    """
    home = tmp_path / "broker-home"
    state = broker.up(home, port=0, say=print)
    cluster = Cluster(state, tmp_path)
    try:
        cluster.worker()
        open_and_fund(cluster)
        cluster.settle()
        broker.down(home, say=print)
        broker.up(home, port=state.port, say=print)
        cluster.pay("customer-2", "customer-3", 7)
        assert cluster.settle(120).ok
    finally:
        cluster.close()
        broker.down(home, say=print)


def test_a_record_as_large_as_a_broker_takes_stops_nobody(cluster):
    """Its dead letter is larger still, and has its place."""
    cluster.worker()
    open_and_fund(cluster)
    cluster.settle()
    large = Sender(ClusterConfig(cluster.bootstrap, cluster.prefix, {"message.max.bytes": "1048000"}))
    large.send(topics.INTENTS.name, b"customer-1", b"x" * 1_000_050, partition=partition_of("customer-1", 4))
    large.flush()
    large.close()
    cluster.pay("customer-1", "customer-2", 5)
    report = cluster.settle().to_json()
    assert report["events_by_status"] == {"COMPLETED": len(CUSTOMERS) + 1}
    assert sum(report["dead_letters"].values()) == 1


def test_poison_is_put_aside_and_good_payments_go_on(cluster, seed):
    """Random bytes on every input topic: each is a dead letter, none stops a worker."""
    chance = random.Random(seed)
    cluster.worker()
    open_and_fund(cluster)
    for number in range(200):
        topic = chance.choice([topics.INTENTS, topics.COMMANDS, topics.ALIASES])
        cluster.send(topic, f"poison-{number}", chance.randbytes(chance.randint(0, 60)))
        if number % 10 == 0:
            cluster.pay("customer-1", "customer-2", 1)
    report = cluster.settle()
    assert sum(report.to_json()["dead_letters"].values()) == 200


def test_a_worker_tells_how_it_is(cluster):
    """/livez, /readyz and /metrics on Faust's own web server; lag is a true zero when all is done."""
    cluster.worker()
    open_and_fund(cluster)
    cluster.settle()
    ready(cluster)
    url = cluster.url_of()
    assert json.loads(get(f"{url}/livez"))["ok"]

    def lags():
        lines = [line for line in get(f"{url}/metrics").splitlines() if line.startswith("headrace_lag_records{")]
        return lines if lines and all(float(line.rsplit(" ", 1)[1]) == 0 for line in lines) else None

    assert len(cluster.wait(lags, 30, "zero lag")) == 5 * 4
    text = get(f"{url}/metrics")
    accounts = next(line for line in text.splitlines() if 'table="accounts"' in line)
    internal = 4 + 4  # at most: in transit, per partition
    assert len(CUSTOMERS) + 1 < float(accounts.rsplit(" ", 1)[1]) <= len(CUSTOMERS) + 1 + internal
    for name in ("headrace_payments_total", "headrace_transactions_total", "headrace_step_duration_seconds_bucket"):
        assert name in text


def test_a_second_worker_in_a_running_slot_is_refused(cluster):
    """Two workers never share an identity on one host."""
    cluster.worker("a")
    cluster.url_of("a")
    second = cluster.worker("a")
    assert second.wait(30) != 0
    assert "a runs already" in cluster.log_of("a")
