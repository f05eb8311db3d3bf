"""The simulated group of the consumer protocol: targets, hand-over partition by partition, static members."""

import pytest
from confluent_kafka import KafkaError

from topologies.engine.memory.coordinator import Refused
from topologies.engine.memory.members import GroupMetadata
from topologies.engine.memory.reconciling import AT_ONCE, ReconcilingGroup
from topologies.engine.memory.timeline import Timeline


class World:
    def __init__(self):
        self.timeline = Timeline()
        self.group = ReconcilingGroup(self.timeline, lambda _topic: 4, 10.0)
        self.silent = set()
        self.names = {}

    def join(self, instance):
        self.names[instance] = self.group.join(instance, ["a", "b"], lambda: instance not in self.silent)

    def beat(self, instance, held, times=4):
        """Heartbeats in which the member follows at once; what it holds then."""
        for _ in range(times):
            self.epoch, held = self.group.heartbeat(instance, self.names[instance], held)
        return held

    def pass_time(self, seconds):
        for _ in range(int(seconds)):
            self.timeline.advance(1.0)
            self.group.tick()


@pytest.fixture
def world():
    return World()


def refusal(call, *args):
    with pytest.raises(Refused) as refused:
        call(*args)
    return refused.value.code


def test_a_member_gets_its_share_in_pieces(world):
    """Topics of one partition move apart from each other."""
    world.join("one")
    first = world.beat("one", set(), times=1)
    assert len(first) == AT_ONCE
    assert len(world.beat("one", first)) == 8


def test_nothing_is_given_before_it_was_given_back(world):
    """Two members never hold the same partition."""
    world.join("one")
    held = world.beat("one", set())
    world.join("two")
    assert world.beat("two", set()) == set()
    _, wanted = world.group.heartbeat("one", world.names["one"], held)
    assert wanted < held
    assert world.beat("two", set()) == set(), "told, but not given back yet"
    held = world.beat("one", wanted)
    others = world.beat("two", set())
    assert others == {("a", 2), ("a", 3), ("b", 2), ("b", 3)}
    assert not held & others


def test_a_slot_that_was_not_left_is_not_given_away(world):
    """An unclean stop blocks its successor for a session; a clean one does not."""
    world.join("one")
    assert refusal(world.join, "one") == KafkaError.UNRELEASED_INSTANCE_ID
    world.group.leave("one", world.names["one"])
    world.join("one")
    world.silent.add("one")
    world.pass_time(12)
    world.join("one")
    assert len(world.beat("one", set())) == 8


def test_a_transaction_shows_a_member_and_its_epoch(world):
    """Former members and former epochs are refused."""
    world.join("one")
    held = world.beat("one", set())
    shown = GroupMetadata("g", world.epoch, world.names["one"], "one")
    world.group.check(shown)
    world.join("two")
    world.group.check(shown)
    world.beat("one", held)
    assert refusal(world.group.check, shown) == KafkaError.STALE_MEMBER_EPOCH
    world.silent.add("one")
    world.pass_time(12)
    assert refusal(world.group.check, shown) == KafkaError.UNKNOWN_MEMBER_ID
