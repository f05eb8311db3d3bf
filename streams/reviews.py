"""Reviews: money held until somebody says yes or no, or the deadline says no (R10, R12, R27)."""

from schemas.events import EntryCode, Kind, Micros, Minor, PaymentState, RiskDecision, Status
from schemas.reasons import Reason
from streams.answers import same_creditor, story, with_key
from streams.books import (
    CREDITS_PENDING,
    CREDITS_POSTED,
    DEBITS_PENDING,
    EVENTS,
    INTENTS,
    DeadlineRow,
    LedgerTables,
    Move,
    PaymentRow,
    deadline_key,
    internal,
    lacks_room,
    payment_key,
    two_ids,
)
from streams.transit import LedgerTurn, first_leg, give_room_back, in_transit, posting_of, second_leg
from streams.turn import Decided, Out, Screened

STEP_UP = "step_up"


def _hold(debtor: str, row: PaymentRow, amount_minor: Minor, turn: LedgerTurn) -> tuple[Move, Move]:
    """The moves of a hold; a negative amount releases it."""
    holds = internal("holds", row.currency, turn.partition, turn.partitions)
    return (
        (debtor, EntryCode.HOLD, DEBITS_PENDING, amount_minor, row.creditor, None),
        (holds, EntryCode.HOLD, CREDITS_PENDING, amount_minor, None, None),
    )


def open_review(screened: Screened, row: PaymentRow, turn: LedgerTurn, records: list[Out]) -> None:
    """Holds the whole amount and waits; neither review nor step-up lasts past `expires_at`."""
    intent = screened.admitted.intent
    debtor, payment_id, rules = intent.debtor, intent.payment_id, turn.rules
    wait = rules.step_up_deadline if screened.risk_decision == RiskDecision.STEP_UP else rules.review_deadline
    deadline_at = Micros(turn.at + wait)
    if intent.expires_at is not None and intent.expires_at < deadline_at:
        deadline_at = intent.expires_at
    posting_id, event_id = two_ids("intent", INTENTS, turn.partition, screened.admitted.received.offset)
    # The first number reserved for the outcome goes to REVIEW; approval reserves new ones.
    row = row._replace(state=PaymentState.REVIEW, deadline_at=deadline_at, until=None, sequence=row.outcome, outcome=0)
    names = (posting_id, debtor, payment_id)
    records.append(posting_of(row, names, _hold(debtor, row, row.amount_minor, turn), turn))
    event = story(row, (event_id, debtor, payment_id), Status.REVIEW, None, turn.at)
    turn.tables.deadlines.put(deadline_key(deadline_at, debtor, payment_id), DeadlineRow(debtor, payment_id))
    turn.tables.payments.put(payment_key(debtor, payment_id), row._replace(event=event))
    records.append(Out(EVENTS, debtor, event, turn.partition))


def refusal(screened: Screened, row: PaymentRow | None, turn: LedgerTurn) -> Reason | None:
    """Guards of an APPROVE or REJECT, in the order of R10. Its amount is not read."""
    intent = screened.admitted.intent
    if not intent.decided_by:
        return Reason.BAD_FORM
    if row is None or not row.kind:
        return Reason.AG09
    if not same_creditor(intent, row):
        return Reason.AC03
    if intent.currency != row.currency:
        return Reason.AM03
    if row.state != PaymentState.REVIEW:
        return Reason.WRONG_STATE
    if intent.kind == Kind.REJECT:
        return None
    payer = intent.decided_by == intent.debtor
    if row.risk_decision == RiskDecision.STEP_UP:
        if not payer or intent.method != STEP_UP:
            return Reason.NOT_ALLOWED
    elif payer:
        return Reason.NOT_ALLOWED
    if lacks_room(turn.tables.accounts, in_transit(row.currency, turn), CREDITS_POSTED, row.amount_minor):
        return Reason.AM12
    return None


