"""Reviews: the hold, who may decide, the deadline."""

import pytest
from builders import AT, a_turn, an_intent
from world import a_review, a_world, decide, order, pay

from schemas.events import AccountAction, Kind, RiskDecision
from schemas.keys import partition_of
from schemas.reasons import Reason
from streams.ledger import expire, next_deadline
from streams.rules import DAY, HOUR, MINUTE

FREEZE, LIMIT, CLOSE, OPEN = AccountAction.FREEZE, AccountAction.LIMIT, AccountAction.CLOSE, AccountAction.OPEN


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
    assert [e.decided_by_intent_id for e in world.events if e.reason == "FRAD"] == ["i-d"]
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
    world = a_review(RiskDecision.STEP_UP)
    assert [e.deadline_at for e in world.events if e.status == "REVIEW"] == [AT + 5 * MINUTE]
    world = a_review(expires_at=AT + 7)
    assert [e.deadline_at for e in world.events if e.status == "REVIEW"] == [AT + 7]


def test_a_hold_older_than_the_freeze_may_be_captured():
    """R4: an APPROVE passes on an account that was frozen after the hold."""
    world = a_review().send(order("alice", FREEZE)).run()
    assert decide(world, Kind.APPROVE).story("pay-1") == ["REVIEW", "COMPLETED"]


def test_expire_says_how_many_deadlines_it_carried_out():
    """The journal needs the number to replay the step."""
    world = a_review()
    home = partition_of("alice", 4)
    turn = a_turn(world.tables[home], partition=home, at=AT + DAY)
    assert expire(turn, 10).deadlines == 1
    assert expire(turn, 10).deadlines == 0
