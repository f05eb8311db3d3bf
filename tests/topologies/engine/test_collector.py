"""The cycle collector rests while payments wait, and garbage still goes."""

import gc
import weakref

import pytest

from topologies.engine.collector import AT_LAST_S, EVERY_S, Collector


class Knot:
    """Garbage that only the cycle collector finds."""

    def __init__(self):
        self.itself = self


@pytest.fixture
def clock():
    """Seconds, set by hand; the collector is Python's again afterwards."""
    now = [1_000.0]
    yield now
    Collector.release()


@pytest.mark.parametrize(
    ("idle", "after_s", "goes"), [(True, EVERY_S, True), (False, EVERY_S, False), (False, AT_LAST_S, True)]
)
def test_garbage_goes_while_nothing_waits_and_at_last_in_any_case(clock, idle, after_s, goes):
    """A busy worker looks seldom, an idle one every minute."""
    collector = Collector(lambda: clock[0])
    collector.collect()
    knot = weakref.ref(Knot())
    collector.look(idle=idle)
    assert knot() is not None
    clock[0] += after_s + 1
    collector.look(idle=idle)
    assert (knot() is None) == goes


def test_python_looks_by_itself_again_when_the_worker_has_ended(clock):
    """Tests and tools in the same process go on as they were."""
    collector = Collector(lambda: clock[0])
    collector.collect()
    assert (gc.isenabled(), gc.get_freeze_count() > 0) == (False, True)
    Collector.release()
    assert (gc.isenabled(), gc.get_freeze_count()) == (True, 0)