def approve(screened: Screened, row: PaymentRow, turn: LedgerTurn, records: list[Out]) -> None:
    """The hold becomes the debit, in one posting, and the money sets out."""
    admitted = screened.admitted
    intent, offset = admitted.intent, admitted.received.offset
    debtor, payment_id = intent.debtor, intent.payment_id
    _forget_deadline(debtor, payment_id, row, turn)
    outcome = row.sequence + 1
    row = row._replace(
        state=PaymentState.SENT, deadline_at=None, event=None, outcome=outcome, sequence=outcome + 1,
        until=turn.at + turn.rules.payment_kept, decided_by=[intent.intent_id, offset], keys=with_key(row, admitted),
    )  # fmt: skip
    moves = (*_hold(debtor, row, Minor(-row.amount_minor), turn), *first_leg(debtor, row, turn))
    names = (two_ids("intent", INTENTS, turn.partition, offset)[0], debtor, payment_id)
    records.append(posting_of(row, names, moves, turn))
    turn.tables.payments.put(payment_key(debtor, payment_id), row)
    records.append(second_leg(row, debtor, payment_id, turn))


def reject(screened: Screened, row: PaymentRow, turn: LedgerTurn, records: list[Out]) -> None:
    """The hold is released; the payment is DECLINED with FRAD."""
    admitted = screened.admitted
    intent, offset = admitted.intent, admitted.received.offset
    row = row._replace(decided_by=[intent.intent_id, offset], keys=with_key(row, admitted))
    ids = two_ids("intent", INTENTS, turn.partition, offset)
    _end((intent.debtor, intent.payment_id), row, (*ids, Reason.FRAD), turn, records)


def run_out(debtor: str, payment_id: str, row: PaymentRow, turn: LedgerTurn, records: list[Out]) -> PaymentRow:
    """The deadline has passed: the hold is released, DECLINED with NOAS. Gives the payment's new row."""
    ids = two_ids("deadline", INTENTS, turn.partition, row.intent_offset)
    return _end((debtor, payment_id), row, (*ids, Reason.NOAS), turn, records)


def _end(
    payment: tuple[str, str], row: PaymentRow, how: tuple[str, ...], turn: LedgerTurn, records: list[Out]
) -> PaymentRow:
    """Ends a review without a debit; `payment`: debtor, payment id; `how`: posting id, event id, reason."""
    debtor, payment_id = payment
    posting_id, event_id, reason = how
    _forget_deadline(debtor, payment_id, row, turn)
    moves = _hold(debtor, row, Minor(-row.amount_minor), turn)
    records.append(posting_of(row, (posting_id, debtor, payment_id), moves, turn))
    give_room_back(debtor, row, turn)
    row = row._replace(
        state=PaymentState.DECLINED, deadline_at=None, sequence=row.sequence + 1, counted=0,
        until=turn.at + turn.rules.payment_kept,
    )  # fmt: skip
    event = story(row, (event_id, debtor, payment_id), Status.DECLINED, reason, turn.at)
    row = row._replace(event=event)
    turn.tables.payments.put(payment_key(debtor, payment_id), row)
    records.append(Out(EVENTS, debtor, event, turn.partition))
    return row


def _forget_deadline(debtor: str, payment_id: str, row: PaymentRow, turn: LedgerTurn) -> None:
    assert row.deadline_at is not None, "a review has a deadline"
    turn.tables.deadlines.delete(deadline_key(row.deadline_at, debtor, payment_id))


def expire(turn: LedgerTurn, most: int) -> Decided:
    """Carries out at most `most` deadlines that have passed, by (deadline, debtor, payment id) (R12)."""
    decided = Decided()
    tables = turn.tables
    for _, (debtor, payment_id) in tables.deadlines.first(f"{turn.at + 1:020d}", most):
        row = tables.payments.get(payment_key(debtor, payment_id))
        assert row is not None, "a deadline stands for an open review"
        assert row.state == PaymentState.REVIEW, row.state
        run_out(debtor, payment_id, row, turn, decided.records)
        decided.deadlines += 1
    return decided


def next_deadline(tables: LedgerTables) -> int | None:
    """The earliest deadline in µs, or None."""
    for key, _ in tables.deadlines.first("~", 1):
        return int(key[:20])
    return None
