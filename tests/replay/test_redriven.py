"""A redriven record takes the place of the one that failed; whatever only says that it was redriven is an offence."""

import pytest
from builders import PARTITIONS
from worlds import CREDITS, LETTERS, REVERSALS, World

from replay.audit import judge
from schemas.events import Micros, Minor
from schemas.internal import Redrive
from schemas.keys import partition_of
from topologies.topics import REDRIVES

HOME, THERE = partition_of("alice", PARTITIONS), partition_of("shop", PARTITIONS)
COPY = [("headrace.replay-count", b"1")]


@pytest.fixture
def world():
    """A credit of alice's that became a letter."""
    world = World()
    world.log |= {(REDRIVES.name, p): [] for p in range(PARTITIONS)}
    world.open("bank", "DEBIT_NORMAL")
    for account in ("alice", "shop"):
        world.open(account, "NO_OVERDRAFT")
    world.pay("fund", debtor="bank", creditor="alice", amount_minor=Minor(10_000))
    world.intent, world.offset = world.ask("stuck")
    world.credit_sent = world.send(world.intent, world.offset)
    world.step(THERE, CREDITS, [], lost="unprocessable")
    return world


def offences(world, *, quiet=False):
    return {check.name: check.detail for check in judge(world, quiet=quiet).checks if not check.ok}


def redrive(world, topic=CREDITS, partition=THERE, *, receipt=True, **fields):
    """Puts the latest record of a topic back, its fields changed as a test says."""
    kept = world.log[topic, partition][-1]
    world.append(topic, partition, kept.value._replace(**fields), COPY)
    if receipt:
        letter = len(world.log[LETTERS, partition]) - 1
        world.append(REDRIVES.name, 0, Redrive(LETTERS, partition, letter, Micros(world.at), "ana"))


def test_a_redriven_credit_is_decided_as_if_it_had_never_failed(world):
    """Undecided while it waits, then applied: the journal counts no copy, and nothing is in transit."""
    redrive(world)
    assert offences(world) == {}
    assert judge(world).in_transit == {"EUR": 1200}
    world.apply(world.intent, world.credit_sent)
    assert offences(world, quiet=True) == {}


def test_a_redriven_return_gives_the_money_back_once(world):
    """The way back may fail, too."""
    redrive(world)
    world.refuse(world.intent, world.credit_sent)
    world.step(HOME, REVERSALS, [], lost="unprocessable")
    redrive(world, REVERSALS, HOME)
    assert offences(world) == {}
    world.give_back(world.intent, world.credit_sent)
    assert offences(world, quiet=True) == {}


def test_a_copy_that_fails_again_is_explained_by_its_own_letter(world):
    """The money still stands in transit."""
    redrive(world)
    world.step(THERE, CREDITS, [], lost="unprocessable")
    assert offences(world) == {}
    assert judge(world).in_transit == {"EUR": 1200}


def test_a_copy_without_a_receipt_is_somebody_elses(world):
    """A header alone proves nothing."""
    redrive(world, receipt=False)
    assert "receipts there are 0" in offences(world)["journal counts"]


@pytest.mark.parametrize("fields", [{"amount_minor": Minor(1_300)}, {"sequence": 9}, {"intent_offset": 77}], ids=str)
def test_a_copy_that_is_none_is_an_offence(world, fields):
    """Byte for byte, or not at all."""
    redrive(world, **fields)
    assert "is no copy of a credit" in offences(world)["10 in transit equals undecided"]


def test_a_copy_that_was_applied_and_its_letter_leave_no_second_decision(world):
    """A second copy that is decided too is money paid out twice."""
    redrive(world)
    world.apply(world.intent, world.credit_sent)
    redrive(world)
    world.apply(world.intent, world.credit_sent)
    assert "10 in transit equals undecided" in offences(world)


def test_a_copy_of_a_later_step_is_left_out_with_it(world):
    """Sent, lettered and redriven after the cut: none of it counts yet."""

    def later():
        intent, offset = world.ask("later")
        world.send(intent, offset)
        world._read[CREDITS, THERE] = len(world.log[CREDITS, THERE]) - 1
        world.step(THERE, CREDITS, [], lost="unprocessable")
        redrive(world)

    redrive(world)
    world.apply(world.intent, world.credit_sent)
    world.later.append(("headrace.journal", later))
    assert offences(world) == {}
