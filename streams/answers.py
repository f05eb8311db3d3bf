"""Answers: the events that end an intent, kept so that they can be given again (R19, R21)."""

from collections.abc import Sequence
from typing import Any

from schemas.aliases import normal_alias
from schemas.events import Intent, Kind, Micros, Minor, PaymentEvent, PaymentState, Status
from schemas.reasons import Reason
from streams.books import DECISIONS, EVENTS, INTENTS, AnswerRow, PaymentRow, payment_key, two_ids
from streams.rules import DAY, HOUR
from streams.turn import Admitted, Out, Received, Screened, Turn

KEYS_MOST = 64
"""Keys that a payment's row keeps; those of later intents are kept as long as admission's (R21)."""
TEXT_MOST = 255
"""Characters of a text in an answer that a payment's row keeps: 64 of them must fit into one changelog record."""

AnyTurn = Turn[Any]


def event_of(values: Sequence[Any]) -> PaymentEvent:
    """An event as it was written, from the row that kept it."""
    event = PaymentEvent(*values)
    return event._replace(risk_reasons=tuple(event.risk_reasons))


def give_again(values: Sequence[Any], intent_id: str | None, offset: int | None, partition: int) -> Out:
    """The kept event once more, for the intent that repeats."""
    event = event_of(values)._replace(repeat_intent_id=intent_id, repeat_intent_offset=offset)
    return Out(EVENTS, event.debtor, event, partition)


def live(row: PaymentRow | None, at: int) -> PaymentRow | None:
    """The row, or None where it means nothing any more."""
    return None if row is None or (row.until is not None and row.until <= at) else row


def key_in(row: PaymentRow, key_digest: str) -> Sequence[Any] | None:
    """The entry of an idempotency key among those of the payment's intents."""
    for key in row.keys:
        if key[0] == key_digest:
            return key
    return None


def with_key(row: PaymentRow, admitted: Admitted) -> Sequence[Sequence[Any]]:
    """The row's keys and this intent's, which shares the payment's story."""
    return [*row.keys, [admitted.key_digest, admitted.fingerprint, None]]


def keys_before(row: PaymentRow, turn: AnyTurn) -> Sequence[Sequence[Any]]:
    """The keys of a DECLINED payment that begins again: what shared its story now has its own answer."""
    keys = [[digest, fingerprint, event or row.event] for digest, fingerprint, event in row.keys]
    spare = len(keys) - KEYS_MOST // 2 if len(keys) >= KEYS_MOST else 0
    until = turn.at + turn.rules.key_window + HOUR
    for digest, fingerprint, event in keys[:spare]:
        turn.tables.answers.put(digest, AnswerRow(fingerprint, event, until))
    return keys[spare:]


def story(row: PaymentRow, names: tuple[str, str, str], status: Status, reason: str | None, at: Micros) -> PaymentEvent:
    """An event of the payment's own story, as `row` says; `names`: event id, debtor, payment id."""
    event_id, debtor, payment_id = names
    decided_by, decided_by_offset = row.decided_by or (None, None)
    return PaymentEvent(
        event_id, payment_id, row.intent_id, row.sequence, status, debtor, row.creditor, row.amount_minor,
        row.currency, at, reason, row.risk_score, DECISIONS[row.risk_decision], tuple(row.risk_reasons),
        row.deadline_at, None, decided_by, row.alias_version, PaymentState(row.state), row.risk_version,
        row.intent_offset, None, decided_by_offset,
    )  # fmt: skip


def alias_of(intent: Intent) -> str | None:
    """The alias by which the intent names its payee, in normal form where it has one."""
    alias = intent.creditor_alias
    return None if alias is None else normal_alias(alias) or alias


def same_creditor(intent: Intent, row: PaymentRow) -> bool:
    """Whether an intent on a known payment names the same payee: by the same alias, else by the account (R23)."""
    if intent.creditor_alias is not None:
        return alias_of(intent) == row.creditor_alias
    return intent.creditor == row.creditor


