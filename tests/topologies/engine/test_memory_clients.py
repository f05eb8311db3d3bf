"""The simulated clients answer as confluent_kafka's do, in good days and in bad ones."""

import pytest
from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import OffsetSpec

from topologies.engine.memory.admin import MemoryClients
from topologies.engine.memory.broker import Broker
from topologies.engine.memory.host import PlainHost, Trouble
from topologies.engine.memory.log import Record
from topologies.engine.memory.timeline import Timeline


class World:
    def __init__(self):
        self.timeline = Timeline()
        self.marker_s = 0.0
        self.broker = Broker(self.timeline, {"in": 1, "out": 2}, lambda: self.marker_s)
        self.host = PlainHost(self.timeline)
        self.clients = MemoryClients(self.broker, self.host)
        self.errors = []

    def producer(self):
        producer = self.clients.producer(
            {"transactional.id": "id", "transaction.timeout.ms": 5_000, "error_cb": self.errors.append}
        )
        producer.init_transactions(1.0)
        return producer

    def member(self, instance="one"):
        consumer = self.clients.consumer({"group.id": "g", "group.instance.id": instance, "session.timeout.ms": 5_000})
        held = []
        consumer.subscribe(
            ["in"],
            on_assign=lambda _c, tps: held.extend(tps),
            on_revoke=lambda _c, _tps: held.clear(),
            on_lost=lambda _c, _tps: held.append("lost"),
        )
        consumer.poll(0.0)
        return consumer, held

    def member_848(self):
        options = {"group.id": "h", "group.instance.id": "one", "group.protocol": "consumer"}
        consumer = self.clients.consumer(options)

        def given(consumer, tps):
            consumer.incremental_assign([TopicPartition(tp.topic, tp.partition, 0) for tp in tps])
            consumer.pause(tps)

        consumer.subscribe(["in"], on_assign=given, on_revoke=lambda c, tps: c.incremental_unassign(tps))
        return consumer

    def begin(self, producer, value=b"v", **more):
        producer.begin_transaction()
        producer.produce("out", value, b"k", partition=0, **more)

    def reader(self, *, committed=True, eof=True):
        options = {
            "group.id": "readers",
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            "enable.partition.eof": eof,
        }
        consumer = self.clients.consumer(options)
        consumer.assign([TopicPartition("out", 0, 0)])
        return consumer

    def read(self, consumer):
        found = []
        for _ in range(5):
            found += consumer.consume(100, 0.0)
        return [m.value() if m.error() is None else f"end at {m.offset()}" for m in found]

    def send(self, producer, consumer, offset, step="1"):
        producer.send_offsets_to_transaction(
            [TopicPartition("in", 0, offset, step)], consumer.consumer_group_metadata(), 1.0
        )

    def committed(self):
        (found,) = self.clients.consumer({"group.id": "g"}).committed([TopicPartition("in", 0)], 1.0)
        return found.offset, found.metadata


@pytest.fixture
def world():
    return World()


def error(call, *args):
    with pytest.raises(KafkaException) as raised:
        call(*args)
    return raised.value.args[0]


def test_a_transaction_is_seen_whole_with_its_offsets(world):
    """Records and offsets together, after the commit."""
    consumer, held = world.member()
    producer = world.producer()
    told = []
    world.begin(producer, on_delivery=lambda _e, m: told.append(m.offset()))
    world.send(producer, consumer, 3)
    assert [(tp.topic, tp.partition) for tp in held] == [("in", 0)]
    assert world.read(world.reader()) == ["end at 0"]
    producer.commit_transaction(1.0)
    world.timeline.advance(0.1)
    assert world.read(world.reader()) == [b"v", "end at 2"]
    assert (world.committed(), told) == ((3, "1"), [0])


