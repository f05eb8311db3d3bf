"""The audit on a real Kafka: the same world, written to topics, some of it in transactions."""

from uuid import uuid4

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from worlds import EVENTS, POSTINGS, TOPICS, World, a_world

from headrace.broker import BrokerState
from replay import reader
from replay.audit import audit
from replay.reader import Reader, TopicMissing, Unreachable
from schemas import codec
from topologies.engine.config import ClusterConfig

pytestmark = pytest.mark.broker


@pytest.fixture
def cluster(kafka: BrokerState) -> ClusterConfig:
    """A fresh prefix on the broker, with all topics that a world has."""
    found = ClusterConfig(kafka.bootstrap, prefix=f"audit-{uuid4().hex[:8]}.")
    topics = [NewTopic(found.prefix + topic, num_partitions=4, replication_factor=1) for topic in TOPICS]
    admin = AdminClient(found.client())
    for future in admin.create_topics(topics).values():
        future.result(30)
    return found


def producer_of(cluster: ClusterConfig) -> Producer:
    """A transactional producer of its own."""
    producer = Producer(cluster.client(**{"transactional.id": uuid4().hex, "transaction.timeout.ms": 30_000}))
    producer.init_transactions(30)
    return producer


def write(cluster: ClusterConfig, world: World, producer: Producer) -> None:
    """The whole world, in one transaction."""
    producer.begin_transaction()
    for (topic, partition), log in world.log.items():
        for kept in log:
            assert kept is not None
            value = kept.value if isinstance(kept.value, bytes) else codec.encode(kept.value)
            producer.produce(cluster.prefix + topic, value, b"key", partition=partition, headers=kept.headers or [])
    producer.commit_transaction(30)


def test_a_right_world_on_kafka_passes(cluster: ClusterConfig):
    """What holds for lists holds for topics: transaction markers and headers included."""
    write(cluster, a_world(), producer_of(cluster))
    report = audit(cluster, quiet=True)
    assert report.ok, [check for check in report.checks if not check.ok]
    assert report.intents == 10
    assert report.dead_letters == {"truncated": 1}


def test_aborted_records_are_not_judged(cluster: ClusterConfig):
    """What was rolled back never happened, even where it ends a topic."""
    producer = producer_of(cluster)
    write(cluster, a_world(), producer)
    producer.begin_transaction()
    for partition in range(4):
        producer.produce(cluster.prefix + POSTINGS, b"\0nonsense", partition=partition)
    producer.flush(30)
    producer.abort_transaction(30)
    assert audit(cluster).ok


def test_a_torn_world_on_kafka_fails_and_names_the_record(cluster: ClusterConfig):
    """A lost event is found and its intent named."""
    world = a_world()
    partition, offset, _ = world.find(EVENTS, reason="AM04")
    del world.log[EVENTS, partition][offset]
    write(cluster, world, producer_of(cluster))
    failed = {check.name: check.detail for check in audit(cluster).checks if not check.ok}
    assert "pay-2" in failed["2 one fate per intent"]


def test_a_transaction_that_hangs_open_ends_the_read_with_its_place(
    cluster: ClusterConfig, monkeypatch: pytest.MonkeyPatch
):
    """A reader waits for open transactions, but not for ever: it names topic, partition and offset."""
    producer = producer_of(cluster)
    producer.begin_transaction()
    producer.produce(cluster.prefix + EVENTS, b"open", partition=2)
    producer.flush(30)
    monkeypatch.setattr(reader, "STALL_S", 1.5)
    with Reader(cluster) as found, pytest.raises(Unreachable, match=r"payments\.events partition 2"):
        list(found.read(EVENTS, found.ends([EVENTS])))
    producer.abort_transaction(30)


def test_a_cluster_without_topics_names_the_way_out(kafka: BrokerState):
    """Missing topics are named, with the command that creates them."""
    with pytest.raises(TopicMissing, match="headrace topics create"):
        audit(ClusterConfig(kafka.bootstrap, prefix="nothing-here."))


def test_reading_begins_where_it_is_told_and_ends_at_the_end(cluster: ClusterConfig):
    """Exactly the records between start and end come, with their places, times, keys and headers."""
    producer = Producer(cluster.client())
    for number in range(100):
        producer.produce(cluster.prefix + EVENTS, b"%d" % number, b"k", partition=1, headers=[("h", b"v")])
    assert producer.flush(30) == 0
    with Reader(cluster) as found:
        ends = {place: end for place, end in found.ends([EVENTS]).items() if place[1] == 1}
        producer.produce(cluster.prefix + EVENTS, b"late", b"k", partition=1)
        assert producer.flush(30) == 0
        raws = list(found.read(EVENTS, ends, {(EVENTS, 1): 40}))
    assert [raw.offset for raw in raws] == list(range(40, 100))
    assert [raw.value for raw in raws] == [b"%d" % number for number in range(40, 100)]
    first = raws[0]
    assert (first.topic, first.partition, first.key, first.headers) == (EVENTS, 1, b"k", [("h", b"v")])
    assert first.timestamp > 1_600_000_000_000_000
