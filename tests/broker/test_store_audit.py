"""Invariants 6, 8 and 9 on a real Kafka, with real workers and their stores, while they run and after they died."""

import random
import signal
import threading

import pytest
from cluster import Cluster
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from rocksdict import Options, Rdict

from replay import standing
from replay.audit import audit
from replay.logged import read_changelog
from replay.reader import HeadDeleted, Reader
from schemas.keys import partition_of
from topologies import topics
from topologies.engine.changelog import pack
from topologies.engine.inspect import store_folders
from topologies.engine.store import META, row_key

pytestmark = pytest.mark.broker

CHANGELOG = topics.changelog("core").name
CUSTOMERS = [f"customer-{number}" for number in range(20)]
REPLAY, ROWS, STORES = "8 replay gives the same bytes", "6 account rows equal postings", "6 stores equal changelogs"
AHEAD, OFFSETS, STILL = "9 no store ahead of Kafka", "9 offsets equal journal", "9 no lag, no open transaction"


@pytest.fixture
def cluster(kafka, tmp_path):
    made = Cluster(kafka, tmp_path)
    yield made
    made.close()


def judged(cluster, *, quiet=False, replay=True):
    """The audit with everything that can be asked."""
    return audit(cluster.config, quiet=quiet, replay=replay, home=cluster.home / "state-of-workers")


def failed(report):
    return {check.name: check.detail for check in report.checks if not check.ok}


def begin(cluster):
    """Accounts with money, and a first poison record."""
    cluster.open("bank", flags=("DEBIT_NORMAL",))
    cluster.open(*CUSTOMERS)
    for customer in CUSTOMERS:
        cluster.pay("bank", customer, 100_000)
    cluster.send(topics.INTENTS, "customer-1", b"these are no payment's bytes")


def publish(cluster, stop, chance):
    """Some hundred payments a second, and repeats, until told to stop."""
    while not stop.is_set():
        for _ in range(30):
            intent = cluster.pay(*chance.sample(CUSTOMERS, 2), chance.randint(1, 500))
            if chance.random() < 0.1:
                cluster.send(topics.INTENTS, intent.debtor, intent)
        cluster.sender.flush()
        stop.wait(0.1)


def stop_worker(worker):
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(25) == 0


def test_stores_and_bytes_are_right_while_workers_run_die_and_take_over(cluster):
    """Judged again and again under load: beside live stores, a dead worker's store, one that was left behind."""
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    workers = {name: cluster.worker(name) for name in "ab"}
    begin(cluster)
    stop = threading.Event()
    thread = threading.Thread(target=publish, args=(cluster, stop, random.Random(seed)))
    thread.start()
    try:
        cluster.wait(lambda: "ready: partitions [2, 3]" in "".join(map(cluster.log_of, "ab")), 60, "shared partitions")
        assert failed(judged(cluster)) == {}
        workers["a"].kill()
        workers["a"].wait()
        assert failed(judged(cluster)) == {}
        ready = "ready: partitions [0, 1, 2, 3]"
        cluster.wait(lambda: ready in cluster.log_of("b"), 60, "taken over partitions")
        assert failed(judged(cluster)) == {}
    finally:
        stop.set()
        thread.join()
    cluster.settle()
    report = judged(cluster, quiet=True)
    assert failed(report) == {}
    examined = {check.name: check.examined for check in report.checks}
    assert examined[AHEAD] >= 4
    assert examined[REPLAY] > 1_000
    stop_worker(workers["b"])


@pytest.fixture
def at_rest(cluster):
    """A cluster whose only worker has stopped, with its stores."""
    worker = cluster.worker()
    begin(cluster)
    cluster.settle()
    stop_worker(worker)
    assert failed(judged(cluster, quiet=True)) == {}
    return cluster


def commit(cluster, group, place):
    """Commits in the group's name, as soon as the stopped worker's membership has run out."""

    def done():
        try:
            return group.commit(offsets=[place], asynchronous=False)
        except KafkaException:
            return None

    cluster.wait(done, 30, "commit")