def decline(screened: Screened, row: PaymentRow | None, reason: str, turn: AnyTurn) -> Out:
    """DECLINED: the fate of this one intent (R16). Its key is bound to it, the payment lives on."""
    admitted = screened.admitted
    intent = admitted.intent
    event = _declined(screened, row, reason, turn)
    if not _usable(intent):
        _keep_apart(admitted, event, turn)
        return Out(EVENTS, intent.debtor, event, turn.partition)
    row = _numbered(row, intent, event, turn)
    until = row.until
    ends_soon = until is not None and until < turn.at + turn.rules.key_window + DAY
    if len(row.keys) >= KEYS_MOST or ends_soon or not _short(intent):
        _keep_apart(admitted, event, turn)
    else:
        row = row._replace(keys=[*row.keys, [admitted.key_digest, admitted.fingerprint, event]])
    turn.tables.payments.put(payment_key(intent.debtor, intent.payment_id), row)
    return Out(EVENTS, intent.debtor, event, turn.partition)


def conflict(screened: Screened, row: PaymentRow | None, turn: AnyTurn) -> Out:
    """DECLINED AM05: the key stays with the intent that had it first, and that payment is untouched (R18)."""
    intent = screened.admitted.intent
    event = _declined(screened, row, Reason.AM05, turn)
    if _usable(intent):
        turn.tables.payments.put(payment_key(intent.debtor, intent.payment_id), _numbered(row, intent, event, turn))
    return Out(EVENTS, intent.debtor, event, turn.partition)


def _usable(intent: Intent) -> bool:
    """Whether the payment id is one under which a row may stand."""
    return 1 <= len(intent.payment_id.encode()) <= 255


def _short(intent: Intent) -> bool:
    """Whether all texts that a refused intent's answer repeats are as short as those of a good one."""
    return max(len(intent.intent_id), len(intent.creditor), len(intent.currency)) <= TEXT_MOST


def _keep_apart(admitted: Admitted, event: PaymentEvent, turn: AnyTurn) -> None:
    """Keeps an answer outside payments. Only admission's mark asks for it, so an hour more does no harm."""
    until = turn.at + turn.rules.key_window + HOUR
    turn.tables.answers.put(admitted.key_digest, AnswerRow(admitted.fingerprint, event, until))


def _declined(screened: Screened, row: PaymentRow | None, reason: str, turn: AnyTurn) -> PaymentEvent:
    admitted, score, decision, reasons, version = screened
    intent = admitted.intent
    offset = admitted.received.offset
    # Where no row counts the sequence, the offsets rise.
    sequence = (row.sequence + 1 if row else 1) if _usable(intent) else offset + 1
    creditor = intent.creditor
    if row is not None and intent.kind != Kind.TRANSFER and same_creditor(intent, row):
        creditor = row.creditor  # an alias is never resolved again (R23)
    return PaymentEvent(
        two_ids("intent", INTENTS, turn.partition, offset)[1], intent.payment_id, intent.intent_id, sequence,
        Status.DECLINED, intent.debtor, creditor, intent.amount_minor, intent.currency, turn.at, str(reason), score,
        decision, reasons, None, None, None, admitted.alias_version,
        PaymentState(row.state) if row else PaymentState.DECLINED, version, offset,
    )  # fmt: skip


def _numbered(row: PaymentRow | None, intent: Intent, event: PaymentEvent, turn: AnyTurn) -> PaymentRow:
    """The payment's row after an event that is not of its story; a row of its own where the payment is new."""
    until: int | None = turn.at + turn.rules.payment_kept
    if row is None:
        return PaymentRow(
            PaymentState.DECLINED, "", "", None, Minor(0), intent.currency, intent.intent_id, event.intent_offset or 0,
            [], event.sequence, until,
        )  # fmt: skip
    if row.state in {PaymentState.SENT, PaymentState.REVIEW}:
        until = row.until  # of money that is out, the creditor's partition forgets by this moment too
    return row._replace(sequence=event.sequence, until=until)


def own_answer(received: Received, admitted: Admitted, turn: AnyTurn) -> Out:
    """The answer to a repeat whose first intent left no key in a payment's row."""
    answer = turn.tables.answers.get(admitted.key_digest)
    assert answer is not None, "admission marked a repeat of an intent that the ledger never answered"
    assert answer.fingerprint == admitted.fingerprint, "admission marked a conflict as a repeat"
    return give_again(answer.event, admitted.intent.intent_id, received.offset, turn.partition)
