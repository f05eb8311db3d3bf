"""One thing wrong at a time: each function spoils a right world, and SPOILS says which check must find it."""

from collections.abc import Callable
from typing import Any

from builders import PARTITIONS
from worlds import (
    ANSWERS,
    CREDITS,
    EVENTS,
    INTENTS,
    JOURNAL,
    LETTERS,
    POSTINGS,
    REVERSALS,
    Kept,
    World,
    letter_headers,
    transit,
)

from schemas.events import Direction, Minor, Status
from schemas.keys import partition_of

ALICE, SHOP = (partition_of(name, PARTITIONS) for name in ("alice", "shop"))
JOINS, COUNTS, READABLE = "journal joins", "journal counts", "records are readable"
ONE, TWO, THREE = "1 postings balance", "2 one fate per intent", "3 no overdraft"
FOUR, FIVE, TEN = "4 entry sequences join", "5 same key, same answer", "10 in transit equals undecided"


def entries_of(world: World, offset: int, n: int, **fields: Any) -> None:
    """Changes one entry of alice's posting at `offset`."""
    posting = world.log[POSTINGS, ALICE][offset].value
    entries = list(posting.entries)
    entries[n] = entries[n]._replace(**fields)
    world.change(POSTINGS, ALICE, offset, entries=tuple(entries))


def one_side_is_dearer(world: World) -> None:
    entries_of(world, -1, 1, amount_minor=Minor(1201))


def a_posting_is_empty(world: World) -> None:
    world.change(POSTINGS, ALICE, 1, entries=())


def a_posting_is_lost(world: World) -> None:
    del world.log[POSTINGS, ALICE][-1]


def a_posting_stands_twice(world: World) -> None:
    world.log[POSTINGS, ALICE].append(world.log[POSTINGS, ALICE][-1])


def a_balance_is_wrong(world: World) -> None:
    entries_of(world, -1, 0, debits_posted=1)


def an_entry_number_is_skipped(world: World) -> None:
    entries_of(world, -1, 0, sequence=99)


def a_posting_stands_elsewhere(world: World) -> None:
    away = (ALICE + 1) % PARTITIONS
    posting = world.posting(
        world.ask("p", debtor="zoe")[0], ("alice", Direction.DEBIT, 1), (transit(ALICE), Direction.CREDIT, 1)
    )
    world.step(away, None, [(POSTINGS, away, posting)])


def alice_overspends(world: World) -> None:
    world.pay("too-much", amount_minor=Minor(50_000))


def a_hold_is_more_than_alice_has(world: World) -> None:
    intent, offset = world.ask("too-much", amount_minor=Minor(50_000))
    world.review(intent, offset)


def an_event_is_lost(world: World) -> None:
    partition, offset, _ = world.find(EVENTS, reason="AM04")
    del world.log[EVENTS, partition][offset]


def an_answer_never_came(world: World) -> None:
    world.ask("forgotten")
    world.step(ALICE, INTENTS, [])


def an_answer_came_twice(world: World) -> None:
    partition, _, event = world.find(EVENTS, reason="AM04")
    world.step(ALICE, None, [(EVENTS, partition, event)])


def a_payment_ended_twice(world: World) -> None:
    _, _, event = world.find(EVENTS, reason="AM04")
    world.step(ALICE, None, [(EVENTS, ALICE, event._replace(event_id="another", status=Status.VOIDED))])


def a_review_has_no_deadline(world: World) -> None:
    partition, offset, _ = world.find(EVENTS, payment_id="pay-5", status=Status.REVIEW)
    world.change(EVENTS, partition, offset, deadline_at=None)


def a_letter_for_an_answered_intent(world: World) -> None:
    world.ask("pay-6")
    world.step(ALICE, INTENTS, [], lost="poison")
    intent = world.log[INTENTS, ALICE][-1].value
    world.step(ALICE, None, [(EVENTS, ALICE, world.event(intent, len(world.log[INTENTS, ALICE]) - 1, Status.DECLINED))])


def an_answer_to_nobody(world: World) -> None:
    _, _, event = world.find(EVENTS, reason="AM04")
    world.step(ALICE, None, [(EVENTS, ALICE, event._replace(event_id="ghost", intent_offset=4711))])