def test_what_is_wrong_on_kafka_is_found(at_rest, monkeypatch):
    """A changelog's row and record, a committed step number, an open transaction: one thing at a time, each is named."""
    group = Consumer(at_rest.config.client(**{"group.id": f"{at_rest.prefix}headrace.core"}))
    place = TopicPartition(at_rest.prefix + topics.INTENTS.name, 1)
    [right] = group.committed([place], timeout=10)
    wrong = TopicPartition(place.topic, 1, right.offset, str(int(right.metadata) + 1))
    commit(at_rest, group, wrong)
    assert "different steps" in failed(judged(at_rest, quiet=True, replay=False))[OFFSETS]
    commit(at_rest, group, right)
    group.close()

    monkeypatch.setattr(standing, "HANGS_S", 1.0)
    producer = Producer(at_rest.config.client(**{"transactional.id": "a-stranger"}))
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(at_rest.prefix + topics.EVENTS.name, b"open", partition=2)
    producer.flush(30)
    found = failed(judged(at_rest, quiet=True, replay=False))
    assert f"{topics.EVENTS.name} partition 2: a transaction is open" in found[STILL]
    producer.abort_transaction(30)

    assert failed(judged(at_rest, quiet=True)) == {}
    home = partition_of("bank", 4)
    with Reader(at_rest.config) as reader:
        history = read_changelog(reader, CHANGELOG, {home: None})[home]
    [packed] = pack(history.step, 0, [(row_key("accounts", "bank"), b'[2,[["EUR",0,1,0,0,1]]]')])
    at_rest.sender.send(CHANGELOG, None, packed, partition=home)
    at_rest.sender.flush()
    found = failed(judged(at_rest))
    assert f"partition {home}, table accounts, account bank" in found[ROWS]
    assert f"partition {home}, table accounts, key 'bank': the steps leave the row" in found[REPLAY]
    at_rest.sender.send(CHANGELOG, None, packed[:-1], partition=home)
    at_rest.sender.flush()
    found = failed(judged(at_rest))
    assert all("a changelog record has" in found[check] for check in (ROWS, REPLAY, STORES))


def test_a_changelog_that_lost_its_head_is_found(at_rest):
    """Rows are gone that no checkpoint has written again: who loses a store now loses them."""
    place = (CHANGELOG, partition_of("bank", 4))
    with Reader(at_rest.config) as reader:
        admin = AdminClient(at_rest.config.client())
        for future in admin.delete_records([TopicPartition(at_rest.prefix + CHANGELOG, place[1], 2)]).values():
            future.result()
        with pytest.raises(HeadDeleted):
            list(reader.read(CHANGELOG, reader.ends([CHANGELOG]), {place: 0}))
    found = failed(judged(at_rest, quiet=True))
    assert set(found) == {ROWS, REPLAY, STORES}
    assert all(
        "starts at 2, and only from 0 on it has all rows: its head was deleted" in told for told in found.values()
    )


def test_what_is_wrong_in_a_store_is_found(at_rest):
    """A changed row and a step that Kafka does not have, in the worker's own files."""
    folder, partition = store_folders(at_rest.home / "state-of-workers", at_rest.prefix, "core")[1]
    store = Rdict(str(folder), options=Options(raw_mode=True))
    meta = store.get(META)
    key = next(key for key in store.keys() if key.startswith(b"accounts\x00"))  # noqa: SIM118  # an Rdict
    row = store.get(key)
    store.put(key, b"[]")
    store.close()
    assert f"partition {partition}, table accounts" in failed(judged(at_rest, replay=False))[STORES]
    step = b'"step":%d' % _step(meta)
    store = Rdict(str(folder), options=Options(raw_mode=True))
    store.put(key, row)
    store.put(META, meta.replace(step, b'"step":%d' % (_step(meta) + 1)))
    store.close()
    found = failed(judged(at_rest, replay=False))
    assert set(found) == {AHEAD, STORES}
    assert "the broker lost committed data" in found[AHEAD]
    assert "; its changelog is at step " in found[STORES]


def _step(meta):
    return int(meta.partition(b'"step":')[2].partition(b",")[0])
