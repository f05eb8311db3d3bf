"""The simulated consumer group: generations, static members, what a transaction may promise."""

import pytest
from confluent_kafka import KafkaError

from topologies.engine.memory.coordinator import Refused
from topologies.engine.memory.members import GroupCoordinator, GroupMetadata
from topologies.engine.memory.timeline import Timeline


class World:
    def __init__(self):
        self.timeline = Timeline()
        self.group = GroupCoordinator(self.timeline, lambda _topic: 4)
        self.silent = set()

    def join(self, instance, name=""):
        return self.group.join(instance, name, ["a", "b"], 10.0, lambda: instance not in self.silent)

    def partitions(self, instance, name):
        _, places = self.group.sync(instance, name)
        return sorted(places)

    def pass_time(self, seconds):
        for _ in range(int(seconds)):
            self.timeline.advance(1.0)
            self.group.tick()

    def shown(self, instance, name, generation=None):
        return GroupMetadata("g", self.group.generation if generation is None else generation, name, instance)


@pytest.fixture
def world():
    return World()


def refusal(call, *args):
    with pytest.raises(Refused) as refused:
        call(*args)
    return refused.value.code


def test_members_share_every_topic_alike(world):
    """Range: partition n of all topics is in one hand."""
    one = world.join("one")
    two = world.join("two")
    assert refusal(world.group.heartbeat, "one", one, 1) == KafkaError.REBALANCE_IN_PROGRESS
    world.join("one", one)
    assert world.partitions("one", one) == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert world.partitions("two", two) == [("a", 2), ("a", 3), ("b", 2), ("b", 3)]
    assert world.group.generation == 2


def test_a_static_member_comes_back_without_a_rebalance_and_fences_its_former_self(world):
    """Its slot has one holder."""
    first = world.join("one")
    again = world.join("one")
    assert world.group.generation == 1
    assert len(world.partitions("one", again)) == 8
    assert refusal(world.group.heartbeat, "one", first, 1) == KafkaError.FENCED_INSTANCE_ID
    assert refusal(world.group.check, world.shown("one", first)) == KafkaError.FENCED_INSTANCE_ID


def test_a_silent_member_loses_its_partitions_after_its_session(world):
    """Not before; then the others get them."""
    one, two = world.join("one"), world.join("two")
    world.join("one", one)
    world.silent.add("two")
    world.pass_time(9)
    assert len(world.partitions("one", one)) == 4
    world.pass_time(3)
    world.join("one", one)
    assert len(world.partitions("one", one)) == 8
    assert refusal(world.group.check, world.shown("two", two)) == KafkaError.UNKNOWN_MEMBER_ID


def test_a_transaction_shows_its_generation(world):
    """An older one is refused; one without any membership passes while nobody is a member, as in Kafka."""
    world.group.check(GroupMetadata("g", -1, "", None))
    one = world.join("one")
    world.group.check(world.shown("one", one))
    assert refusal(world.group.check, world.shown("one", one, generation=0)) == KafkaError.ILLEGAL_GENERATION


def test_promised_offsets_come_true_with_the_marker(world):
    """Until then they are unstable; an abort forgets them."""
    place = ("a", 0)
    world.group.promise(1, {place: (5, "1")})
    assert world.group.unstable(place)
    assert place not in world.group.offsets
    world.group.mark(1, committed=False)
    assert not world.group.unstable(place)
    assert world.group.offsets == {}
    world.group.promise(1, {place: (6, "2")})
    world.group.mark(1, committed=True)
    assert world.group.offsets == {place: (6, "2")}
