"""Notification: who is told, in which order, how often, and when nobody is told any more."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from notified import AT, DELIVERED, FAILED, GONE, SLOW_DOWN, Notified, an_event

from schemas.events import Status
from schemas.internal import Attempt, AttemptAction, DeliveryState
from schemas.keys import partition_of
from streams.notification import AT_ONCE, EventHead, asked_for, wait_of
from streams.notification_rules import EndpointRule, NotificationRules, notification_rules
from streams.rules import Rules
from topologies.engine.identity import settings_json
from topologies.topics import ATTEMPTS, DELIVERIES, EVENTS, JOURNAL

RESEND, ENABLE, DISABLE = AttemptAction.RESEND, AttemptAction.ENABLE, AttemptAction.DISABLE


# (endpoint, event, whether it is told)
WANTS = [
    (EndpointRule("hook"), an_event(), True),
    (EndpointRule("hook", types=("payment.completed",)), an_event(), True),
    (EndpointRule("hook", types=("payment.declined",)), an_event(), False),
    (EndpointRule("hook", accounts=("alice",)), an_event(), True),
    (EndpointRule("hook", accounts=("shop",)), an_event(), True),
    (EndpointRule("hook", accounts=("bob",)), an_event(), False),
    (EndpointRule("hook", types=("payment.completed",), accounts=("bob",)), an_event(), False),
    (EndpointRule("hook", enabled=False), an_event(), False),
    (EndpointRule("hook"), an_event(repeat_intent_id="i-again"), False),
]


@pytest.mark.parametrize(("endpoint", "event", "told"), WANTS)
def test_an_endpoint_is_told_what_it_asked_for(endpoint, event, told):
    """By type and account; what is given again is no news (R19)."""
    assert bool(Notified(endpoint).tell(event).due) is told


def test_an_event_of_a_type_that_nobody_asks_for_is_not_even_read():
    """Most endpoints want a few types; without an endpoint no event is read whole."""
    started = [status for status in Status if asked_for(Rules(notification=NotificationRules(())))(EventHead(status))]
    assert started == []
    rules = NotificationRules(
        (EndpointRule("a", types=("payment.settled", "payment.declined")), EndpointRule("b", enabled=False))
    )
    wanted = asked_for(Rules(notification=rules))
    assert [status for status in Status if wanted(EventHead(status))] == [Status.DECLINED, Status.SETTLED]
    everything = asked_for(Rules(notification=NotificationRules((*rules.endpoints, EndpointRule("c")))))
    assert all(everything(EventHead(status)) for status in Status)


def test_a_delivery_says_all_that_the_call_needs():
    """The event's words, the attempt, and the time of the step; it stands where the payment's debtor lives."""
    world = Notified().tell(an_event(reason="AM04", status=Status.DECLINED))
    (delivery,) = world.due
    assert (delivery.endpoint, delivery.number, delivery.attempt, delivery.decided_at) == ("hook", 1, 1, AT)
    event = an_event(reason="AM04", status=Status.DECLINED)
    for name in ("event_id", "payment_id", "sequence", "status", "debtor", "creditor", "amount_minor", "reason"):
        assert getattr(delivery, name) == getattr(event, name), name
    (stored,) = world.memory.stored(DELIVERIES)
    assert (stored.partition, stored.key) == (partition_of("alice", 4), b"alice")


def test_the_next_event_of_a_payment_waits_for_success_and_other_payments_do_not():
    """R40: one at a time per endpoint and payment."""
    world = Notified().tell(an_event(sequence=1), an_event(sequence=2), an_event("pay-2"))
    assert world.calls() == [("pay-1", 1, 1), ("pay-2", 1, 1)]
    world.answer(world.due[0])
    assert world.calls() == [("pay-1", 1, 1), ("pay-2", 1, 1), ("pay-1", 2, 1)]
    world.answer(world.due[1]).answer(world.due[2])
    assert world.queues() == 0
    assert not world.rows("waiting")


def test_two_endpoints_do_not_wait_for_each_other():
    """Each has its own queue."""
    world = Notified(EndpointRule("one"), EndpointRule("two")).tell(an_event(sequence=1), an_event(sequence=2))
    world.answer(world.due[0])
    assert world.calls("one") == [("pay-1", 1, 1), ("pay-1", 2, 1)]
    assert world.calls("two") == [("pay-1", 1, 1)]


def test_a_failed_call_is_made_again_after_its_wait_and_not_before():
    """R39: the wait of the attempt, and a jitter that comes from the event."""
    world = Notified().tell(an_event())
    event_id = world.due[0].event_id
    waits = world.rules.waits_s
    for failures in (1, 2):
        wait = wait_of(event_id, failures, waits)
        assert waits[failures] * 1_000_000 <= wait <= waits[failures] * 1_100_000
        world.answer(world.due[-1], FAILED)
        world.wait((wait - 1) / 1_000_000)
        assert world.calls()[-1] == ("pay-1", 1, failures)
        world.wait(0.000001)
        assert world.calls()[-1] == ("pay-1", 1, failures + 1)
    assert [one.event_id for one in world.due] == [event_id] * 3


def test_the_jitter_spreads_and_never_comes_from_chance():
    """Another event, or another attempt, another moment; the same ones always the same."""
    waits = NotificationRules().waits_s
    found = {(n, failures): wait_of(f"{n:032x}", failures, waits) for n in range(50) for failures in range(1, 10)}
    assert len({found[n, 5] for n in range(50)}) == 50
    assert found == {(n, failures): wait_of(f"{n:032x}", failures, waits) for n, failures in found}
    assert wait_of("0" * 32, 1, waits) == 5_432_930


def test_behind_the_last_attempt_a_delivery_is_parked_and_the_next_event_goes_out():
    """R39, R40: three attempts here, ten by default."""
    world = Notified().tell(an_event(sequence=1), an_event(sequence=2))
    for _ in range(3):
        world.answer(world.due[-1], FAILED)
        world.wait(400)
    assert world.parked == [("pay-1", 1, "attempts-used")]
    assert world.calls()[-1] == ("pay-1", 2, 1)
    assert len(NotificationRules().waits_s) == 10


def test_an_outcome_that_was_taken_before_changes_nothing():
    """The gateway may say a thing twice, or late."""
    world = Notified().tell(an_event(sequence=1), an_event(sequence=2))
    first = world.due[0]
    world.answer(first, FAILED).answer(first, FAILED).answer(first)
    assert world.calls() == [("pay-1", 1, 1)]
    world.wait(6)
    assert world.calls() == [("pay-1", 1, 1), ("pay-1", 1, 2)]
    world.answer(first)
    assert len(world.due) == 2
    world.answer(world.due[1]).answer(world.due[1], GONE)
    assert world.calls()[2:] == [("pay-1", 2, 1)]
    assert not world.parked


def test_an_endpoint_that_is_gone_gets_nothing_until_it_is_enabled():
    """R39: 410 disables; its deliveries are parked, by hand they go out again."""
    world = Notified().tell(an_event(sequence=1), an_event(sequence=2), an_event("pay-2"))
    world.answer(world.due[0], GONE)
    assert world.parked == [("pay-1", 1, "endpoint-disabled"), ("pay-1", 2, "endpoint-disabled")]
    world.tell(an_event("pay-3"))
    assert world.parked[2:] == [("pay-3", 1, "endpoint-disabled")]
    world.answer(world.due[1], FAILED).wait(6)
    assert world.parked[3:] == [("pay-2", 1, "endpoint-disabled")]
    assert world.queues() == 0
    world.command(ENABLE).tell(an_event("pay-4"))
    assert world.calls()[-1] == ("pay-4", 1, 1)
    parked = next(one for one in world.all if one.payment_id == "pay-3")
    world.command(RESEND, resend=parked)
    assert world.calls()[-1] == ("pay-3", 1, 1)
    assert world.due[-1].parked_for is None


def test_what_an_endpoint_disabled_by_hand_holds_is_parked():
    """DISABLE is for people, and for partitions that hear of a 410 on another one."""
    world = Notified(window=1).tell(an_event("pay-1"), an_event("pay-2"), an_event("pay-3"))
    assert len(world.due) == 1
    world.command(DISABLE)
    assert [one[0] for one in world.parked] == ["pay-2", "pay-3"]
    world.answer(world.due[0])
    assert world.queues() == 0


def test_a_resend_is_sent_once_more_and_pressing_twice_does_it_once():
    """It stands behind what its payment has waiting; one that waits for its next attempt goes at once."""
    world = Notified().tell(an_event())
    done = world.due[0]
    world.answer(done)
    world.command(RESEND, resend=done).command(RESEND, resend=done)
    assert world.calls() == [("pay-1", 1, 1)] * 2
    world.answer(world.due[1], FAILED)
    world.command(RESEND, resend=done).command(RESEND, resend=done)
    assert world.calls()[2:] == [("pay-1", 1, 2)]
    world.tell(an_event(sequence=2))
    second = world.due[0]._replace(event_id=an_event(sequence=2).event_id, sequence=2)
    world.command(RESEND, resend=second)
    world.answer(world.due[-1])
    world.answer(world.due[-1])
    assert [call[:2] for call in world.calls()[3:]] == [("pay-1", 2)]
    assert world.queues() == 0
    world.wait(400)
    assert not world.rows("due")


def test_a_resend_that_makes_no_sense_is_a_dead_letter():
    """Nobody is called for it."""
    world = Notified().tell(an_event())
    delivery = world.due[0]
    world.command(RESEND)
    world.command(RESEND, endpoint="other", resend=delivery)
    world.memory.publish(*_misplaced(delivery))
    world.memory.run()
    world.command(AttemptAction.UNKNOWN)
    codes = [letter.code for letter in world.memory.letters]
    assert sorted(codes) == ["bad-resend"] * 5 + ["unknown-action"] * 4 + ["wrong-partition"]
    assert len(world.due) == 1


def _misplaced(delivery):
    wrong = (partition_of(delivery.debtor, 4) + 1) % 4
    return ATTEMPTS, "alice", Attempt("hook", RESEND, AT, resend=delivery), wrong


def test_only_a_window_of_deliveries_is_out_and_an_answer_makes_room():
    """A dead endpoint fills no topic and no memory but a table's."""
    world = Notified(window=3).tell(*(an_event(f"pay-{n}") for n in range(10)))
    assert len(world.due) == 3
    for n in range(10):
        world.answer(world.due[n])
        assert len(world.due) == min(10, n + 4)
    assert [call[0] for call in world.calls()] == [f"pay-{n}" for n in range(10)]
    assert not world.rows("lines")
    assert world.endpoint.out == 0


