"""Matching intents with their answers, in whatever order both are seen."""

import time
from typing import NamedTuple

import pytest

from headrace.fates import Fates
from replay.reader import Raw
from schemas import codec
from schemas.events import Micros, Minor, PaymentEvent, Status


class Report(NamedTuple):
    """A delivery report, as librdkafka's message tells it."""

    where: int
    place: int
    appended_ms: int

    def partition(self):
        return self.where

    def offset(self):
        return self.place

    def timestamp(self):
        return 2, self.appended_ms


def now_ms():
    return time.time_ns() // 1_000_000


def answer(offset, status=Status.COMPLETED, **more):
    event = PaymentEvent(
        f"event-{offset}", "p", "i", 1, status, "ann", "shop", Minor(100), "EUR", Micros(1), intent_offset=offset
    )
    return Raw("payments.events", 0, 0, 1, b"ann", codec.encode(event._replace(**more)), None)


def letter(offset, code="undecodable", topic=b"demo-x.payments.intents"):
    headers = [
        ("__dlq.errors.topic", topic),
        ("__dlq.errors.partition", b"0"),
        ("__dlq.errors.offset", str(offset).encode()),
        ("headrace.error.code", code.encode()),
    ]
    return Raw("dlq.payments.admission", 0, 0, 1, None, b"?", headers)


def delivered(fates, *offsets):
    for offset in offsets:
        fates.note(None, Report(0, offset, now_ms() - 50))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_an_answer_finds_its_intent_whichever_is_seen_first(order):
    """The answer may be read before the producer hears that its intent was delivered."""
    fates = Fates("demo-x.")
    acts = [lambda: delivered(fates, 7), lambda: fates.observe([answer(7)])]
    for act in order:
        acts[act]()
    assert (fates.delivered, fates.answered, fates.waiting) == (1, 1, 0)
    assert 50 <= fates.percentiles_ms()["p50"] < 5_000


def test_a_repeat_and_a_decision_are_answered_at_their_own_offsets():
    """One event answers one record: the repeat's or the decision's, not once more the first one's."""
    fates = Fates("demo-x.")
    delivered(fates, 1, 2, 3)
    fates.observe([answer(1, Status.REVIEW)])
    assert fates.waiting == 2
    fates.observe([answer(1, decided_by_intent_offset=2)])
    fates.observe([answer(1, repeat_intent_offset=3)])
    assert (fates.answered, fates.waiting, fates.repeats, fates.decided) == (3, 0, 1, 1)
    assert dict(fates.by_status) == {"REVIEW": 1, "COMPLETED": 2}


def test_a_dead_letter_of_an_intent_is_its_fate_and_one_of_another_topic_is_not():
    """Only an intent's own dead letter ends the waiting for it; all of them are counted."""
    fates = Fates("demo-x.")
    delivered(fates, 4, 5)
    fates.observe([letter(4), letter(5, "orphan", b"demo-x.ledger.credits")])
    assert (fates.answered, fates.waiting) == (1, 1)
    assert dict(fates.dead_letters) == {"undecodable": 1, "orphan": 1}


def test_a_second_answer_is_counted_but_ends_nothing_twice():
    """A review that ran out adds an event, not an answered intent."""
    fates = Fates("demo-x.")
    delivered(fates, 1)
    fates.observe([answer(1, Status.REVIEW), answer(1, Status.DECLINED, reason="NOAS")])
    assert fates.answered == 1
    assert fates.by_reason["DECLINED", "NOAS"] == 1


def test_latencies_leave_out_reviews_and_dead_letters():
    """p50 to p99 speak of terminal events only."""
    fates = Fates("demo-x.")
    delivered(fates, 1, 2)
    fates.observe([answer(1, Status.REVIEW), letter(2)])
    assert fates.percentiles_ms() == {"p50": 0.0, "p95": 0.0, "p99": 0.0}


def test_a_failed_delivery_is_remembered_with_its_reason():
    """The demo stops with the broker's words."""
    fates = Fates("demo-x.")
    fates.note(RuntimeError("message timed out"), Report(0, 1, 0))
    assert fates.failed == "message timed out"
    assert fates.delivered == 0
