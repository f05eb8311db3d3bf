"""Business duplicates (R20): the same payment under a new key, shortly after another."""

from schemas.events import Intent, PaymentState
from streams.books import LedgerTables, TwinsRow, payment_key
from streams.turn import Turn

TWINS_MOST = 16
"""Equal payments that are remembered, the latest ones."""
_ENDED = (PaymentState.DECLINED, PaymentState.VOIDED, PaymentState.REVERSED)


def _key(intent: Intent) -> str:
    names = (intent.debtor, intent.creditor, intent.currency, str(intent.amount_minor))
    return "".join([f"{len(name)}:{name}" for name in names])


def found(intent: Intent, turn: Turn[LedgerTables]) -> bool:
    """Guard 5: whether an equal payment that was not given up stands within the channel's window."""
    window_s = turn.rules.duplicate_window_s.get(intent.channel or "", 0)
    if not window_s or not intent.creditor or (intent.metadata or {}).get("allow_duplicate") == "true":
        return False
    row = turn.tables.twins.get(_key(intent))
    if row is None:
        return False
    for payment_id, at in row.payments:
        if at + window_s * 1_000_000 <= turn.at:
            continue
        payment = turn.tables.payments.get(payment_key(intent.debtor, payment_id))
        if payment is not None and payment.state not in _ENDED:
            return True
    return False


def note(intent: Intent, turn: Turn[LedgerTables]) -> None:
    """Remembers a payment that set out, for as long as the longest window asks for it."""
    longest = max(turn.rules.duplicate_window_s.values()) * 1_000_000
    key = _key(intent)
    row = turn.tables.twins.get(key)
    kept = [twin for twin in row.payments if twin[1] + longest > turn.at] if row else []
    payments = [*kept, [intent.payment_id, turn.at]][-TWINS_MOST:]
    turn.tables.twins.put(key, TwinsRow(payments, turn.at + longest))
