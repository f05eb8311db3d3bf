"""The ledger: it alone ends an intent, moves money, and keeps the answers.

`obey` answers account commands, `debit` walks the staircase of R10 at home, `credit` decides the
second leg at the creditor's partition, `give_back` brings refused money home, `expire` ends reviews
whose deadline has passed. The rows and the one way to post are in `streams/books.py`.
"""

from collections.abc import Sequence

from schemas.events import Intent, Kind, PaymentState, RiskDecision
from schemas.reasons import Reason
from streams import limits, twins
from streams.accounts import obey
from streams.answers import alias_of, conflict, decline, give_again, key_in, keys_before, live, own_answer
from streams.books import (
    CLOSED,
    CREDITS_POSTED,
    DEBITS_PENDING,
    DEBITS_POSTED,
    INTENTS,
    INTERNAL,
    LIMITED,
    NO_DEBITS,
    NO_OVERDRAFT,
    ROOM_MOST,
    TABLES,
    AccountRow,
    LedgerTables,
    LimitRow,
    PaymentRow,
    lacks_room,
    payment_key,
    purse_of,
    two_ids,
)
from streams.reviews import approve, expire, next_deadline, open_review, refusal, reject, run_out
from streams.tables import new
from streams.transit import LedgerTurn, credit, first_leg, give_back, in_transit, posting_of, second_leg
from streams.turn import Decided, Out, Screened

__all__ = ("TABLES", "LedgerTables", "credit", "debit", "expire", "give_back", "next_deadline", "obey")

# An enum's member costs more to look up than a name.
_REVIEWED = (RiskDecision.REVIEW, RiskDecision.STEP_UP)
_SENT, _TRANSFER, _DECLINE = PaymentState.SENT, Kind.TRANSFER, RiskDecision.DECLINE


def debit(batch: Sequence[Screened], turn: LedgerTurn) -> Decided:
    """Gives every intent its fate, or sends its money on the way (R10, in that order)."""
    decided = Decided()
    records = decided.records
    payments = turn.tables.payments
    intents = [screened.admitted.intent for screened in batch]
    keys = [payment_key(intent.debtor, intent.payment_id) for intent in intents]
    payments.prefetch(keys)
    turn.tables.accounts.prefetch([intent.debtor for intent in intents])
    for screened, key in zip(batch, keys, strict=True):
        row = payments.get(key)
        if row is not None:
            row = _at(screened.admitted.intent, row, turn, records)
        _judge(screened, row, turn, records)
    return decided


def _at(intent: Intent, row: PaymentRow, turn: LedgerTurn, records: list[Out]) -> PaymentRow | None:
    """The row as it stands at `at`: a deadline that has passed is carried out first (R12)."""
    if row.state == PaymentState.REVIEW and row.deadline_at is not None and row.deadline_at <= turn.at:
        return run_out(intent.debtor, intent.payment_id, row, turn, records)
    return live(row, turn.at)


def _judge(screened: Screened, row: PaymentRow | None, turn: LedgerTurn, records: list[Out]) -> None:
    """Guard 1 and admission's marks; then what each kind has its own steps for."""
    admitted = screened.admitted
    key = None if row is None else key_in(row, admitted.key_digest)
    mark = admitted.refusal
    if admitted.conflicts or (key is not None and key[1] != admitted.fingerprint):
        records.append(conflict(screened, row, turn))
    elif row is not None and key is not None:
        records.append(_again(screened, row, key, turn))
    elif admitted.repeats:
        records.append(own_answer(admitted.received, admitted, turn))
    elif mark is not None and mark != Reason.BE23 and admitted.alias_version is None:  # guards 2 and 3
        records.append(decline(screened, row, mark, turn))
    elif admitted.intent.kind == _TRANSFER:
        _transfer(screened, row, turn, records)
    else:
        _decide(screened, row, turn, records)


def _again(screened: Screened, row: PaymentRow, key: Sequence[object], turn: LedgerTurn) -> Out:
    """The answer to a repeat: the kept event, or the creditor's partition is asked for it (R19)."""
    intent, offset = screened.admitted.intent, screened.admitted.received.offset
    event = key[2] or row.event
    if event is not None:
        assert isinstance(event, Sequence), event
        return give_again(event, intent.intent_id, offset, turn.partition)
    assert row.state == PaymentState.SENT, row.state
    return second_leg(row, intent.debtor, intent.payment_id, turn, (intent.intent_id, offset))


