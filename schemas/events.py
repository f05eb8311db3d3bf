"""The records that travel: one `NamedTuple` per Avro record, its fields in the schema's order.

Amounts are `int` minor units beside their currency, times are `Micros` (µs since 1970, UTC). The
schemas in `schemas/avro` say what each field means; a test holds both to each other.
"""

from enum import StrEnum
from typing import NamedTuple, NewType

Micros = NewType("Micros", int)
Minor = NewType("Minor", int)


class Kind(StrEnum):
    """What is wanted."""

    UNKNOWN = "UNKNOWN"
    TRANSFER = "TRANSFER"
    AUTHORISE = "AUTHORISE"
    CAPTURE = "CAPTURE"
    VOID = "VOID"
    REFUND = "REFUND"
    APPROVE = "APPROVE"
    REJECT = "REJECT"
    DISPUTE_OPEN = "DISPUTE_OPEN"
    DISPUTE_WON = "DISPUTE_WON"
    DISPUTE_LOST = "DISPUTE_LOST"


class Intent(NamedTuple):
    """Something someone wants. Key: debtor."""

    intent_id: str
    idempotency_key: str
    kind: Kind
    payment_id: str
    debtor: str
    creditor: str
    amount_minor: Minor
    currency: str
    requested_at: Micros
    expires_at: Micros | None = None
    creditor_alias: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    device_id: str | None = None
    channel: str | None = None
    metadata: dict[str, str] | None = None
    decided_by: str | None = None
    method: str | None = None


class Status(StrEnum):
    """What happened."""

    UNKNOWN = "UNKNOWN"
    AUTHORISED = "AUTHORISED"
    COMPLETED = "COMPLETED"
    DECLINED = "DECLINED"
    REVIEW = "REVIEW"
    CAPTURED = "CAPTURED"
    VOIDED = "VOIDED"
    EXPIRED = "EXPIRED"
    REVERSED = "REVERSED"
    REFUNDED = "REFUNDED"
    SETTLED = "SETTLED"
    DISPUTED = "DISPUTED"
    DISPUTE_WON = "DISPUTE_WON"
    DISPUTE_LOST = "DISPUTE_LOST"


class RiskDecision(StrEnum):
    """Screening's verdict; the highest rule wins."""

    UNKNOWN = "UNKNOWN"
    APPROVE = "APPROVE"
    STEP_UP = "STEP_UP"
    REVIEW = "REVIEW"
    DECLINE = "DECLINE"


class PaymentState(StrEnum):
    """The payment's state after this event."""

    UNKNOWN = "UNKNOWN"
    SENT = "SENT"
    COMPLETED = "COMPLETED"
    AUTHORISED = "AUTHORISED"
    REVIEW = "REVIEW"
    CAPTURED = "CAPTURED"
    VOIDED = "VOIDED"
    EXPIRED = "EXPIRED"
    DECLINED = "DECLINED"
    REVERSED = "REVERSED"
    REFUNDED = "REFUNDED"
    SETTLED = "SETTLED"
    DISPUTED = "DISPUTED"


class PaymentEvent(NamedTuple):
    """One step in a payment's life. Key: debtor."""

    event_id: str
    payment_id: str
    intent_id: str
    sequence: int
    status: Status
    debtor: str
    creditor: str
    amount_minor: Minor
    currency: str
    occurred_at: Micros
    reason: str | None = None
    risk_score: int | None = None
    risk_decision: RiskDecision | None = None
    risk_reasons: tuple[str, ...] = ()
    deadline_at: Micros | None = None
    repeat_intent_id: str | None = None
    decided_by_intent_id: str | None = None
    alias_version: int | None = None
    payment_state: PaymentState = PaymentState.UNKNOWN
    risk_version: str | None = None
    intent_offset: int | None = None
    repeat_intent_offset: int | None = None
    decided_by_intent_offset: int | None = None


class EntryCode(StrEnum):
    """What the entry is for."""

    UNKNOWN = "UNKNOWN"
    PRINCIPAL = "PRINCIPAL"
    HOLD = "HOLD"
    RETURN = "RETURN"
    REFUND = "REFUND"
    FEE = "FEE"
    FX = "FX"
    SPREAD = "SPREAD"
    DISPUTE = "DISPUTE"
    PAYOUT = "PAYOUT"


