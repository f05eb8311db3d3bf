"""Money on its way: the first leg at home, the second at the creditor's partition, and the way back.

Rules R6, R13, R15 and R19; invariants 1 and 10.
"""

from collections.abc import Sequence

from schemas.events import (
    Credit,
    CreditAction,
    EntryCode,
    Kind,
    Micros,
    PaymentEvent,
    PaymentState,
    Posting,
    Reversal,
    ReversalAction,
    Status,
)
from schemas.reasons import Reason
from streams.answers import give_again, story
from streams.books import (
    CLOSED,
    CREDITS,
    CREDITS_POSTED,
    DEBITS_POSTED,
    DECISIONS,
    EVENTS,
    INTERNAL,
    KINDS,
    MERCHANT,
    NO_CREDITS,
    POSTINGS,
    REVERSALS,
    ROOM_MOST,
    AccountRow,
    CreditRow,
    LedgerTables,
    Move,
    PaymentRow,
    credit_key,
    internal,
    lacks_room,
    payment_key,
    post,
    purse_of,
    two_ids,
)
from streams.fees import fee_moves, lacks_room_for
from streams.limits import limit_key, uncount
from streams.rules import DAY
from streams.tables import new
from streams.turn import Alert, Decided, Letter, Out, Received, Turn

LedgerTurn = Turn[LedgerTables]
# An enum's member costs more to look up than a name.
_TRANSFER, _PRINCIPAL = Kind.TRANSFER, EntryCode.PRINCIPAL
_CREDIT, _REPEAT = CreditAction.CREDIT, CreditAction.REPEAT
_COMPLETED, _COMPLETED_STATE = Status.COMPLETED, PaymentState.COMPLETED
_BUILT = (_CREDIT, _REPEAT)


def in_transit(currency: str, turn: LedgerTurn) -> str:
    """The partition's in-transit account in a currency."""
    return internal("in-transit", currency, turn.partition, turn.partitions)


def first_leg(debtor: str, row: PaymentRow, turn: LedgerTurn) -> tuple[Move, Move]:
    """The moves that debit the payer and put the money in transit."""
    return (
        (debtor, _PRINCIPAL, DEBITS_POSTED, row.amount_minor, row.creditor, None),
        (in_transit(row.currency, turn), _PRINCIPAL, CREDITS_POSTED, row.amount_minor, None, None),
    )


def posting_of(row: PaymentRow, names: tuple[str, str, str], moves: Sequence[Move], turn: LedgerTurn) -> Out:
    """Posts at home; `names`: posting id, debtor, payment id."""
    posting_id, debtor, payment_id = names
    entries = post(turn.tables.accounts, row.currency, moves)
    posting = new(Posting, (
        posting_id, payment_id, turn.at, 0, entries, row.intent_id, debtor, row.risk_score, DECISIONS[row.risk_decision],
    ))  # fmt: skip
    return new(Out, (POSTINGS, debtor, posting, turn.partition))


def second_leg(
    row: PaymentRow, debtor: str, payment_id: str, turn: LedgerTurn, repeat: tuple[str, int] | None = None
) -> Out:
    """The credit of a payment that is SENT, or for a repeat (intent id, offset) the question behind it."""
    repeat_id, repeat_offset = repeat or (None, None)
    decided_by, decided_by_offset = row.decided_by or (None, None)
    credit = new(Credit, (
        _REPEAT if repeat else _CREDIT, KINDS[row.kind], payment_id, row.intent_id,
        row.intent_offset, debtor, row.creditor, row.amount_minor, row.currency, row.outcome, row.outcome + 1,
        turn.partition, turn.at, row.expires_at, row.risk_score, DECISIONS[row.risk_decision],
        tuple(row.risk_reasons), row.risk_version, row.alias_version, decided_by, decided_by_offset, repeat_id, repeat_offset,
    ))  # fmt: skip
    return new(Out, (CREDITS, row.creditor, credit, None))


