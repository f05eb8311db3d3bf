"""Money that waits: sums of what was read, less what has been consumed."""

from builders import an_intent
from hypothesis import given
from hypothesis import strategies as st

from headrace.backlog import wanted_of
from headrace.gap import CHUNK, VALUED, Gaps, Tally, Wanted, _worth
from headrace.lag import Lag, PartitionLag
from schemas import codec
from schemas.events import Minor
from schemas.money import MAX_MINOR
from topologies import topics
from topologies.engine.config import ClusterConfig

RECORDS = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from(["EUR", "JPY", "USD"]), st.integers(1, 2**63 - 1)), max_size=60
)
PLACE = ("payments.intents", 0)


def naive(records, start):
    """What the records at and behind `start` are worth, by adding up again."""
    found = {}
    for offset, currency, amount in records:
        if offset >= start:
            found[currency] = found.get(currency, 0) + amount
    return found


@given(RECORDS, st.lists(st.integers(0, 60), max_size=10))
def test_what_waits_is_what_adding_up_again_would_give(steps, commits):
    """Whatever the gaps between offsets (markers), and wherever the group commits."""
    tally, records, offset = Tally(0), [], 0
    for gap, currency, amount in steps:
        offset += gap
        records.append((offset, currency, amount))
        tally.add(offset, currency, amount)
    for start in sorted(commits):
        assert tally.since(start) == naive(records, start)
        tally.forget(start)
        assert tally.since(max(start, tally.base)) == naive(records, start)


def test_consumed_records_are_not_kept():
    """Memory follows what waits, a chunk at a time."""
    tally = Tally(0)
    for offset in range(3 * CHUNK):
        tally.add(offset, "EUR", 1)
    tally.forget(2 * CHUNK + 1)
    assert tally.records == CHUNK
    assert tally.since(2 * CHUNK + 1) == {"EUR": CHUNK - 1}


def test_what_was_consumed_before_anybody_looked_is_not_read():
    """The next reading begins at the committed offset."""
    tally = Tally(10)
    tally.add(10, "EUR", 5)
    tally.forget(500)
    assert (tally.base, tally.next, tally.since(500)) == (500, 500, {})


def worth(**fields):
    return _worth(codec.decoder("payments.intents-value"), MAX_MINOR, codec.encode(an_intent(**fields)))


def test_an_intent_is_worth_its_amount():
    """Whatever becomes of it."""
    assert worth(amount_minor=Minor(1_234), currency="EUR") == ("EUR", 1_234)


def test_what_can_not_be_money_is_worth_nothing():
    """A stranger's absurd amount or currency, or bytes that are no intent, would make the sum a joke."""
    assert worth(amount_minor=Minor(MAX_MINOR + 1)) is None
    assert worth(amount_minor=Minor(0)) is None
    assert worth(currency="X\x1b[31m") is None
    assert _worth(codec.decoder("payments.intents-value"), MAX_MINOR, b"garbage") is None
    assert _worth(codec.decoder("payments.intents-value"), MAX_MINOR, None) is None


def test_intents_and_credits_are_valued_with_the_prefix():
    """Postings and events tell of money that has been decided."""
    gaps = Gaps(ClusterConfig("127.0.0.1:1", "t."), 10)
    assert [topic.name for topic in VALUED] == [topics.INTENTS.name, topics.CREDITS.name]
    assert gaps.valued("t.payments.intents")
    assert not gaps.valued("payments.intents")
    assert not gaps.valued("t.ledger.postings")


def test_money_that_was_not_read_is_not_called_exact():
    """Not known is not zero; a topic without money has exactly none."""
    gaps = Gaps(ClusterConfig("127.0.0.1:1"), 10)
    assert gaps.money(PLACE, Wanted(0, 5)) == ({}, False)
    assert gaps.money(PLACE, Wanted(5, 5)) == ({}, True)
    assert gaps.money(("ledger.postings", 0), Wanted(0, 5)) == ({}, True)


def test_two_groups_of_one_topic_are_read_once_from_the_slower_one_on():
    """And where nothing waits nothing is read."""

    def lag(group, start, records):
        return Lag(group, (PartitionLag("payments.intents", 0, start, 90, records, 1.0, 0, start=start),))

    gaps = Gaps(ClusterConfig("127.0.0.1:1"), 10)
    assert wanted_of([lag("a", 40, 50), lag("b", 10, 80)], gaps.valued) == {PLACE: Wanted(10, 90)}
    assert wanted_of([lag("a", 90, 0)], gaps.valued) == {}
