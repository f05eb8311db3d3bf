"""The staircase of R10 as the ledger walks it."""

import inspect
import re
from typing import Any, NamedTuple

import pytest
from builders import AT, a_command, an_intent
from world import a_review, a_world, decide, order, pay

from schemas.events import (
    AccountAction,
    Kind,
    RiskDecision,
)
from schemas.keys import partition_of
from schemas.reasons import Reason
from streams import accounts, answers, ledger, limits, reviews, transit, twins
from streams.admission import owner_key
from streams.rules import Rules
from streams.turn import AliasOwner

FREEZE, LIMIT, CLOSE, OPEN = AccountAction.FREEZE, AccountAction.LIMIT, AccountAction.CLOSE, AccountAction.OPEN


class Row(NamedTuple):
    """A case: what was done before, the intent's fields, and the reason of its end."""

    reason: str
    guard: str
    before: tuple[Any, ...] = ()
    fields: dict[str, Any] = {}  # noqa: RUF012
    verdict: RiskDecision = RiskDecision.APPROVE


MUCH = {"amount_minor": 9_999}


ROWS = (
    Row(Reason.AM05, "1 key", (an_intent(amount_minor=1),), {"debtor": "alice", "amount_minor": 2}),
    Row(Reason.AM01, "2 form", (), {"amount_minor": 0, "debtor": "nobody"}),
    Row(Reason.AG01, "2 kind", (), {"kind": Kind.REFUND, "debtor": "nobody"}),
    Row(Reason.TM01, "3 late", (), {"expires_at": AT, "debtor": "nobody"}),
    Row(
        Reason.DU03, "4 id taken", (an_intent(amount_minor=1, idempotency_key="other"), order("alice", FREEZE)),
        MUCH | {"creditor": "", "creditor_alias": "EMAIL:no@x.org"}, RiskDecision.DECLINE,
    ),
    Row(
        Reason.DU03, "4 id taken, own alias", (an_intent(amount_minor=1, idempotency_key="other"),),
        {"creditor": "", "creditor_alias": "EMAIL:alice@x.org"},
    ),
    Row(Reason.SAME_ACCOUNT, "6 own alias", (order("alice", FREEZE),), {"creditor": "", "creditor_alias": "EMAIL:alice@x.org"}),
    Row(Reason.BE23, "6 alias", (), MUCH | {"debtor": "nobody", "creditor": "", "creditor_alias": "EMAIL:no@x.org"}),
    Row(Reason.AC02, "7 unknown", (), MUCH | {"debtor": "nobody"}, RiskDecision.DECLINE),
    Row(
        Reason.AC04, "7 closed", (a_command("gone"), order("gone", FREEZE), order("gone", CLOSE)),
        MUCH | {"debtor": "gone", "currency": "USD"}, RiskDecision.DECLINE,
    ),
    Row(Reason.AC06, "7 blocked", (order("alice", FREEZE),), MUCH | {"currency": "USD"}, RiskDecision.DECLINE),
    Row(
        Reason.AM03, "7 currency", (order("alice", LIMIT, max_payment_minor=0),), MUCH | {"currency": "USD"},
        RiskDecision.DECLINE,
    ),
    Row(
        Reason.AM02, "8 one payment",
        (order("alice", LIMIT, max_payment_minor=9_998, window_s=3600, max_amount_minor=0),), MUCH,
        RiskDecision.DECLINE,
    ),
    Row(
        Reason.AM14, "8 window", (order("alice", LIMIT, window_s=3600, max_amount_minor=9_998),), MUCH,
        RiskDecision.DECLINE,
    ),
    Row(Reason.AM14, "8 count", (order("alice", LIMIT, window_s=86400, max_count=0),), MUCH, RiskDecision.DECLINE),
    Row(Reason.FRAD, "9 risk", (), MUCH, RiskDecision.DECLINE),
    Row(Reason.AM04, "10 funds", (), {"amount_minor": 5_001}),
    Row(Reason.AM04, "10 funds of a review", (), {"amount_minor": 5_001}, RiskDecision.REVIEW),
)  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.guard)
def test_the_lowest_guard_that_fails_gives_the_reason(row: Row):
    """R10: an intent that fails several guards is declined with the lowest one's reason, and moves no money."""
    world = a_world()
    world.aliases[owner_key("EMAIL:alice@x.org", partition_of("EMAIL:alice@x.org", 4))] = AliasOwner("alice", 1)
    for value in row.before:
        world.send(value).run()
    before = world.purses()
    pay(world.verdict("i-last", row.verdict), "pay-1", **({"intent_id": "i-last"} | row.fields))
    ended = [event for event in world.events if event.intent_id == "i-last"]
    assert [(e.status, e.reason) for e in ended] == [("DECLINED", row.reason)]
    assert world.purses() == before
    assert not world.letters


MORE = (
    (a_world(Rules(duplicate_window_s={"QR": 60})), [an_intent("a", channel="QR"), an_intent("b", channel="QR")]),
    (a_world(), [an_intent(creditor="nobody"), an_intent("b", debtor="bank", amount_minor=1, expires_at=AT + 1)]),
    (a_world(), [a_command(command_id="x"), a_command(command_id="x", currency="USD"), a_command("z", currency="XXX")]),
    (a_world(), [a_command("z", flags=("RICH",)), a_command("z", command_id=""), order("alice", CLOSE)]),
    (a_review(), [an_intent("unknown", kind=Kind.APPROVE, decided_by="ana")]),
    (a_review(), [an_intent(kind=Kind.APPROVE, decided_by="alice", idempotency_key="d")]),
    (decide(a_review(), Kind.REJECT), [an_intent(kind=Kind.APPROVE, decided_by="ana", idempotency_key="e")]),
    (a_review(expires_at=AT + 1), []),
)


def test_every_reason_of_the_ledger_has_a_row_that_reaches_it():
    """A new reason in the ledger's code comes with the case that produces it; AM12 has its own in test_transit."""
    reached = {str(row.reason) for row in ROWS} | {"AM12"}
    for world, values in MORE:
        world.send(*values)
        world.step(partition_of("bank", 4))
        world.at += 1
        world.run()
        reached |= {told.reason for told in (*world.events, *world.answers)}
    modules = (accounts, answers, ledger, limits, reviews, transit, twins)
    words = {word for module in modules for word in re.findall(r"Reason\.(\w+)", inspect.getsource(module))}
    assert {str(Reason[word]) for word in words} <= reached