def a_repeat_was_answered_twice(world: World) -> None:
    _, _, event = world.find(EVENTS, repeat_intent_id="i-again")
    world.step(SHOP, None, [(EVENTS, ALICE, event)])


def an_event_names_no_intent(world: World) -> None:
    partition, offset, _ = world.find(EVENTS, reason="AM04")
    world.change(EVENTS, partition, offset, intent_offset=None)


def a_repeat_was_paid_again(world: World) -> None:
    world.pay("pay-1", intent_id="i-third")


def a_repeat_got_another_answer(world: World) -> None:
    partition, offset, _ = world.find(EVENTS, repeat_intent_id="i-again")
    world.change(EVENTS, partition, offset, event_id="something else")


def a_conflict_was_paid(world: World) -> None:
    world.pay("pay-1", intent_id="i-fourth", amount_minor=Minor(1400))


def a_conflict_was_answered_like_a_repeat(world: World) -> None:
    _, _, first = world.find(EVENTS, payment_id="pay-1", status=Status.COMPLETED)
    _, asked = world.ask_again(first, "pay-1", "i-fifth", amount_minor=Minor(1500))
    world.say_again(first, asked)


def a_conflict_moved_money_unseen(world: World) -> None:
    other, offset = world.ask("pay-1", intent_id="i-sixth", amount_minor=Minor(1))
    world.answer(other, world.event(other, offset, Status.DECLINED, reason="AM05"))
    posting = world.posting(other, ("alice", Direction.DEBIT, 1), (transit(ALICE), Direction.CREDIT, 1))
    world.step(ALICE, None, [(POSTINGS, ALICE, posting)])


def an_answer_changed_after_the_end(world: World) -> None:
    _, _, review = world.find(EVENTS, payment_id="pay-4", status=Status.REVIEW)
    again, offset = world.ask("pay-4", intent_id="i-late")
    world.answer(again, review._replace(repeat_intent_id="i-late", repeat_intent_offset=offset))


def a_debit_has_no_credit(world: World) -> None:
    intent, offset = world.ask("pay-7")
    world.send(intent, offset)
    world.log[CREDITS, SHOP].pop()


def a_credit_was_read_and_dropped(world: World) -> None:
    intent, offset = world.ask("pay-7")
    world.send(intent, offset)
    world.step(SHOP, CREDITS, [])


def a_credit_was_applied_twice(world: World) -> None:
    intent, offset = world.ask("pay-7")
    credit = world.send(intent, offset)
    world.apply(intent, credit)
    event = world.event(intent, offset, Status.COMPLETED)
    moves = ((transit(SHOP), Direction.DEBIT, 1200), ("shop", Direction.CREDIT, 1200))
    world.step(SHOP, None, [(POSTINGS, SHOP, world.posting(intent, *moves)), (EVENTS, ALICE, event)])


def a_return_was_read_and_dropped(world: World) -> None:
    intent, offset = world.ask("pay-8", creditor="nobody")
    world.refuse(intent, world.send(intent, offset))
    world.step(ALICE, REVERSALS, [])


def a_credit_was_sent_twice(world: World) -> None:
    intent, offset = world.ask("pay-9")
    credit = world.send(intent, offset)
    world.step(ALICE, None, [(CREDITS, SHOP, credit)])


def a_credit_was_applied_and_returned(world: World) -> None:
    back = world.find(REVERSALS, payment_id="pay-3")[2]
    world.step(SHOP, None, [(REVERSALS, ALICE, back._replace(payment_id="pay-1", creditor="shop"))])


def a_credit_was_returned_twice(world: World) -> None:
    back = world.find(REVERSALS, payment_id="pay-3")[2]
    world.step(partition_of(back.creditor, PARTITIONS), None, [(REVERSALS, ALICE, back)])


def an_outcome_is_of_another_amount(world: World) -> None:
    partition, offset, _ = world.find(EVENTS, payment_id="pay-1", status=Status.COMPLETED)
    world.change(EVENTS, partition, offset, amount_minor=Minor(1))


def a_step_is_lost(world: World) -> None:
    del world.log[JOURNAL, ALICE][2]


def a_step_stands_twice(world: World) -> None:
    world.log[JOURNAL, ALICE].append(world.log[JOURNAL, ALICE][-1])