class Direction(StrEnum):
    """Which side."""

    UNKNOWN = "UNKNOWN"
    DEBIT = "DEBIT"
    CREDIT = "CREDIT"


class Layer(StrEnum):
    """Held or booked."""

    UNKNOWN = "UNKNOWN"
    PENDING = "PENDING"
    POSTED = "POSTED"


class Entry(NamedTuple):
    """One side of a posting, and the account's balances after it."""

    account: str
    code: EntryCode
    direction: Direction
    layer: Layer
    amount_minor: Minor
    currency: str
    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int
    sequence: int
    counterparty: str | None = None
    settled_sequence: int | None = None


class Posting(NamedTuple):
    """One balanced posting. Key: the customer's account."""

    posting_id: str
    payment_id: str
    occurred_at: Micros
    members: int
    entries: tuple[Entry, ...]
    intent_id: str | None = None
    debtor: str | None = None
    risk_score: int | None = None
    risk_decision: RiskDecision | None = None


class CreditAction(StrEnum):
    """What the creditor's partition is asked to do."""

    UNKNOWN = "UNKNOWN"
    CREDIT = "CREDIT"
    COLLECT = "COLLECT"
    REPEAT = "REPEAT"
    HOLD = "HOLD"
    RELEASE = "RELEASE"
    PAYOUT = "PAYOUT"


class Credit(NamedTuple):
    """The second leg, and questions about it. Key: creditor. Internal."""

    action: CreditAction
    kind: Kind
    payment_id: str
    intent_id: str
    intent_offset: int
    debtor: str
    creditor: str
    amount_minor: Minor
    currency: str
    sequence: int
    settled_sequence: int
    home_partition: int
    sent_at: Micros
    expires_at: Micros | None = None
    risk_score: int | None = None
    risk_decision: RiskDecision | None = None
    risk_reasons: tuple[str, ...] = ()
    risk_version: str | None = None
    alias_version: int | None = None
    decided_by_intent_id: str | None = None
    decided_by_intent_offset: int | None = None
    repeat_intent_id: str | None = None
    repeat_intent_offset: int | None = None


class ReversalAction(StrEnum):
    """What home is told."""

    UNKNOWN = "UNKNOWN"
    RETURN = "RETURN"
    COLLECTED = "COLLECTED"
    HELD = "HELD"
    REFUSED = "REFUSED"
    REPEAT = "REPEAT"


class Reversal(NamedTuple):
    """The way back. Key: debtor. Internal."""

    action: ReversalAction
    payment_id: str
    intent_id: str
    debtor: str
    creditor: str
    amount_minor: Minor
    currency: str
    sequence: int
    decided_at: Micros
    reason: str | None = None
    repeat_intent_id: str | None = None
    repeat_intent_offset: int | None = None


class AccountAction(StrEnum):
    """What to do."""

    UNKNOWN = "UNKNOWN"
    OPEN = "OPEN"
    CLOSE = "CLOSE"
    FREEZE = "FREEZE"
    UNFREEZE = "UNFREEZE"
    LIMIT = "LIMIT"


class AccountCommand(NamedTuple):
    """Open, close, freeze, unfreeze or limit an account. Key: account."""

    command_id: str
    account: str
    command: AccountAction
    currency: str
    requested_at: Micros
    flags: tuple[str, ...] = ()
    max_payment_minor: Minor | None = None
    window_s: int | None = None
    max_amount_minor: Minor | None = None
    max_count: int | None = None


class AliasAction(StrEnum):
    """What to do."""

    UNKNOWN = "UNKNOWN"
    CLAIM = "CLAIM"
    RELEASE = "RELEASE"


class AliasClaim(NamedTuple):
    """Claim or release of an alias. Key: alias."""

    claim_id: str
    alias: str
    account: str
    command: AliasAction
    requested_at: Micros


class AccountEvent(NamedTuple):
    """The answer to one command or claim. Key: account."""

    command_id: str
    account: str
    accepted: bool
    occurred_at: Micros
    reason: str | None = None
    alias: str | None = None


class SettlementBatch(NamedTuple):
    """A closed batch of one merchant. Key: account."""

    batch_id: str
    account: str
    currency: str
    gross_minor: Minor
    fees_minor: Minor
    net_minor: Minor
    window_start: Micros
    window_end: Micros
    payment_count: int
    first_sequence: int
    last_sequence: int
