"""A recovery looks again before it gives up, and gives up before it goes on over a hole."""

from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from topologies.engine import recovery
from topologies.engine.errors import NotAuthorised, NotYet, StoreAhead, Superseded, TornPartition, WorkerStopped
from topologies.engine.limits import Limits

AWAY = KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN, "nobody answers"))
LAGGING = KafkaException(KafkaError(KafkaError.FENCED_LEADER_EPOCH, "an old epoch"))
FORBIDDEN = KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED, "no right"))


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def recover(monkeypatch):
    """Recovers where the attempts raise what the test says, one after another, the last one again and again."""

    def go(*troubles, superseded=lambda: False):
        place = SimpleNamespace(
            cluster=SimpleNamespace(seams=SimpleNamespace(clock=Clock())), limits=Limits(restore_wait_s=20)
        )
        left = list(troubles)

        def attempt(*_):
            trouble = left.pop(0) if len(left) > 1 else left[0]
            if trouble is not None:
                raise trouble
            return ["recovered"]

        monkeypatch.setattr(recovery, "_attempt", attempt)
        return recovery.recover(place, [0, 3], superseded), place.cluster.seams.clock.now

    return go


@pytest.mark.parametrize("trouble", [StoreAhead("ahead"), TornPartition("torn"), NotYet("not yet"), LAGGING], ids=repr)
def test_pieces_that_do_not_agree_are_looked_at_again(recover, trouble):
    """A new leader may not know all of its log yet, and another worker may have gone on."""
    assert recover(trouble, trouble, None)[0] == ["recovered"]


@pytest.mark.parametrize("trouble", [StoreAhead("ahead"), TornPartition("torn"), NotYet("not yet"), LAGGING], ids=repr)
def test_pieces_that_never_agree_stop_the_worker(recover, trouble):
    """With the reason; nothing goes on over a hole."""
    with pytest.raises(WorkerStopped, match=r"ahead|torn|not yet|an old epoch"):
        recover(trouble)


def test_brokers_that_are_away_are_waited_for(recover):
    """However long: money that can't move now can move later."""
    found, seconds = recover(*[AWAY] * 500, None)
    assert found == ["recovered"]
    assert seconds > Limits().restore_wait_s


def test_after_an_outage_the_pieces_get_their_time_again(recover):
    """A cluster that comes back is not judged by its first answers."""
    assert recover(*[AWAY] * 500, *[TornPartition("torn")] * 10, None)[0] == ["recovered"]


def test_a_missing_right_is_named_at_once(recover):
    """No waiting helps."""
    with pytest.raises(NotAuthorised, match="grant"):
        recover(FORBIDDEN)


def test_a_recovery_whose_partitions_moved_is_void(recover):
    """Whatever it met."""
    for trouble in (TornPartition("torn"), AWAY):
        with pytest.raises(Superseded):
            recover(trouble, superseded=lambda: True)