def time_went_back(world: World) -> None:
    world.change(JOURNAL, ALICE, 3, at=1)


def an_input_was_read_twice(world: World) -> None:
    step = world.log[JOURNAL, ALICE][-1].value
    world.change(JOURNAL, ALICE, -1, inputs=(step.inputs[0]._replace(first_offset=0),))


def an_answer_to_a_command_is_lost(world: World) -> None:
    world.log[ANSWERS, ALICE].pop()


def a_stranger_wrote(world: World) -> None:
    world.append(EVENTS, ALICE, world.find(EVENTS, reason="AM04")[2])


def a_letter_is_lost(world: World) -> None:
    world.log[LETTERS, ALICE].pop()


def a_letter_names_another_input(world: World) -> None:
    kept = world.log[LETTERS, ALICE][0]
    world.log[LETTERS, ALICE][0] = Kept(kept.value, letter_headers(INTENTS, ALICE, 0, "truncated"))


def an_event_is_nonsense(world: World) -> None:
    world.log[EVENTS, ALICE][0] = Kept(b"\0nonsense")


SPOILS: list[tuple[Callable[[World], None], str, str]] = [
    (one_side_is_dearer, ONE, "money was made or lost"),
    (a_posting_is_empty, ONE, "no entries"),
    (a_posting_is_lost, COUNTS, "records were lost"),
    (a_posting_stands_twice, COUNTS, "records without their step"),
    (a_balance_is_wrong, FOUR, "do not follow"),
    (an_entry_number_is_skipped, FOUR, "found 99"),
    (a_posting_stands_elsewhere, FOUR, "two writers"),
    (alice_overspends, THREE, "account alice was opened NO_OVERDRAFT"),
    (a_hold_is_more_than_alice_has, THREE, "holds of 5"),
    (an_event_is_lost, TWO, "pay-2"),
    (an_answer_never_came, TWO, "payment forgotten: was read by a step and has no fate"),
    (an_answer_came_twice, TWO, "found 2: DECLINED and DECLINED"),
    (a_payment_ended_twice, TWO, "found 2: DECLINED and VOIDED"),
    (a_review_has_no_deadline, TWO, "without a deadline"),
    (a_letter_for_an_answered_intent, TWO, "DECLINED and DEAD_LETTER"),
    (an_answer_to_nobody, TWO, "4711"),
    (a_repeat_was_answered_twice, TWO, "REPEATED and REPEATED"),
    (an_event_names_no_intent, TWO, "names no intent offset"),
    (a_repeat_was_paid_again, FIVE, "one payment judged twice"),
    (a_repeat_got_another_answer, FIVE, "got event something else"),
    (a_conflict_was_paid, FIVE, "a second payment under one key"),
    (a_conflict_was_answered_like_a_repeat, FIVE, "another answer"),
    (a_conflict_moved_money_unseen, FIVE, "moves money for"),
    (an_answer_changed_after_the_end, FIVE, "(REVIEW)"),
    (a_debit_has_no_credit, TEN, "nobody will credit or return"),
    (a_credit_was_read_and_dropped, TEN, "stay in transit for ever"),
    (a_credit_was_applied_twice, TEN, "paid out twice"),
    (a_return_was_read_and_dropped, TEN, "ledger.reversals"),
    (a_credit_was_sent_twice, TEN, "money was sent twice"),
    (a_credit_was_applied_and_returned, TEN, "was applied too"),
    (a_credit_was_returned_twice, TEN, "was given back before"),
    (an_outcome_is_of_another_amount, TEN, "another payment's outcome"),
    (a_step_is_lost, JOINS, "a step was lost"),
    (a_step_stands_twice, JOINS, "committed twice"),
    (time_went_back, JOINS, "time went back"),
    (an_input_was_read_twice, JOINS, "records read twice"),
    (an_answer_to_a_command_is_lost, COUNTS, "accounts.events"),
    (a_stranger_wrote, COUNTS, "records without their step"),
    (a_letter_is_lost, COUNTS, "dlq.payments.admission"),
    (a_letter_names_another_input, COUNTS, "no dead letter"),
    (an_event_is_nonsense, READABLE, "payments.events partition"),
]