def test_a_slow_endpoint_is_left_alone_as_long_as_it_asks():
    """429 with Retry-After: nothing goes out to it, then the line goes on; bounded at an hour."""
    world = Notified().tell(an_event("pay-1"))
    world.answer(world.due[0], SLOW_DOWN, retry_after_s=60)
    world.tell(an_event("pay-2"), an_event("pay-3", debtor="bob"))
    assert sorted(world.calls()) == [("pay-1", 1, 1), ("pay-3", 1, 1)]
    world.wait(59)
    assert len(world.due) == 2
    world.wait(2)
    assert sorted(world.calls()) == [("pay-1", 1, 1), ("pay-1", 1, 2), ("pay-2", 1, 1), ("pay-3", 1, 1)]
    world = Notified().tell(an_event("pay-1"))
    world.answer(world.due[0], SLOW_DOWN, retry_after_s=10**9).tell(an_event("pay-2"))
    world.wait(3_601)
    assert world.calls()[1:] == [("pay-2", 1, 1)]
    world.wait(86_400)
    assert world.calls()[2:] == [("pay-1", 1, 2)]


def test_a_slow_endpoint_without_a_number_gets_half_a_minute():
    """502 and 504 seldom say how long."""
    world = Notified().tell(an_event("pay-1"))
    world.answer(world.due[0], SLOW_DOWN).wait(29)
    assert len(world.due) == 1
    world.wait(2)
    assert world.calls()[1:] == [("pay-1", 1, 2)]


