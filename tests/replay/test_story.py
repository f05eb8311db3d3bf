"""A payment's story is told in order, whole, and with repeats as repeats."""

import pytest
from builders import PARTITIONS
from settling import Both
from worlds import CREDITS, EVENTS, INTENTS, LETTERS, World, letter_headers

from replay.story import UnknownPayment, Unreadable, answered, state_of, story
from schemas.events import Status
from schemas.keys import partition_of

HOME = partition_of("alice", PARTITIONS)
DAVE = next(name for n in range(100) if partition_of(name := f"dave-{n}", PARTITIONS) == HOME)
"""He lives where alice does."""


@pytest.fixture
def world():
    """Alice's payment rent and one of hers that was declined; Dave and Erin have payments called rent too."""
    world = World()
    for account in ("alice", DAVE, "erin", "shop"):
        world.open(account)
    world.pay("rent")
    world.pay("rent", debtor=DAVE)
    world.pay("rent", debtor="erin")
    intent, offset = world.ask("later")
    world.answer(intent, world.event(intent, offset, Status.DECLINED, reason="AM04"))
    return world


def events(found):
    return [one for one in found if one.topic == EVENTS]


def told(found):
    return [(one.debtor, one.record.sequence, one.record.status, one.repeat) for one in events(found)]


def steps(found):
    """What happened, in its order: kinds of records, and of events their statuses."""
    return [str(getattr(one.record, "status", type(one.record).__name__)) for one in found]


def test_a_story_is_that_of_one_debtors_payment(world):
    """Ids are a debtor's own: Dave's rent is another payment, though it stands on the same partition."""
    assert told(story(world, "rent", "alice")) == [("alice", 1, "COMPLETED", False)]
    assert told(story(world, "rent", DAVE)) == [(DAVE, 1, "COMPLETED", False)]


def test_without_a_debtor_every_partition_is_read(world):
    """All payments of this name are told, debtor by debtor."""
    assert partition_of("erin", PARTITIONS) != HOME
    assert told(story(world, "rent")) == [(debtor, 1, "COMPLETED", False) for debtor in ("alice", DAVE, "erin")]


def test_a_repeat_is_marked_and_keeps_its_event_id(world):
    """What was said again stands beside what it repeats (R19)."""
    (first,) = events(story(world, "rent", "alice"))
    _, credit = world.ask_again(first.record, "rent", "again")
    world.say_again(first.record, credit)
    found = events(story(world, "rent", "alice"))
    assert sorted(one.repeat for one in found) == [False, True]
    assert {one.record.event_id for one in found} == {first.record.event_id}


def test_events_stand_by_sequence_wherever_they_were_written(world):
    """Two partitions write to the debtor's: the log's order is not the story's (R15)."""
    intent, offset = world.ask("hurried")
    for sequence in (3, 1, 2):
        world.append(EVENTS, HOME, world.event(intent, offset, Status.REVIEW, sequence=sequence))
    assert [one.record.sequence for one in events(story(world, "hurried", "alice"))] == [1, 2, 3]


def test_a_refusal_keeps_its_reason(world):
    """Why is part of the story."""
    (one,) = events(story(world, "later", "alice"))
    assert (one.record.status, one.record.reason, one.partition) == ("DECLINED", "AM04", HOME)


def test_a_payment_that_arrived_is_told_from_its_intent_to_its_event(world):
    """First leg, credit, second leg, outcome: five topics, one order."""
    assert partition_of("shop", PARTITIONS) != HOME
    found = story(world, "rent", "alice")
    assert steps(found) == ["Intent", "Posting", "Credit", "Posting", "COMPLETED"]
    assert [one.partition for one in found] == [HOME, HOME, *[partition_of("shop", PARTITIONS)] * 2, HOME]
    assert state_of(found) == "UNKNOWN", "the event's own word"


