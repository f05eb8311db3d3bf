"""The inbox loses nothing, takes nothing twice, and lets money in before it goes out."""

from hypothesis import given
from hypothesis import strategies as st

from topologies import topics
from topologies.engine.inbox import Inbox
from topologies.engine.step import Raw
from topologies.payments import CORE

ZERO = {topic.name: 0 for topic in CORE.inputs}


def raw(offset):
    return Raw(offset, 0, b"k", b"v", lambda: None)


def filled(**counts):
    inbox = Inbox(CORE, ZERO)
    for topic, count in counts.items():
        for offset in range(count):
            inbox.add(getattr(topics, topic).name, raw(offset))
    return inbox


def counts_of(taken):
    return {t.topic.name: len(t.raws) for t in taken if t.raws}


def test_an_aborted_step_gets_the_same_records_again():
    """Taking is not settling."""
    inbox = filled(INTENTS=5, CREDITS=3)
    assert inbox.take(100, {}) == inbox.take(100, {})


def test_credits_come_before_intents():
    """Money comes in before it goes out (R12)."""
    order = [t.topic for t in filled(INTENTS=1, CREDITS=1, REVERSALS=1).take(10, {}) if t.raws]
    assert order == [topics.REVERSALS, topics.CREDITS, topics.INTENTS]


def test_intents_keep_a_quarter_of_a_step():
    """Neither credits nor intents starve."""
    taken = counts_of(filled(INTENTS=1000, CREDITS=1000).take(100, {}))
    assert taken == {"ledger.credits": 75, "payments.intents": 25}


def test_a_stale_record_is_left_out():
    """What a seek has left in the client is not decided again."""
    inbox = Inbox(CORE, ZERO | {"payments.intents": 7})
    inbox.add("payments.intents", raw(6))
    inbox.add("payments.intents", raw(7))
    inbox.add("payments.intents", raw(7))
    assert [r.offset for r in inbox.waiting("payments.intents")] == [7]


def test_a_position_past_markers_is_committed_once_all_before_it_is_taken():
    """Transaction markers leave no lag behind."""
    inbox = filled(CREDITS=2)
    inbox.arrived_at("ledger.credits", 5)
    [part] = [t for t in inbox.take(1, {"ledger.credits": 5}) if t.raws]
    assert (part.next, part.to_end) == (1, False)
    [whole] = [t for t in inbox.take(10, {"ledger.credits": 5}) if t.raws]
    assert (whole.next, whole.to_end) == (5, True)


def test_markers_alone_make_an_idle_commit_due():
    """Lag is truly zero when nothing is left to decide."""
    inbox = filled(CREDITS=1)
    inbox.arrived_at("ledger.credits", 2)
    assert not inbox.idle_offsets()
    inbox.settle([t._replace(next=1) for t in inbox.take(10, {})])
    assert inbox.idle_offsets()


@given(st.integers(1, 9), st.integers(0, 12), st.integers(0, 12), st.integers(0, 12))
def test_every_record_is_taken_once_in_order(room, reversals, credit, intents):
    """However small the steps, each topic's records come out once, in order."""
    inbox = filled(REVERSALS=reversals, CREDITS=credit, INTENTS=intents)
    seen = {topic.name: [] for topic in CORE.inputs}
    while len(inbox):
        taken = inbox.take(room, {})
        count = sum(len(t.raws) for t in taken)
        assert 1 <= count <= room
        for t in taken:
            seen[t.topic.name] += [r.offset for r in t.raws]
        inbox.settle(taken)
    assert {name: len(offsets) for name, offsets in seen.items() if offsets} == {
        name: count
        for name, count in (
            ("ledger.reversals", reversals),
            ("ledger.credits", credit),
            ("payments.intents", intents),
        )
        if count
    }
    assert all(offsets == sorted(set(offsets)) for offsets in seen.values())
