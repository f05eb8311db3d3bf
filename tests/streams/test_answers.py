"""Answers: repeats, conflicts, and how long keys are kept."""

import orjson
import pytest
from builders import an_intent
from world import a_review, a_world, decide, pay

from schemas.events import Kind, PaymentState, RiskDecision
from streams.rules import DAY, HOUR, Rules

REPEATS = (
    ("completed", {}, "COMPLETED", RiskDecision.APPROVE),
    ("reversed", {"creditor": "nobody"}, "REVERSED", RiskDecision.APPROVE),
    ("declined", {"amount_minor": 5001}, "DECLINED", RiskDecision.APPROVE),
    ("held", {}, "REVIEW", RiskDecision.REVIEW),
    ("unusable id", {"payment_id": "", "intent_id": "i-pay-1"}, "DECLINED", RiskDecision.APPROVE),
    ("unknown account", {"debtor": "nobody"}, "DECLINED", RiskDecision.APPROVE),
)


@pytest.mark.parametrize(
    ("name", "fields", "status", "verdict"), REPEATS, ids=lambda v: v if isinstance(v, str) else ""
)
@pytest.mark.parametrize("hours", [0, 23, 25, 24 * 80])
def test_a_repeat_gets_the_same_answer_and_moves_nothing(name, fields, status, verdict, hours):
    """R19, R21: same event, same id and sequence, with the repeating intent on it; past 24 h the ledger knows the key."""
    # The key of an intent without a payment row is kept for 24 h (R21).
    hours = min(hours, 23) if "payment_id" in fields else hours
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


def test_intents_with_long_texts_can_not_blow_up_a_payments_row():
    """A row is one record of the changelog, which Kafka bounds; each such intent still gets its answer again (R21)."""
    world = a_world()
    long = "\0" * 8000
    tries = [
        an_intent(idempotency_key=f"k{n}", intent_id=f"{n}{long}", creditor=long, currency=long) for n in range(64)
    ]
    world.send(*tries).run()
    (row,) = [row for t in world.tables for key, row in t.payments.rows.items() if key.endswith("pay-1")]
    assert len(orjson.dumps(row, default=tuple)) < 200_000
    world.send(*(t._replace(intent_id=f"again-{n}") for n, t in enumerate(tries))).run()
    pairs = [(e.intent_id, e.repeat_intent_id) for e in world.events if e.repeat_intent_id]
    assert sorted(pairs) == sorted((t.intent_id, f"again-{n}") for n, t in enumerate(tries))


def test_a_longer_key_window_outlives_the_row_of_a_payment_in_transit():
    """R21: what is declined while a row has fewer days left than keys are bound for is kept beside it."""
    world = pay(a_world(Rules(key_window=30 * DAY)), "pay-1")
    world.at += 80 * DAY
    pay(world, "pay-1", idempotency_key="late", intent_id="late")
    world.at += 15 * DAY
    pay(world, "pay-1", idempotency_key="late", intent_id="again")
    first, again = [e for e in world.events if e.intent_id == "late"]
    assert (first.reason, again.event_id, again.repeat_intent_id) == ("DU03", first.event_id, "again")


def test_the_state_of_a_declined_intent_is_the_living_payments():
    """R16: DECLINED is the fate of one intent; the payment's state stays what it was."""
    world = pay(a_review(), "pay-1", idempotency_key="new", intent_id="new")
    assert [(e.reason, e.payment_state) for e in world.events if e.intent_id == "new"] == [
        ("DU03", PaymentState.REVIEW)
    ]


def test_a_rejected_payment_that_begins_again_keeps_its_first_answer():
    """R19, R21: the keys of the first life are answered with its end, not with the second life's."""
    world = decide(a_review(), Kind.REJECT)
    pay(world, "pay-1", idempotency_key="new", intent_id="new")
    pay(world, "pay-1", intent_id="again")
    assert world.story("pay-1") == ["REVIEW", "DECLINED FRAD", "DECLINED FRAD", "COMPLETED"]
    assert [e.reason for e in world.events if e.repeat_intent_id == "again"] == ["FRAD"]
