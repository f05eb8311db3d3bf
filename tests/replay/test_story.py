"""A payment's story is told in order, whole, and with repeats as repeats."""

import pytest
from builders import PARTITIONS
from worlds import EVENTS, World

from replay.story import UnknownPayment, Unreadable, story
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


def told(found):
    return [(one.event.debtor, one.event.sequence, one.event.status, one.repeat) for one in found]


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
    (first,) = story(world, "rent", "alice")
    _, credit = world.ask_again(first.event, "rent", "again")
    world.say_again(first.event, credit)
    found = story(world, "rent", "alice")
    assert [one.repeat for one in found] == [False, True]
    assert {one.event.event_id for one in found} == {first.event.event_id}


def test_events_stand_by_sequence_wherever_they_were_written(world):
    """Two partitions write to the debtor's: the log's order is not the story's (R15)."""
    intent, offset = world.ask("hurried")
    for sequence in (3, 1, 2):
        world.append(EVENTS, HOME, world.event(intent, offset, Status.REVIEW, sequence=sequence))
    assert [one.event.sequence for one in story(world, "hurried", "alice")] == [1, 2, 3]


def test_a_refusal_keeps_its_reason(world):
    """Why is part of the story."""
    (one,) = story(world, "later", "alice")
    assert (one.event.status, one.event.reason, one.partition) == ("DECLINED", "AM04", HOME)


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