def test_readers_of_everything_see_what_is_open(world):
    """A record of an open transaction is there, and does not move the stable end."""
    world.begin(producer := world.producer())
    world.host.rng.random = lambda: 0.0  # everything that is queued is on its way
    world.send(producer, world.member()[0], 1)
    assert world.read(world.reader(committed=False)) == [b"v", "end at 1"]
    ends = {
        level: next(
            iter(
                world.clients.admin({})
                .list_offsets({TopicPartition("out", 0): OffsetSpec.latest()}, isolation_level=level)
                .values()
            )
        )
        .result()
        .offset
        for level in IsolationLevel
    }
    assert ends == {IsolationLevel.READ_COMMITTED: 0, IsolationLevel.READ_UNCOMMITTED: 1}


def test_the_end_is_told_again_when_it_has_moved(world):
    """With its offset; a reader's position steps over the marker."""
    reader = world.reader()
    assert world.read(reader) == ["end at 0"]
    world.begin(producer := world.producer())
    producer.commit_transaction(1.0)
    world.timeline.advance(0.1)
    assert world.read(reader) == [b"v", "end at 2"]
    assert reader.position([TopicPartition("out", 0)])[0].offset == 2


def test_committed_offsets_wait_for_an_open_transaction(world):
    """Its end may change them: unstable until the marker is there."""
    world.marker_s = 0.5
    consumer, _ = world.member()
    producer = world.producer()
    world.begin(producer)
    world.send(producer, consumer, 7)
    producer.commit_transaction(1.0)
    before = world.timeline.now
    assert world.committed()[0] == 7
    assert world.timeline.now - before >= 0.4


@pytest.mark.parametrize("effect", ["none", "done", "late"])
def test_a_commit_that_timed_out_is_resumed(world, effect):
    """Whatever became of the first request, the second call commits, once."""
    world.begin(producer := world.producer())
    world.host.troubles["commit"] = [Trouble("retriable", effect, 0.05)]
    assert error(producer.commit_transaction, 1.0).retriable()
    producer.commit_transaction(1.0)
    world.timeline.advance(1.0)
    assert world.read(world.reader())[0] == b"v"
    assert world.broker.coordinator.committed == 1


def test_a_late_commit_ends_the_next_transaction_of_its_epoch(world):
    """Why the engine asks for a new epoch after any trouble."""
    producer = world.producer()
    world.begin(producer, b"1")
    world.host.troubles["commit"] = [Trouble("transport", delay=0.5)]
    producer.commit_transaction(1.0)
    world.begin(producer, b"2")
    world.host.rng.random = lambda: 0.0
    world.send(producer, world.member()[0], 1)
    world.timeline.advance(1.0)
    assert world.read(world.reader())[:2] == [b"1", b"2"], "committed, though nobody asked for it"
    producer.poll(0)
    assert [e.code() for e in world.errors] == [KafkaError._TRANSPORT]


def test_a_held_commit_lands_in_the_middle_of_the_next_transaction(world):
    """Which is torn in two, and nobody hears of it; with a new epoch the straggler would be refused."""
    producer = world.producer()
    world.begin(producer, b"1")
    world.host.troubles["commit"] = [Trouble("retriable", "held", 1)]
    assert error(producer.commit_transaction, 1.0).retriable()
    producer.commit_transaction(1.0)
    world.begin(producer, b"2")
    producer.produce("out", b"3", b"k", partition=1)
    producer.commit_transaction(1.0)
    assert world.broker.coordinator.committed == 3


@pytest.mark.parametrize(("effect", "there"), [("none", False), ("done", True), ("late", True)])
def test_an_abortable_commit_error_says_nothing_about_the_outcome(world, effect, there):
    """The broker may have committed all the same."""
    world.begin(producer := world.producer())
    world.host.troubles["commit"] = [Trouble("abortable", effect, 0.01)]
    assert error(producer.commit_transaction, 1.0).txn_requires_abort()
    world.timeline.advance(1.0)
    assert (b"v" in world.read(world.reader())) is there


def test_a_new_producer_ends_the_old_ones_transaction(world):
    """And the old one is fenced, for good."""
    world.begin(old := world.producer())
    world.host.rng.random = lambda: 0.0
    world.send(old, world.member()[0], 1)
    world.producer()
    assert error(old.commit_transaction, 1.0).code() == KafkaError._FENCED
    assert error(old.abort_transaction, 1.0).fatal()
    assert world.read(world.reader()) == ["end at 2"]