def test_a_long_line_of_a_disabled_endpoint_is_parked_step_by_step():
    """However long the line, a step stays bounded."""
    many = AT_ONCE + 10
    world = Notified(window=1).tell(*(an_event(f"pay-{n}") for n in range(many)))
    assert world.endpoint.next == many - 1
    world.command(DISABLE)
    assert len(world.parked) == many - 1
    assert world.endpoint.first == many - 1
    (partition,) = {one.partition for one in world.memory.stored(DELIVERIES)}
    steps = [one for one in world.memory.records(JOURNAL) if one.outputs and one.outputs[0].partition == partition]
    assert max(out.records for step in steps for out in step.outputs) <= AT_ONCE


def test_what_waits_for_an_endpoint_that_was_taken_out_of_the_file_is_parked():
    """Nobody knows where to call."""
    world = Notified().tell(an_event(sequence=1), an_event(sequence=2))
    world.memory._rules = Rules()
    world.answer(world.due[0], FAILED).wait(6)
    assert world.parked == [("pay-1", 1, "endpoint-unknown"), ("pay-1", 2, "endpoint-unknown")]
    assert world.queues() == 0


def test_an_account_that_two_endpoints_ask_for_is_told_to_each_once():
    """Also where one asks for both sides; in the order of the file."""
    world = Notified(
        EndpointRule("z", accounts=("shop", "alice")), EndpointRule("y", accounts=("bob",)), EndpointRule("x"),
        EndpointRule("w", accounts=("shop",)),
    )  # fmt: skip
    world.tell(an_event())
    assert [one.endpoint for one in world.due] == ["z", "x", "w"]


