"""The records that headrace writes for itself, by the same rules as those of `schemas.events`."""

from enum import StrEnum
from typing import NamedTuple

from schemas.events import Micros, Minor, PaymentState, Status


class JournalInput(NamedTuple):
    """What the step read of one topic."""

    topic: str
    first_offset: int
    next_offset: int
    records: int
    to_end: bool


class JournalLetter(NamedTuple):
    """An input that became a dead letter."""

    topic: str
    offset: int
    code: str


class JournalOutput(NamedTuple):
    """Records written to one partition."""

    topic: str
    partition: int
    records: int


class JournalRecord(NamedTuple):
    """One step of one partition. Internal."""

    role: str
    step: int
    at: Micros
    inputs: tuple[JournalInput, ...]
    alias_offsets: tuple[int, ...]
    code_hash: str
    dead_letters: tuple[JournalLetter, ...]
    outputs: tuple[JournalOutput, ...]
    deadlines: int = 0


class SettingsRecord(NamedTuple):
    """The settings behind a journal's hash. Key: the hash. Internal."""

    code_hash: str
    version: str
    settings: str
    recorded_at: Micros


class Redrive(NamedTuple):
    """The receipt of one redriven dead letter. Key: topic, partition and offset of the letter. Internal."""

    topic: str
    partition: int
    offset: int
    redriven_at: Micros
    redriven_by: str | None = None


class DeliveryState(StrEnum):
    """What is to be done."""

    UNKNOWN = "UNKNOWN"
    DUE = "DUE"
    PARKED = "PARKED"


class Delivery(NamedTuple):
    """A payment's event on its way to a webhook endpoint. Key: debtor. Internal."""

    endpoint: str
    number: int
    attempt: int
    state: DeliveryState
    decided_at: Micros
    event_id: str
    payment_id: str
    intent_id: str
    sequence: int
    status: Status
    payment_state: PaymentState
    debtor: str
    creditor: str
    amount_minor: Minor
    currency: str
    occurred_at: Micros
    reason: str | None = None
    deadline_at: Micros | None = None
    parked_for: str | None = None


class AttemptAction(StrEnum):
    """What happened, or is wanted."""

    UNKNOWN = "UNKNOWN"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"
    SLOW_DOWN = "SLOW_DOWN"
    GONE = "GONE"
    RESEND = "RESEND"
    ENABLE = "ENABLE"
    DISABLE = "DISABLE"


class Attempt(NamedTuple):
    """What became of calling an endpoint, or what somebody wants of it. Key: debtor or endpoint. Internal."""

    endpoint: str
    action: AttemptAction
    occurred_at: Micros
    debtor: str = ""
    payment_id: str = ""
    event_id: str = ""
    number: int = 0
    attempt: int = 0
    http_status: int | None = None
    reason: str | None = None
    retry_after_s: int | None = None
    resend: Delivery | None = None
