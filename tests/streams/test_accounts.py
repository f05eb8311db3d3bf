"""Account commands: each gets one answer, and does what it says once."""

import pytest
from builders import AT, a_command, a_turn, an_intent, memory, received
from world import World

from schemas.events import AccountAction, RiskDecision
from schemas.reasons import Reason
from streams.ledger import TABLES, LedgerTables, obey
from streams.rules import DAY, Rules

OPEN, CLOSE, FREEZE, UNFREEZE, LIMIT = (
    AccountAction(word) for word in ("OPEN", "CLOSE", "FREEZE", "UNFREEZE", "LIMIT")
)


def order(command: AccountAction, account: str = "alice", **fields):
    """A command that opens nothing."""
    return a_command(account, **({"command": command, "command_id": "c", "flags": ()} | fields))


CLOSED = (a_command(), order(CLOSE, command_id="close"))
CASES = (
    ("opened", (), a_command(), None),
    ("with no flags", (), a_command(flags=()), None),
    ("another currency", (a_command(),), a_command(command_id="c", currency="JPY"), None),
    ("another currency, no flags", (a_command(),), a_command(command_id="c", currency="JPY", flags=()), None),
    ("other flags", (a_command(),), a_command(command_id="c", currency="JPY", flags=("MERCHANT",)), Reason.BAD_FLAGS),
    ("held already", (a_command(),), a_command(command_id="c"), Reason.ACCOUNT_EXISTS),
    ("unknown flag", (), a_command(flags=("RICH",)), Reason.BAD_FLAGS),
    ("no such currency", (), a_command(currency="XXX"), Reason.AM11),
    ("an internal id", (), a_command("~in-transit/EUR/0-0"), Reason.AG01),
    ("unknown command", (a_command(),), order(AccountAction.UNKNOWN), Reason.BAD_FORM),
    ("no command id", (), a_command(command_id=""), Reason.BAD_FORM),
    ("close", (a_command(),), order(CLOSE), None),
    ("close with flags", (a_command(),), order(CLOSE, flags=("NO_DEBITS",)), Reason.BAD_FLAGS),
    ("close unknown", (), order(CLOSE), Reason.AC02),
    ("freeze unknown", (), order(FREEZE), Reason.AC02),
    ("limit unknown", (), order(LIMIT, max_payment_minor=1), Reason.AC02),
    ("open closed", CLOSED, a_command(command_id="c"), Reason.AC04),
    ("close closed", CLOSED, order(CLOSE), Reason.AC04),
    ("unfreeze closed", CLOSED, order(UNFREEZE), Reason.AC04),
    ("freeze half", (a_command(),), order(FREEZE, flags=("NO_CREDITS",)), None),
    ("freeze so", (a_command(),), order(FREEZE, flags=("MERCHANT",)), Reason.BAD_FLAGS),
    ("limit", (a_command(),), order(LIMIT, window_s=3600, max_count=1), None),
    ("limit of no window", (a_command(),), order(LIMIT, max_count=1), Reason.BAD_FORM),
    ("limit of an odd window", (a_command(),), order(LIMIT, window_s=60, max_count=1), Reason.BAD_FORM),
    ("negative limit", (a_command(),), order(LIMIT, max_payment_minor=-1), Reason.BAD_FORM),
    ("limit with flags", (a_command(),), order(LIMIT, flags=("NO_DEBITS",)), Reason.BAD_FLAGS),
    ("limit of another currency", (a_command(),), order(LIMIT, currency="USD", max_payment_minor=1), Reason.AM03),
)


@pytest.mark.parametrize(("name", "before", "command", "reason"), CASES, ids=[case[0] for case in CASES])
def test_every_command_gets_one_answer(name, before, command, reason):
    """Accepted, or refused with the reason; never more than one answer, never a letter."""
    world = World().send(*before).run()
    count = len(world.answers)
    world.send(command).run()
    assert len(world.answers) == count + 1
    (answer,) = [a for a in world.answers if a.command_id == command.command_id][-1:]
    assert (answer.accepted, answer.reason, answer.account) == (reason is None, reason, command.account)
    assert not world.letters


def test_a_command_that_comes_again_is_answered_again_and_not_done_again():
    """Within 24 h the same id gets the same answer; with another body it is refused, and nothing changes."""
    freeze = order(FREEZE, command_id="f")
    world = World().send(a_command(), freeze, order(UNFREEZE, command_id="u")).run()
    world.at += 5
    world.send(freeze, freeze._replace(command=CLOSE)).run()
    told = [(a.accepted, a.reason, a.occurred_at) for a in world.answers if a.command_id == "f"]
    assert told == [(True, None, AT), (True, None, AT), (False, "AM05", AT + 5)]
    world.open("shop", "bank", flags=())
    assert world.send(an_intent()).run().story("pay-1") == ["COMPLETED"] or world.story("pay-1") == ["DECLINED AM04"]
    world.at += DAY
    world.send(freeze).run()
    assert world.answers[-1].accepted
    assert world.send(an_intent("p2")).run().story("p2") == ["DECLINED AC06"]


def test_an_account_closes_only_when_it_is_empty_and_nothing_is_held():
    """R5: a balance or an open review makes it busy; afterwards it closes."""
    world = World().open("shop").open("alice").open("bank", flags=("DEBIT_NORMAL",))
    world.send(an_intent("in", debtor="bank", creditor="alice", amount_minor=10)).run()
    world.send(order(CLOSE, command_id="1")).run()
    world.verdict("i-out", RiskDecision.REVIEW).send(an_intent("out", amount_minor=10)).run()
    world.send(order(CLOSE, command_id="2")).run()
    world.send(an_intent("out", kind="APPROVE", idempotency_key="a", decided_by="ana")).run()
    world.send(order(CLOSE, command_id="3")).run()
    answers = {a.command_id: a.reason for a in world.answers if a.command_id in "123"}
    assert answers == {"1": "account-busy", "2": "account-busy", "3": None}


LETTERS = (
    ("key-mismatch", received(a_command(), key=b"bob")),
    ("key-mismatch", received(a_command(), key=None)),
    ("bad-account", received(a_command("a" * 256))),
    ("bad-account", received(a_command(""))),
    ("pan-refused", received(a_command("4111111111111111"))),
    ("wrong-partition", received(a_command(), partition=(received(a_command()).partition + 1) % 4)),
)


@pytest.mark.parametrize(("code", "record"), LETTERS)
def test_what_breaks_the_contract_becomes_a_dead_letter(code, record):
    """R10 guard 0: a letter with its code, no answer, and the account is not in the message."""
    turn = a_turn(memory(LedgerTables, TABLES), partition=record.partition)
    decided = obey([record], turn)
    assert [letter.code for letter in decided.letters] == [code]
    assert not decided.records
    assert not record.value.account or record.value.account not in decided.letters[0].message


def test_the_pan_guard_can_be_switched_off():
    """R44: a bank with numeric account ids may open them."""
    record = received(a_command("4111111111111111"))
    turn = a_turn(memory(LedgerTables, TABLES), partition=record.partition, rules=Rules(pan_guard=False))
    assert obey([record], turn).records[0].value.accepted