def _decide(screened: Screened, row: PaymentRow | None, turn: LedgerTurn, records: list[Out]) -> None:
    """APPROVE and REJECT; their fate is the event that they cause (R27). Other kinds are not built yet."""
    kind = screened.admitted.intent.kind
    if kind not in {Kind.APPROVE, Kind.REJECT}:
        records.append(decline(screened, row, Reason.AG01, turn))
        return
    no = refusal(screened, row, turn)
    if no is not None:
        records.append(decline(screened, row, no, turn))
        return
    assert row is not None, "guard 4 knows the payment"
    (approve if kind == Kind.APPROVE else reject)(screened, row, turn, records)


def _transfer(screened: Screened, row: PaymentRow | None, turn: LedgerTurn, records: list[Out]) -> None:
    """Guards 4 to 10; behind them nothing fails."""
    intent = screened.admitted.intent
    account = turn.tables.accounts.get(intent.debtor)
    limit: LimitRow | None = None
    if account is not None and account.flags & LIMITED:
        limit = turn.tables.limits.get(limits.limit_key(intent.debtor, intent.currency))
    no = _refusal(screened, row, account, limit, turn)
    if no is not None:
        records.append(decline(screened, row, no, turn))
        return
    # From here on the money is held or debited.
    begun = _begun(screened, row, turn)
    if limit is not None:
        begun = begun._replace(counted=limit.generation)
        counted = limits.count(limit, intent.amount_minor, turn.at)
        turn.tables.limits.put(limits.limit_key(intent.debtor, intent.currency), counted)
    if turn.rules.duplicate_window_s:
        twins.note(intent, turn)
    if screened.risk_decision in _REVIEWED:
        open_review(screened, begun, turn, records)
        return
    debtor, payment_id = intent.debtor, intent.payment_id
    names = (two_ids("intent", INTENTS, turn.partition, begun.intent_offset)[0], debtor, payment_id)
    records.append(posting_of(begun, names, first_leg(debtor, begun, turn), turn))
    turn.tables.payments.put(payment_key(debtor, payment_id), begun)
    records.append(second_leg(begun, debtor, payment_id, turn))


def _refusal(
    screened: Screened, row: PaymentRow | None, account: AccountRow | None, limit: LimitRow | None, turn: LedgerTurn
) -> str | None:
    """Guards 4 to 10 of a TRANSFER, in this order: the lowest one that fails gives the reason."""
    intent = screened.admitted.intent
    amount = intent.amount_minor
    if row is not None and row.kind and row.state != PaymentState.DECLINED:
        return Reason.DU03
    if turn.rules.duplicate_window_s and twins.found(intent, turn):
        return Reason.DUPL
    if screened.admitted.refusal is not None:
        return screened.admitted.refusal  # guard 6: the alias, nobody's or the debtor's own
    if account is None:
        return Reason.AC02
    if account.flags & CLOSED:
        return Reason.AC04
    if account.flags & NO_DEBITS:
        return Reason.AC06
    purse = purse_of(account, intent.currency)
    if purse is None:
        return Reason.AM03
    if account.flags & INTERNAL:
        return Reason.AG01
    if limit is not None and (over := limits.check(limit, amount, turn.at)) is not None:
        return over
    if screened.risk_decision == _DECLINE:
        return Reason.FRAD
    debits = purse[DEBITS_POSTED] + purse[DEBITS_PENDING] + amount
    if account.flags & NO_OVERDRAFT and debits > purse[CREDITS_POSTED]:
        return Reason.AM04
    full = lacks_room(turn.tables.accounts, in_transit(intent.currency, turn), CREDITS_POSTED, amount)
    return Reason.AM12 if full or debits > ROOM_MOST else None


def _begun(screened: Screened, row: PaymentRow | None, turn: LedgerTurn) -> PaymentRow:
    """The row of a payment that sets out; one that was DECLINED before keeps its numbers and keys."""
    admitted, score, decision, reasons, version = screened
    received, intent, digest, fingerprint, _, _, _, alias_version = admitted
    keys: list[Sequence[object]] = [[digest, fingerprint, None]]
    outcome = 1
    if row is not None:
        keys = [*keys_before(row, turn), *keys]
        outcome = row.sequence + 1
    return new(PaymentRow, (
        _SENT, intent.kind, intent.creditor, alias_of(intent), intent.amount_minor, intent.currency,
        intent.intent_id, received.offset, keys, outcome + 1, turn.at + turn.rules.payment_kept, outcome, turn.at, 0,
        None, score, decision, reasons, version, alias_version, intent.expires_at, None, None,
    ))  # fmt: skip
