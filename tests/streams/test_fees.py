"""Fees: booked with the credit, for merchants with a schedule, split to the cent."""

import pytest
from builders import an_intent
from world import World

from schemas.events import Minor
from schemas.keys import partition_of
from streams.books import ROOM_MOST, internal
from streams.rules import Rules
from streams.settlement_rules import settlement_rules

CARD = {"bp": 275, "fixed_minor": {"EUR": 30}, "split": [["own", 70], ["partner", 20], ["scheme", 10]]}
SHOP = partition_of("shop", 4)


def a_world(flags: tuple[str, ...] = ("NO_OVERDRAFT", "MERCHANT"), **rules: object) -> World:
    """Alice has a lot of money, the shop none."""
    found = settlement_rules({"fees": "card", "schedules": {"card": CARD, "none": {}}, **rules})
    world = World(Rules(settlement=found)).open("alice").open("shop", flags=flags).open("bank", flags=("DEBIT_NORMAL",))
    return world.send(an_intent("fund", debtor="bank", creditor="alice", amount_minor=Minor(10**9))).run()


def entries(world: World, payment: str = "pay-1") -> list[tuple[str, str, str, int]]:
    """Of the second leg: role or account, code, side, minor units."""
    [posting] = [p for p in world.order if p.payment_id == payment and p.entries[0].account.startswith("~in-transit")]
    return [
        (e.account.removeprefix("~").split("/")[0], str(e.code), e.direction[0], e.amount_minor)
        for e in posting.entries
    ]


def test_a_fee_is_booked_with_the_credit_and_split():
    """R47 and the table of postings: 2.75 % + 0.30 of 100.00, split 70/20/10."""
    world = a_world().send(an_intent(amount_minor=Minor(10_000))).run()
    assert entries(world) == [
        ("in-transit", "PRINCIPAL", "D", 10_000),
        ("shop", "PRINCIPAL", "C", 10_000),
        ("shop", "FEE", "D", 305),
        ("fees", "FEE", "C", 214),
        ("fees-partner", "FEE", "C", 61),
        ("fees-scheme", "FEE", "C", 30),
    ]
    assert world.story("pay-1") == ["COMPLETED"]
    assert world.balance("shop") == 9_695


def test_a_merchants_credit_reserves_the_number_of_its_settled_event():
    """R29: settlement knows its members by it; nobody else's credit has one."""
    world = a_world().send(an_intent()).run()
    marks = [[e.settled_sequence for e in p.entries] for p in world.order if p.payment_id == "pay-1"]
    assert marks == [[None, None], [None, 2, None, None, None, None]]
    assert not any(e.settled_sequence for p in world.order if p.payment_id == "fund" for e in p.entries)


@pytest.mark.parametrize(
    ("flags", "rules"),
    [
        (("NO_OVERDRAFT",), {}),
        (("NO_OVERDRAFT", "MERCHANT"), {"fees": ""}),
        (("NO_OVERDRAFT", "MERCHANT"), {"fees": "none"}),
        (("NO_OVERDRAFT", "MERCHANT"), {"merchants": {"shop": {"fees": "none"}}}),
    ],
    ids=["no merchant", "no default", "a schedule of nothing", "a schedule of its own"],
)
def test_who_pays_no_fee_gets_it_all(flags: tuple[str, ...], rules: dict[str, object]):
    """Two entries, as before."""
    world = a_world(flags, **rules).send(an_intent(amount_minor=Minor(10_000))).run()
    assert entries(world) == [("in-transit", "PRINCIPAL", "D", 10_000), ("shop", "PRINCIPAL", "C", 10_000)]


def test_a_part_of_nothing_has_no_entry():
    """A posted amount is above zero (R1)."""
    world = a_world(schedules={"card": {"bp": 100, "split": [["own", 1], ["partner", 0], ["scheme", 1]]}})
    world.send(an_intent(amount_minor=Minor(100))).run()
    assert entries(world)[2:] == [("shop", "FEE", "D", 1), ("fees", "FEE", "C", 1)]


def test_a_fee_is_never_more_than_the_credit():
    """A merchant without overdraft bears it whatever it is."""
    world = a_world().send(an_intent(amount_minor=Minor(5))).run()
    assert entries(world)[1:3] == [("shop", "PRINCIPAL", "C", 5), ("shop", "FEE", "D", 5)]
    assert world.balance("shop") == 0


def test_a_schedule_has_a_fixed_part_by_currency():
    """A currency that is not named has none (R48: currencies are never mixed)."""
    rules = settlement_rules({"schedules": {"card": CARD}, "fees": "card"})
    schedule = rules.schedule_of("anybody")
    assert schedule is not None
    assert (schedule.fixed_minor.get("EUR", 0), schedule.fixed_minor.get("USD", 0)) == (30, 0)


def test_a_fee_that_no_account_has_room_for_refuses_the_credit():
    """R48: AM12, before anything could wrap; the money goes back."""
    world = a_world().send(an_intent(amount_minor=Minor(100))).run()
    name = internal("fees", "EUR", SHOP, 4)
    accounts = world.tables[SHOP].accounts
    row = accounts.get(name)
    full = [[*row.purses[0][:4], ROOM_MOST, row.purses[0][5]]]
    accounts.put(name, row._replace(purses=full))
    world.send(an_intent("big", amount_minor=Minor(10_000))).run()
    assert world.story("big") == ["REVERSED AM12"]