def test_an_undelivered_record_fails_the_transaction(world):
    """The commit says: abort; then the producer has a new epoch and goes on."""
    world.begin(producer := world.producer())
    world.host.troubles["deliver"] = [Trouble("undelivered")]
    assert error(producer.commit_transaction, 1.0).txn_requires_abort()
    epoch = producer._epoch
    producer.abort_transaction(1.0)
    assert producer._epoch > epoch
    world.begin(producer)
    producer.commit_transaction(1.0)


def test_a_full_queue_takes_less(world):
    """`produce` raises, `produce_batch` counts."""
    producer = world.producer()
    producer.begin_transaction()
    world.host.troubles.update(produce=[Trouble("full")], produce_batch=[Trouble("short")])
    with pytest.raises(BufferError):
        producer.produce("out", b"v", b"k", partition=0)
    batch = [{"key": b"k", "value": b"1"}, {"key": b"k", "value": b"2"}]
    assert producer.produce_batch("out", batch, partition=0) == 1
    assert "_error" in batch[1]


def test_a_member_that_was_silent_too_long_hears_that_all_is_lost(world):
    """And its transaction's offsets are refused before that."""
    consumer, held = world.member()
    world.host.beating = False
    world.timeline.advance(6.0)
    world.host.beating = True
    producer = world.producer()
    world.begin(producer)
    assert error(world.send, producer, consumer, 1).txn_requires_abort()
    consumer.poll(0.0)
    assert held[-1] == "lost"


def test_a_member_whose_slot_was_taken_can_not_go_on(world):
    """The classic protocol fences the old one."""
    consumer, _ = world.member()
    world.member()
    world.timeline.advance(5.0)
    message = consumer.poll(0.0)
    assert message.error().fatal()
    assert message.error().code() == KafkaError.FENCED_INSTANCE_ID


def test_an_offset_behind_the_end_is_an_error(world):
    """`auto.offset.reset=error`."""
    reader = world.reader()
    reader.assign([TopicPartition("out", 0, 9)])
    assert reader.poll(0.0).error().code() == KafkaError._AUTO_OFFSET_RESET


def test_a_seek_may_bring_records_from_before(world):
    """Stale ones, below the offset that was asked for."""
    for value in (b"0", b"1", b"2"):
        world.broker.logs["out", 0].append(Record(0, b"k", value))
    world.host.troubles["stale"] = [Trouble("stale")]
    reader = world.reader()
    reader.assign([TopicPartition("out", 0, 2)])
    assert world.read(reader)[0] == b"0"


def test_what_is_paused_does_not_come(world):
    """Until it is resumed."""
    world.broker.logs["out", 0].append(Record(0, b"k", b"v"))
    reader = world.reader(eof=False)
    reader.pause([TopicPartition("out", 0)])
    assert world.read(reader) == []
    reader.resume([TopicPartition("out", 0)])
    assert world.read(reader) == [b"v"]


def test_a_member_of_the_consumer_protocol_reads_from_where_it_was_told(world):
    """Paused at first; a seek keeps the pause; its slot is free after a clean stop."""
    for value in (b"0", b"1"):
        world.broker.logs["in", 0].append(Record(0, b"k", value))
    consumer = world.member_848()
    assert consumer.poll(0.0) is None
    consumer.seek(TopicPartition("in", 0, 1))
    assert consumer.poll(0.0) is None
    consumer.resume([TopicPartition("in", 0)])
    assert [m.value() for m in consumer.consume(9, 0.0)] == [b"1"]
    assert world.member_848().poll(0.0).error().code() == KafkaError.UNRELEASED_INSTANCE_ID
    consumer.close()
    assert world.member_848().poll(0.0) is None


def test_topics_and_their_ids_are_told(world):
    """As the admin client of confluent_kafka does."""
    admin = world.clients.admin({})
    assert {name: len(topic.partitions) for name, topic in admin.list_topics().topics.items()} == {"in": 1, "out": 2}
    assert admin.describe_topics(TopicCollection(["in"]))["in"].result().topic_id == "in-id"