def credit(batch: Sequence[Received], turn: LedgerTurn) -> Decided:
    """What the creditor's partition does with the second leg: applies it, or refuses it and sends the money back.

    A credit that was decided before changes nothing. Letters: `unknown-action`, `unknown-credit`.
    """
    decided = Decided()
    tables = turn.tables
    values = [received.value for received in batch]
    keys = [credit_key(value) for value in values]
    tables.accounts.prefetch([value.creditor for value in values])
    tables.credits.prefetch(keys)
    for received, value, key in zip(batch, values, keys, strict=True):
        action = value.action
        if value.kind != _TRANSFER or action not in _BUILT:
            decided.letters.append(_not_built(received, f"{action} of {value.kind}"))
            continue
        row = tables.credits.get(key)
        if row is not None and row.until <= turn.at:
            row = None
        if action == _REPEAT:
            _repeat(received, row, turn, decided)
        elif row is None:
            _decide(received, key, turn, decided.records)
        else:
            decided.alerts.append(_decided_before(received))
    return decided


def _decided_before(received: Received) -> Alert:
    return Alert(
        "credit-decided-before",
        f"{received.topic} partition {received.partition} offset {received.offset}: the credit of payment "
        f"{received.value.payment_id} had been decided before and changed nothing; `headrace audit` tells what is wrong",
    )


def _not_built(received: Received, action: str) -> Letter:
    return Letter(
        received,
        "unknown-action",
        f"This release has no rule for {action}. Money may stand in transit: "
        "redrive the letter with a release that knows it.",
    )


def _decide(received: Received, key: str, turn: LedgerTurn, records: list[Out]) -> None:
    """Applies or refuses one credit, and remembers which (R15)."""
    value: Credit = received.value
    at, partition = turn.at, turn.partition
    # A day longer than home keeps the payment: home's last repeat still finds it.
    until = at + turn.rules.payment_kept + DAY
    account = turn.tables.accounts.get(value.creditor)
    transit = in_transit(value.currency, turn)
    merchant = account is not None and account.flags & MERCHANT
    fees = fee_moves(value.creditor, value.amount_minor, value.currency, turn) if merchant else ()
    refused = _refusal(value, account, transit, turn)
    if refused is None and fees and lacks_room_for(fees, value.currency, turn):
        refused = Reason.AM12
    if refused is not None:
        turn.tables.credits.put(key, CreditRow(until, at, None, refused))
        records.append(_reversal(value, ReversalAction.RETURN, refused, at))
        return
    amount, settled = value.amount_minor, value.settled_sequence if merchant else None
    moves = (
        (transit, _PRINCIPAL, DEBITS_POSTED, amount, None, None),
        (value.creditor, _PRINCIPAL, CREDITS_POSTED, amount, value.debtor, settled),
        *fees,
    )
    entries = post(turn.tables.accounts, value.currency, moves)
    posting_id, event_id = two_ids("credit", CREDITS, partition, received.offset)
    posting = new(Posting, (
        posting_id, value.payment_id, at, 0 if settled is None else 1, entries, value.intent_id,
        value.debtor, value.risk_score, value.risk_decision,
    ))  # fmt: skip
    turn.tables.credits.put(key, new(CreditRow, (until, at, event_id, None)))
    records.append(new(Out, (POSTINGS, value.creditor, posting, partition)))
    records.append(new(Out, (EVENTS, value.debtor, _completed(value, event_id, at), value.home_partition)))


def _refusal(value: Credit, account: AccountRow | None, transit: str, turn: LedgerTurn) -> Reason | None:
    """The second leg's guards, in their order."""
    if account is None or account.flags & INTERNAL:
        return Reason.AC03
    if account.flags & CLOSED:
        return Reason.AC04
    if account.flags & NO_CREDITS:
        return Reason.AC06
    purse = purse_of(account, value.currency)
    if purse is None:
        return Reason.AM03
    if value.expires_at is not None and value.expires_at <= turn.at:
        return Reason.TM01
    if purse[CREDITS_POSTED] + value.amount_minor > ROOM_MOST:
        return Reason.AM12
    if lacks_room(turn.tables.accounts, transit, DEBITS_POSTED, value.amount_minor):
        return Reason.AM12
    return None


def _completed(value: Credit, event_id: str, at: Micros) -> PaymentEvent:
    """The outcome's event; for a REPEAT the same one, with the repeating intent on it."""
    return new(PaymentEvent, (
        event_id, value.payment_id, value.intent_id, value.sequence, _COMPLETED, value.debtor, value.creditor,
        value.amount_minor, value.currency, at, None, value.risk_score, value.risk_decision, value.risk_reasons,
        None, value.repeat_intent_id, value.decided_by_intent_id, value.alias_version, _COMPLETED_STATE,
        value.risk_version, value.intent_offset, value.repeat_intent_offset, value.decided_by_intent_offset,
    ))  # fmt: skip


