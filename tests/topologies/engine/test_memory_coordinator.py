"""Transactional ids of the simulated Kafka: epochs, fencing, late requests, timeouts."""

import pytest
from confluent_kafka import KafkaError

from topologies.engine.memory.coordinator import Coordinator, Refused
from topologies.engine.memory.timeline import Timeline

PLACE = ("t", 0)


class World:
    def __init__(self, delay=0.0):
        self.timeline = Timeline()
        self.marks = []
        self.coordinator = Coordinator(
            self.timeline, lambda txn, where, commit: self.marks.append((where, commit)), lambda: delay
        )

    def begin(self, identity="id", timeout=60.0):
        producer, epoch = self.coordinator.init(identity, timeout)
        self.coordinator.add_places(producer, epoch, [PLACE])
        return producer, epoch


@pytest.fixture
def world():
    return World()


def refusal(call, *args, **more):
    with pytest.raises(Refused) as refused:
        call(*args, **more)
    return refused.value.code


def test_a_commit_marks_every_partition_and_group(world):
    """The markers follow the decision."""
    producer, epoch = world.begin()
    world.coordinator.add_group(producer, epoch, "group")
    world.coordinator.end(producer, epoch, commit=True)
    assert world.marks == []
    world.timeline.advance(0.1)
    assert set(world.marks) == {(PLACE, True), ("group", True)}


def test_a_new_producer_ends_what_the_last_one_left_open():
    """It waits until the markers are there; then the old epoch is refused."""
    world = World(delay=1.0)
    producer, epoch = world.begin()
    assert refusal(world.coordinator.init, "id", 60.0) == KafkaError.CONCURRENT_TRANSACTIONS
    world.timeline.advance(1.0)
    assert world.marks == [(PLACE, False)]
    assert world.coordinator.init("id", 60.0) == (producer, epoch + 2)
    assert refusal(world.coordinator.end, producer, epoch, commit=True) == KafkaError.INVALID_PRODUCER_EPOCH


def test_a_commit_that_comes_late_lands_in_the_next_transaction_of_its_epoch(world):
    """Kafka's own hole: requests of one epoch can't be told apart."""
    producer, epoch = world.begin()
    world.coordinator.end(producer, epoch, commit=True)
    world.timeline.advance(0.1)
    world.coordinator.add_places(producer, epoch, [PLACE])
    world.coordinator.end(producer, epoch, commit=True)  # the first one's, sent again by the network
    assert world.coordinator.committed == 2


def test_a_commit_that_comes_again_after_the_end_changes_nothing(world):
    """As long as no next transaction has begun; an abort then is refused."""
    producer, epoch = world.begin()
    world.coordinator.end(producer, epoch, commit=True)
    world.timeline.advance(0.1)
    world.coordinator.end(producer, epoch, commit=True)
    assert world.coordinator.committed == 1
    assert refusal(world.coordinator.end, producer, epoch, commit=False) == KafkaError.INVALID_TXN_STATE


def test_a_transaction_that_lasts_too_long_is_aborted_and_fenced(world):
    """Its producer hears of it with its next request."""
    producer, epoch = world.begin(timeout=1.0)
    world.timeline.advance(1.5)
    world.coordinator.expire()
    world.timeline.advance(0.1)
    assert world.marks == [(PLACE, False)]
    assert refusal(world.coordinator.add_places, producer, epoch, [PLACE]) == KafkaError.INVALID_PRODUCER_EPOCH


def test_only_what_was_added_may_be_written(world):
    """Partition verification: a straggler of an ended transaction finds no open one."""
    producer, epoch = world.begin()
    world.coordinator.verify(producer, epoch, PLACE)
    assert refusal(world.coordinator.verify, producer, epoch, ("t", 1)) == KafkaError.INVALID_TXN_STATE
    world.coordinator.end(producer, epoch, commit=True)
    assert refusal(world.coordinator.verify, producer, epoch, PLACE) == KafkaError.INVALID_TXN_STATE