def test_without_endpoints_nothing_is_kept():
    """The role costs next to nothing where nobody wants to be told."""
    world = Notified()
    world.memory._rules = Rules()
    world.tell(an_event())
    assert not world.all
    assert not world.rows("queues")


ACTIONS = st.sampled_from([DELIVERED, DELIVERED, FAILED, SLOW_DOWN])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=25), st.lists(ACTIONS, max_size=60), st.integers(1, 4))
def test_whatever_an_endpoint_answers_each_event_is_told_in_order_or_parked(payments, answers, window):
    """Per payment the events go out in order, never two at a time; each ends in success or parking."""
    world = Notified(window=window)
    for sequence, n in enumerate(payments):
        world.tell(an_event(f"pay-{n}", sequence, debtor=f"debtor-{n % 3}"))
    ended = []
    script = iter(answers)
    done = 0
    while True:
        due = world.due
        if done == len(due):
            if not world.queues():
                break
            world.wait(400)
            assert len(world.due) > done, "what waits goes on"
            continue
        delivery = due[done]
        done += 1
        action = next(script, DELIVERED)
        world.answer(delivery, action)
        if action == DELIVERED:
            ended.append((delivery.payment_id, delivery.sequence))
    ended += [parked[:2] for parked in world.parked]
    assert sorted(ended) == sorted((f"pay-{n}", sequence) for sequence, n in enumerate(payments))
    told = {}
    for delivery in world.due:
        told.setdefault(delivery.payment_id, []).append(delivery.sequence)
    assert all(sequences == sorted(sequences) for sequences in told.values())
    for table in ("queues", "waiting", "lines", "due"):
        left = [row for row in world.rows(table) if table != "due" or row.debtor]
        assert not left, table
    assert all(row.out == 0 for row in world.rows("endpoints"))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(1, 5))
def test_the_same_records_in_other_batches_give_the_same_deliveries(payments, batch):
    """A restart cuts batches elsewhere; what goes out stays the same, byte for byte."""
    events = [an_event(f"pay-{n}", sequence) for sequence, n in enumerate(payments)]
    one, other = Notified(window=2), Notified(window=2)
    one.tell(*events)
    for event in events:
        other.memory.publish(EVENTS, event.debtor, event)
    other.memory.run(batch=batch)
    for world in (one, other):
        for delivery in world.due[:2]:
            world.answer(delivery, FAILED)
        world.wait(400)
    assert [s.value for s in one.memory.stored(DELIVERIES)] == [s.value for s in other.memory.stored(DELIVERIES)]


def test_the_rules_come_back_from_their_json_as_they_were():
    """A replay runs with the endpoints of then."""
    rules = NotificationRules((EndpointRule("hook", ("payment.completed",), ("shop",)),), (0, 1), 7)
    told = orjson.loads(settings_json(Rules(notification=rules)))
    assert notification_rules(told["notification"]) == rules


def test_rows_come_back_from_their_json_as_good_as_they_were():
    """A queue that was read from the store goes on as one that was just written."""
    world = Notified().tell(an_event(sequence=1), an_event(sequence=2))
    for partition in range(4):
        for table in world.memory.plan.tables():
            rows = world.memory.table(table.name, partition)
            for key, row in rows.items():
                rows[key] = table.row(*orjson.loads(orjson.dumps(row, default=tuple)))
    world.answer(world.due[0], FAILED).wait(6)
    world.answer(world.due[1])
    assert world.calls() == [("pay-1", 1, 1), ("pay-1", 1, 2), ("pay-1", 2, 1)]
    assert {one.state for one in world.all} == {DeliveryState.DUE}
