"""The books: the rows that the ledger keeps, its internal accounts, and the one way to post.

Rules R1, R2, R4 and R6; invariants 1, 3 and 4.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

from schemas.events import Credit, Direction, Entry, EntryCode, Kind, Layer, Micros, Minor, RiskDecision
from schemas.keys import partition_of
from streams.tables import Table, TableSpec, new

INTENTS, EVENTS, ACCOUNT_EVENTS = "payments.intents", "payments.events", "accounts.events"
POSTINGS, CREDITS, REVERSALS = "ledger.postings", "ledger.credits", "ledger.reversals"

CURRENCY, DEBITS_PENDING, DEBITS_POSTED, CREDITS_PENDING, CREDITS_POSTED, SEQUENCE = range(6)
"""Places in a purse: an account's balances in one currency, and the number of its last entry."""
_DIRECTION = (Direction.UNKNOWN, Direction.DEBIT, Direction.DEBIT, Direction.CREDIT, Direction.CREDIT)
_LAYER = (Layer.UNKNOWN, Layer.PENDING, Layer.POSTED, Layer.PENDING, Layer.POSTED)
_SIGN = (0, 1, 1, -1, -1)

NO_OVERDRAFT, DEBIT_NORMAL, MERCHANT, NO_DEBITS, NO_CREDITS, CLOSED, LIMITED, INTERNAL = (1 << n for n in range(8))

DECISIONS: dict[str | None, RiskDecision | None] = {None: None, **{str(word): word for word in RiskDecision}}
"""The verdict behind the word that a row kept."""
KINDS = {str(kind): kind for kind in Kind}
"""The same of kinds."""

BALANCE_MOST = 2**63 - 1
ROOM_MOST = 2**62 - 1
"""What moves money onward may lift a balance up to here (R48). The other half is kept for returns,
which can't be refused and are never more than what went out."""


class AccountRow(NamedTuple):
    """An account under its id: flag bits, and a purse per currency."""

    flags: int
    purses: Sequence[Sequence[Any]]


class PaymentRow(NamedTuple):
    """A payment at home, under `payment_key`. `kind` is empty while no intent has begun it."""

    state: str
    kind: str
    creditor: str
    creditor_alias: str | None
    amount_minor: Minor
    currency: str
    intent_id: str
    intent_offset: int
    keys: Sequence[Sequence[Any]]
    """Per intent: key digest, fingerprint, and its own event or None where it shares the payment's story."""
    sequence: int
    """The last one given out."""
    until: int | None
    """The row means nothing from here on (R21); None while a review is open."""
    outcome: int = 0
    """Sequence reserved for the second leg's outcome; SETTLED has the next one."""
    booked_at: int = 0
    """When the money was held or debited."""
    counted: int = 0
    """Generation of the limits that counted it (R26); 0 = none."""
    event: Sequence[Any] | None = None
    """The story's latest event, as far as home wrote it; None while SENT."""
    risk_score: int | None = None
    risk_decision: str | None = None
    risk_reasons: Sequence[str] = ()
    risk_version: str | None = None
    alias_version: int | None = None
    expires_at: Micros | None = None
    deadline_at: Micros | None = None
    decided_by: Sequence[Any] | None = None
    """Intent id and offset of the APPROVE or REJECT."""


class AnswerRow(NamedTuple):
    """The answer to an intent whose key no payment row keeps, under its key digest (R21)."""

    fingerprint: str
    event: Sequence[Any]
    until: int


class CreditRow(NamedTuple):
    """A credit that was decided, under `credit_key` (R15): its event, or why it was refused."""

    until: int
    decided_at: Micros
    event_id: str | None = None
    reason: str | None = None


class DeadlineRow(NamedTuple):
    """A review that ends by itself, under `deadline_key`."""

    debtor: str
    payment_id: str


class LimitRow(NamedTuple):
    """Limits of one account and currency (R26)."""

    max_payment_minor: int | None
    generation: int
    windows: Sequence[Sequence[Any]]
    """Per window: seconds, most money, most payments, generation, buckets of (number, money, count)."""


class TwinsRow(NamedTuple):
    """Payments with the same creditor, amount and currency (R20): id and time of each, oldest first."""

    payments: Sequence[Sequence[Any]]
    until: int


class CommandRow(NamedTuple):
    """A command that was answered: what it said and what it got."""

    fingerprint: str
    accepted: bool
    reason: str | None
    occurred_at: Micros
    until: int


