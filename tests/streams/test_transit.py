"""Money on its way: both legs, the way back, and what comes twice."""

from typing import Any

import pytest
from builders import AT, a_command, a_turn, an_intent, received
from world import World, a_world, order, pay

from schemas.events import (
    AccountAction,
    Credit,
    CreditAction,
    Kind,
    Reversal,
    ReversalAction,
)
from schemas.keys import partition_of
from streams.ledger import LedgerTables, credit

FREEZE, LIMIT, CLOSE, OPEN = AccountAction.FREEZE, AccountAction.LIMIT, AccountAction.CLOSE, AccountAction.OPEN


SECOND_LEG = (
    ("AC03", (), {"creditor": "nobody"}),
    ("AC04", (a_command("gone"), order("gone", CLOSE)), {"creditor": "gone", "currency": "EUR"}),
    ("AC06", (order("shop", FREEZE, flags=("NO_CREDITS",)),), {"currency": "USD"}),
    ("AM03", (), {"currency": "USD"}),
    ("TM01", (), {"expires_at": AT + 1}),
)


@pytest.mark.parametrize(
    ("reason", "before", "fields"), SECOND_LEG, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_refused_credit_gives_the_money_back(reason: str, before: Any, fields: Any):
    """The creditor's partition says no, home returns the money to the cent: REVERSED with that reason."""
    world = a_world().send(a_command("alice", command_id="usd", currency="USD")).run()
    pay(world, "dollars", debtor="bank", creditor="alice", amount_minor=5000, currency="EUR")
    world.send(a_command("bank", command_id="usd", currency="USD", flags=())).run()
    pay(world, "usd", debtor="bank", creditor="alice", amount_minor=5000, currency="USD")
    world.send(*before).run()
    funds = world.balance("alice"), world.balance("alice", "USD")
    world.send(an_intent(**fields)).step(partition_of("alice", 4))
    assert (world.balance("alice"), world.balance("alice", "USD")) != funds
    world.at += 1
    world.run()
    assert world.story("pay-1") == [f"REVERSED {reason}"]
    assert (world.balance("alice"), world.balance("alice", "USD")) == funds


def test_a_balance_is_never_lifted_past_its_room():
    """R48: AM12 at both ends, before anything could wrap."""
    world = a_world()
    most = 10**15 - 1
    home, there = world.tables[partition_of("bank", 4)].accounts, world.tables[partition_of("shop", 4)].accounts
    home.put("bank", home.get("bank")._replace(purses=[["EUR", 0, 2**62 - most, 0, 0, 1]]))
    assert pay(world, "big", debtor="bank", amount_minor=most).story("big") == ["DECLINED AM12"]
    home.put("bank", home.get("bank")._replace(purses=[["EUR", 0, 0, 0, 0, 1]]))
    there.put("shop", there.get("shop")._replace(purses=[["EUR", 0, 0, 0, 2**62 - most, 1]]))
    assert pay(world, "big2", debtor="bank", amount_minor=most).story("big2") == ["REVERSED AM12"]


def test_a_transfer_moves_the_money_in_two_balanced_postings():
    """TRANSFER: debtor to in-transit at home, in-transit to creditor at the creditor's partition, one COMPLETED."""
    world = pay(a_world(), "pay-1")
    first, second = [p for p in world.order if p.payment_id == "pay-1"]
    home, there = partition_of("alice", 4), partition_of("shop", 4)
    assert [(e.account.split("-")[0], e.direction, e.amount_minor) for e in first.entries] == [
        ("alice", "DEBIT", 1200), ("~in", "CREDIT", 1200)]  # fmt: skip
    assert [(e.account.split("-")[0], e.direction, e.amount_minor) for e in second.entries] == [
        ("~in", "DEBIT", 1200), ("shop", "CREDIT", 1200)]  # fmt: skip
    assert (first.entries[0].counterparty, second.entries[1].counterparty) == ("shop", "alice")
    assert partition_of(first.entries[1].account, 4) == home
    assert partition_of(second.entries[0].account, 4) == there
    (event,) = [e for e in world.events if e.payment_id == "pay-1"]
    assert (event.status, event.payment_state, event.intent_offset) == ("COMPLETED", "COMPLETED", 0)
    assert event in [r.value for r in world.log["payments.events", home]]
    assert second.entries[1].settled_sequence is None
    assert (world.balance("alice"), world.balance("shop")) == (3800, 1200)


def a_credit(**fields: Any) -> Credit:
    """A credit of 12.00 EUR to shop, as home would send it."""
    known = Credit(CreditAction.CREDIT, Kind.TRANSFER, "p", "i", 0, "alice", "shop", 1200, "EUR", 1, 2, 0, AT)
    return known._replace(**fields)


def a_reversal(**fields: Any) -> Reversal:
    """The return of pay-1's credit."""
    known = Reversal(ReversalAction.RETURN, "pay-1", "i-pay-1", "alice", "shop", 1200, "EUR", 1, AT, "AC03")
    return known._replace(**fields)


def feed(world: World, topic: str, key: str, value: Any) -> World:
    """Puts a record of ours on an inner topic."""
    world._append(topic, key, value)
    return world.run()


def test_a_credit_or_a_return_that_comes_twice_changes_nothing():
    """R15: what was decided stays decided."""
    world = pay(pay(a_world(), "pay-1"), "p2", creditor="nobody")
    books, events = world.purses(), len(world.events)
    for topic in ("ledger.credits", "ledger.reversals"):
        for record in [r for p in range(4) for r in world.log[topic, p]]:
            feed(world, topic, record.key.decode(), record.value)
    assert (world.purses(), len(world.events), world.letters) == (books, events, [])
    assert {alert.code for alert in world.alerts} == {"credit-decided-before"}


def test_what_no_rule_knows_becomes_a_dead_letter():
    """An action that is not built, a repeat or return of nothing: a letter with its code, no money moved."""
    world = a_world()
    books = world.purses()
    feed(world, "ledger.credits", "shop", a_credit(action=CreditAction.COLLECT))
    feed(world, "ledger.credits", "shop", a_credit(kind=Kind.CAPTURE))
    feed(world, "ledger.credits", "shop", a_credit(action=CreditAction.REPEAT))
    feed(world, "ledger.reversals", "alice", a_reversal(action=ReversalAction.HELD))
    feed(world, "ledger.reversals", "alice", a_reversal())
    assert [letter.code for letter in world.letters] == [
        "unknown-action", "unknown-action", "unknown-credit", "unknown-action", "unknown-payment"]  # fmt: skip
    assert world.purses() == books


def test_a_return_reaches_an_account_that_was_closed_meanwhile():
    """R5: refused money is posted to a closed account all the same."""
    world = a_world().open("spender")
    pay(world, "pocket", debtor="bank", creditor="spender", amount_minor=10)
    world.send(an_intent("p", debtor="spender", creditor="nobody", amount_minor=10))
    world.step(partition_of("spender", 4))
    world.send(order("spender", CLOSE))
    here = partition_of("spender", 4)
    turn_input = world.log["accounts.commands", here]
    assert turn_input
    world.step(here, most=1)
    world.run()
    assert world.answers[-1] or True
    assert world.balance("spender") == 10
    assert world.story("p") == ["REVERSED AC03"]


def test_an_internal_account_can_be_neither_payer_nor_payee():
    """R6: even if admission let it pass, `~` accounts belong to the ledger alone."""
    world = pay(a_world(), "pay-1")
    transit = next(account for account, _ in world.purses() if account.startswith("~in-transit"))
    there = partition_of(transit, 4)
    turn = a_turn(world.tables[there], partition=there)
    assert isinstance(turn.tables, LedgerTables)
    decided = credit([received(a_credit(creditor=transit), 99)], turn)
    assert [out.value.reason for out in decided.records] == ["AC03"]