def test_a_refused_credit_is_followed_back_home(world):
    """The way back stands behind the refusal, the return behind the way back."""
    intent, offset = world.ask("lost", creditor="nobody")
    credit = world.send(intent, offset)
    world.refuse(intent, credit)
    world.give_back(intent, credit)
    assert steps(story(world, "lost", "alice")) == ["Intent", "Posting", "Credit", "Reversal", "Posting", "REVERSED"]


def test_what_follows_never_stands_before_its_cause(world):
    """Another worker's clock is an hour behind: its second leg still stands behind the credit."""
    intent, offset = world.ask("skewed")
    credit = world.send(intent, offset)
    world.at -= 3_600_000_000
    world.apply(intent, credit)
    assert steps(story(world, "skewed", "alice")) == ["Intent", "Posting", "Credit", "Posting", "COMPLETED"]


def test_a_payment_that_waits_is_told_and_has_no_answer(world):
    """Published, then sent: nobody was told anything yet."""
    intent, offset = world.ask("slow")
    assert (steps(story(world, "slow")), state_of(story(world, "slow"))) == (["Intent"], "WAITING")
    world.send(intent, offset)
    found = story(world, "slow", "alice")
    assert (steps(found), state_of(found), answered(found)) == (["Intent", "Posting", "Credit"], "SENT", False)


def test_a_dead_letter_is_part_of_the_story(world):
    """Money that stands in transit: the letter tells why, and counts as an answer."""
    intent, offset = world.ask("stuck")
    world.send(intent, offset)
    there = partition_of("shop", PARTITIONS)
    number = len(world.log[CREDITS, there]) - 1
    world.append(LETTERS, there, world.log[CREDITS, there][number].value, letter_headers(CREDITS, there, number, "odd"))
    found = story(world, "stuck", "alice")
    assert (steps(found)[-1], found[-1].record.code, answered(found)) == ("Letter", "odd", True)
    assert found[-1].record.origin.topic == CREDITS


def test_a_letter_without_a_schema_is_told_by_its_key(world):
    """Bytes that name the payment and can't be read: whose they are is what the key says."""
    headers = letter_headers(INTENTS, HOME, 9, "truncated")
    world.append(LETTERS, HOME, b"\0\0\0\0\1 torn-1", headers)
    found = story(world, "torn-1")
    assert [(one.debtor, one.record.record, one.record.code) for one in found] == [("key", None, "truncated")]
    assert state_of(found) == "DEAD_LETTER"


@pytest.mark.parametrize(
    ("payment", "debtor"), [("ren", None), ("rent", "shop"), ("rent", "ali"), ("", None), ("\ud800", None)]
)
def test_an_unknown_payment_is_told_with_what_to_check(world, payment, debtor):
    """A part of a name is no name."""
    with pytest.raises(UnknownPayment, match=r"Check the id|no UTF-8"):
        story(world, payment, debtor)


def test_an_event_that_cannot_be_read_is_named(world):
    """A story with a hole is not told as if it were whole."""
    world.append(EVENTS, HOME, b"rent, and no event")
    with pytest.raises(Unreadable, match=f"partition {HOME} offset .*headrace audit"):
        story(world, "rent", "alice")


def test_a_settled_payment_is_told_with_its_batch():
    """From the intent to the batch that it is in and the SETTLED that says so; the batch is no other's."""
    both = Both(seed=1)
    both.pay("customer-1", "shop-1", 10_000)
    both.pay("customer-2", "shop-1", 500)
    both.rest()
    both.pay("customer-1", "shop-1", 20_000)
    both.rest()
    found = story(both.logs(), "pay-7", "customer-1")
    assert steps(found) == ["Intent", "Posting", "Credit", "Posting", "COMPLETED", "SettlementBatch", "SETTLED"]
    [batch] = [one.record for one in found if one.topic == "settlement.batches"]
    assert (batch.payment_count, batch.gross_minor) == (2, 10_500)
    assert state_of(found) == "SETTLED"