class LedgerTables(NamedTuple):
    """The ledger's tables, in the order of `TABLES`."""

    accounts: Table[AccountRow]
    payments: Table[PaymentRow]
    answers: Table[AnswerRow]
    credits: Table[CreditRow]
    deadlines: Table[DeadlineRow]
    limits: Table[LimitRow]
    twins: Table[TwinsRow]
    commands: Table[CommandRow]


def _until(row: Any) -> int | None:
    until: int | None = row.until
    return until


TABLES = (
    TableSpec("accounts", AccountRow),
    TableSpec("payments", PaymentRow, _until),
    TableSpec("answers", AnswerRow, _until),
    TableSpec("credits", CreditRow, _until),
    TableSpec("deadlines", DeadlineRow),
    TableSpec("limits", LimitRow),
    TableSpec("twins", TwinsRow, _until),
    TableSpec("commands", CommandRow, _until),
)


def payment_key(debtor: str, payment_id: str) -> str:
    """Where a payment's row stands."""
    return f"{len(debtor)}:{debtor}{payment_id}"


def credit_key(credit: Credit) -> str:
    """Where the decision on a credit stands. The intent's offset keeps a payment id that is used again apart."""
    debtor, payment_id = credit.debtor, credit.payment_id
    return f"{len(debtor)}:{debtor}{len(payment_id)}:{payment_id}{credit.sequence}-{credit.intent_offset}"


def deadline_key(deadline_at: int, debtor: str, payment_id: str) -> str:
    """Sorts by deadline, debtor, payment id (R12), also where an id holds NULs."""
    escaped = debtor.replace("\0", "\0\1")
    return f"{deadline_at:020d}{escaped}\0\0{payment_id}"


def two_ids(what: str, topic: str, partition: int, offset: int) -> tuple[str, str]:
    """Ids of the posting and of the event that a record decides: the halves of one SHA-256 (R7).

    The same digest as `keys.digest` gives, written out as it runs for every posting.
    """
    number, place = str(offset), str(partition)
    parts = f"{len(what)}:{what}{len(topic)}:{topic}{len(place)}:{place}{len(number)}:{number}"
    both = sha256(parts.encode()).hexdigest()
    return both[:32], both[32:]


@lru_cache(maxsize=4096)
def internal(role: str, currency: str, partition: int, partitions: int) -> str:
    """The id of an internal account, which hashes to its partition (R6)."""
    k = 0
    while partition_of(f"~{role}/{currency}/{partition}-{k}", partitions) != partition:
        k += 1
    return f"~{role}/{currency}/{partition}-{k}"


def purse_of(account: AccountRow, currency: str) -> Sequence[Any] | None:
    """The account's balances in `currency`, None where it does not hold it."""
    for purse in account.purses:
        if purse[0] == currency:
            return purse
    return None


def lacks_room(accounts: Table[AccountRow], account: str, place: int, amount_minor: int) -> bool:
    """Whether an internal account's posted balance at `place` has no room for more (R48: AM12)."""
    row = accounts.get(account)
    return row is not None and row.purses[0][place] + amount_minor > ROOM_MOST


Move = tuple[str, EntryCode, int, Minor, str | None, int | None]
"""An entry before it is made: account, code, place of the balance, minor units, counterparty, settled sequence."""


def post(accounts: Table[AccountRow], currency: str, moves: Iterable[Move]) -> tuple[Entry, ...]:
    """Carries out the moves of one posting and gives its entries, with the balances after each.

    Guards have passed: whatever is wrong here is our own mistake, so it asserts. Internal accounts
    come into being with their first entry.
    """
    entries: list[Entry] = []
    posted = pending = 0
    get, put = accounts.get, accounts.put
    for account, code, place, amount, counterparty, settled in moves:
        row = get(account)
        if row is None:
            assert account[0] == "~", "a customer's account must be open"
            row = AccountRow(INTERNAL, [[currency, 0, 0, 0, 0, 0]])
        flags, purses = row
        n = 0
        while purses[n][0] != currency:
            n += 1
        purse = [*purses[n]]
        purse[place] = balance = purse[place] + amount
        purse[5] += 1
        assert 0 <= balance <= BALANCE_MOST, (account, place, balance)
        after = [*purses]
        after[n] = purse
        put(account, new(AccountRow, (flags, after)))
        if place & 1:
            pending += _SIGN[place] * amount
        else:
            assert amount > 0, (account, amount)
            posted += _SIGN[place] * amount
        fields = (
            account, code, _DIRECTION[place], _LAYER[place], amount, currency, purse[1], purse[2], purse[3], purse[4],
            purse[5], counterparty, settled,
        )  # fmt: skip
        entries.append(new(Entry, fields))
    assert posted == pending == 0, entries
    return tuple(entries)