def _reversal(value: Credit, action: ReversalAction, reason: str | None, at: Micros) -> Out:
    reversal = Reversal(
        action, value.payment_id, value.intent_id, value.debtor, value.creditor, value.amount_minor, value.currency,
        value.sequence, at, reason, value.repeat_intent_id, value.repeat_intent_offset,
    )  # fmt: skip
    return Out(REVERSALS, value.debtor, reversal, value.home_partition)


def _repeat(received: Received, row: CreditRow | None, turn: LedgerTurn, decided: Decided) -> None:
    """Gives the outcome again, or sends the question home behind the RETURN (R15)."""
    value: Credit = received.value
    if row is None:
        message = "The credit that this repeat asks for was never decided here; redrive its dead letter first."
        decided.letters.append(Letter(received, "unknown-credit", message))
    elif row.event_id is None:
        decided.records.append(_reversal(value, ReversalAction.REPEAT, row.reason, turn.at))
    else:
        event = _completed(value, row.event_id, row.decided_at)
        decided.records.append(Out(EVENTS, value.debtor, event, value.home_partition))


def give_back(batch: Sequence[Received], turn: LedgerTurn) -> Decided:
    """What home does with a refused credit: the money goes back, whatever the account's state (R5).

    An answer that was carried out before changes nothing. Letters: `unknown-action`, `unknown-payment`.
    """
    decided = Decided()
    for received in batch:
        value: Reversal = received.value
        if value.action not in {ReversalAction.RETURN, ReversalAction.REPEAT}:
            decided.letters.append(_not_built(received, value.action))
            continue
        row = turn.tables.payments.get(payment_key(value.debtor, value.payment_id))
        if row is None or not _awaits(row, value):
            decided.letters.append(_unknown(received))
        elif value.action == ReversalAction.RETURN:
            if row.state == PaymentState.SENT:
                _return(received, row, turn, decided.records)
        elif row.event is None:
            decided.letters.append(_unknown(received))
        else:
            again = give_again(row.event, value.repeat_intent_id, value.repeat_intent_offset, turn.partition)
            decided.records.append(again)
    return decided


def _awaits(row: PaymentRow, value: Reversal) -> bool:
    """Whether this is the payment that the answer is about, not one that took its id later."""
    asked = (value.sequence, value.intent_id, value.creditor, value.amount_minor, value.currency)
    return asked == (row.outcome, row.intent_id, row.creditor, row.amount_minor, row.currency) and row.state in {
        PaymentState.SENT,
        PaymentState.REVERSED,
    }


def _unknown(received: Received) -> Letter:
    message = (
        "No payment here waits for this answer, so it was not carried out; "
        "look the payment up before the letter is redriven."
    )
    return Letter(received, "unknown-payment", message)


def _return(received: Received, row: PaymentRow, turn: LedgerTurn, records: list[Out]) -> None:
    value: Reversal = received.value
    partition, debtor, payment_id = turn.partition, value.debtor, value.payment_id
    posting_id, event_id = two_ids("return", REVERSALS, partition, received.offset)
    moves = (
        (in_transit(row.currency, turn), EntryCode.RETURN, DEBITS_POSTED, row.amount_minor, None, None),
        (debtor, EntryCode.RETURN, CREDITS_POSTED, row.amount_minor, row.creditor, None),
    )
    records.append(posting_of(row, (posting_id, debtor, payment_id), moves, turn))
    give_room_back(debtor, row, turn)
    number = row.sequence
    until = turn.at + turn.rules.payment_kept
    row = row._replace(state=PaymentState.REVERSED, sequence=row.outcome, until=until, counted=0)
    event = story(row, (event_id, debtor, payment_id), Status.REVERSED, value.reason, turn.at)
    turn.tables.payments.put(payment_key(debtor, payment_id), row._replace(sequence=number, event=event))
    records.append(Out(EVENTS, debtor, event, partition))


def give_room_back(debtor: str, row: PaymentRow, turn: LedgerTurn) -> None:
    """The payment no longer counts against its payer's limits (R26)."""
    if row.counted:
        uncount(turn.tables, limit_key(debtor, row.currency), row.amount_minor, (row.booked_at, row.counted))
