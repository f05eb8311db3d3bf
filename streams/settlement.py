"""Settlement: gathers merchants' credits into batches, closes their windows, tells each payment SETTLED.

It only gathers and writes no books (R31). `gather` folds postings, `expire` closes what is due and writes what
a closed batch owes its members, a bounded number a step. Rules R28 to R31; invariant 7.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from schemas.events import (
    Direction,
    Entry,
    EntryCode,
    Micros,
    Minor,
    PaymentEvent,
    PaymentState,
    Posting,
    SettlementBatch,
    Status,
)
from schemas.keys import derive_id
from streams.books import DECISIONS, EVENTS
from streams.calendar import SECOND, window, window_every
from streams.tables import Table, TableSpec, new
from streams.turn import Decided, Out, Received, Turn

BATCHES = "settlement.batches"
CLOCK = "clock"
PIECE = 100
"""Members in one row, at most."""
DUE_MOST = 250
"""Batches, and rows of members, that one step reads to close and to tell."""
_PAST_ALL = "~"


class PostingHead(NamedTuple):
    """What settlement needs to know of a posting that has no members."""

    occurred_at: Micros
    members: int


def has_members(posting: PostingHead) -> bool:
    """Whether settlement gathers entries of a posting."""
    return posting.members > 0


class BatchRow(NamedTuple):
    """A batch, open or not yet told to all its members, under `batch_key`."""

    account: str
    currency: str
    window_start: Micros
    window_end: Micros
    gross_minor: Minor
    fees_minor: Minor
    payment_count: int
    first_sequence: int
    last_sequence: int
    closes_at: Micros
    """When it closes though no posting came after its window."""
    owed: int | None = None
    """SETTLED events that are still to be written; None while the batch is open."""


class MembersRow(NamedTuple):
    """Some members of a batch, in their order, under `batch_key` and the first one's sequence.

    Of each: posting id, payment id, intent id, debtor, minor units, sequence of its SETTLED, risk score and decision.
    """

    members: Sequence[Sequence[Any]]


class RangeRow(NamedTuple):
    """The latest batch of an account and currency, under `range_key`."""

    window_end: Micros
    last_sequence: int


class ClockRow(NamedTuple):
    """The partition's settlement clock: every window that ends by `until` is closed."""

    until: Micros


class SettlementTables(NamedTuple):
    """Settlement's tables, in the order of `TABLES`."""

    batches: Table[BatchRow]
    members: Table[MembersRow]
    ranges: Table[RangeRow]
    closing: Table[ClockRow]


TABLES = (
    TableSpec("batches", BatchRow),
    TableSpec("members", MembersRow),
    TableSpec("ranges", RangeRow),
    TableSpec("closing", ClockRow),
)
SettlementTurn = Turn[SettlementTables]


def range_key(account: str, currency: str) -> str:
    """Where an account's latest batch is kept."""
    return f"{len(account)}:{account}{currency}"


def batch_key(window_end: int, account: str, currency: str) -> str:
    """Sorts by the window's end."""
    return f"{window_end:020d}{range_key(account, currency)}"


def batch_id(account: str, currency: str, window_end: int) -> str:
    """32 hex digits (R29)."""
    return derive_id("batch", account, currency, window_end)


class _Gathering:
    """The open batch of one account and currency while a step's postings are folded."""

    def __init__(self, account: str, currency: str, until: int, turn: SettlementTurn) -> None:
        self._turn, self._members = turn, list[Sequence[Any]]()
        self._first = 0
        latest = turn.tables.ranges.get(range_key(account, currency))
        if latest is not None and latest.window_end > until:
            found = turn.tables.batches.get(batch_key(latest.window_end, account, currency))
            assert found is not None, "an account's latest batch is kept while it is open"
            self.row = found
            return
        start, end = _window(account, until, turn)
        before = 0
        if latest is not None:  # windows of other settings may have reached further
            start, before = max(start, latest.window_end), latest.last_sequence
        closes_at = end + turn.rules.settlement.grace_s * SECOND
        self.row = BatchRow(
            account, currency, Micros(start), Micros(end), Minor(0), Minor(0), 0, before + 1, before, Micros(closes_at)
        )

    def add(self, posting: Posting, entry: Entry) -> None:
        """One more member: the principal entry, and the fees that the same posting takes."""
        row, fees, last = self.row, 0, entry.sequence
        for other in posting.entries:
            if other.code == EntryCode.FEE and other.account == row.account and other.direction == Direction.DEBIT:
                fees, last = fees + other.amount_minor, other.sequence
        self.row = new(BatchRow, (
            *row[:4], row.gross_minor + entry.amount_minor, row.fees_minor + fees, row.payment_count + 1,
            row.first_sequence, last, row.closes_at, None,
        ))  # fmt: skip
        if not self._members:
            self._first = entry.sequence
        self._members.append((
            posting.posting_id, posting.payment_id, posting.intent_id, posting.debtor, entry.amount_minor,
            entry.settled_sequence, posting.risk_score, posting.risk_decision,
        ))  # fmt: skip
        if len(self._members) == PIECE:
            self._put_members()

    def _put_members(self) -> None:
        row = self.row
        key = f"{batch_key(row.window_end, row.account, row.currency)}{self._first:020d}"
        self._turn.tables.members.put(key, MembersRow(tuple(self._members)))
        self._members = []

    def keep(self) -> None:
        """Puts the rows."""
        row, tables = self.row, self._turn.tables
        if self._members:
            self._put_members()
        tables.batches.put(batch_key(row.window_end, row.account, row.currency), row)
        tables.ranges.put(range_key(row.account, row.currency), RangeRow(row.window_end, row.last_sequence))


def _window(account: str, at: int, turn: SettlementTurn) -> tuple[int, int]:
    rules = turn.rules.settlement
    if rules.every_s:
        return window_every(at, rules.every_s)
    return window(at, rules.calendar, rules.clock_of(account))


def gather(batch: Sequence[Received], turn: SettlementTurn) -> Decided:
    """Puts every member entry into the open batch of its window; one whose window is closed into the oldest open one.

    Members are the entries that the ledger gave a number for SETTLED, with the fees beside them.
    """
    tables = turn.tables
    until = _until(tables)
    gathering: dict[tuple[str, str], _Gathering] = {}
    for received in batch:
        value: Posting | PostingHead = received.value
        until = max(until, value.occurred_at)
        if not value.members:
            continue
        posting: Posting = received.value
        for entry in posting.entries:
            if entry.settled_sequence is None:
                continue
            key = (entry.account, entry.currency)
            one = gathering.get(key)
            if one is None or one.row.window_end <= until:
                if one is not None:
                    one.keep()
                one = gathering[key] = _Gathering(*key, until, turn)
            one.add(posting, entry)
    for one in gathering.values():
        one.keep()
    tables.closing.put(CLOCK, ClockRow(Micros(until)))
    return Decided()


def _until(tables: SettlementTables) -> int:
    clock = tables.closing.get(CLOCK)
    return 0 if clock is None else clock.until


def expire(turn: SettlementTurn, most: int) -> Decided:
    """Closes windows that are due and writes SETTLED for the members, `most` records at most; oldest windows first.

    A window is due when a posting came at or after its end, or some time after it where nothing is left to read (R29).
    What is read at once is bounded, whatever `most` is: so a replay, which knows how much was done, does the same.
    """
    decided, tables = Decided(), turn.tables
    until = closed = _until(tables)
    reach = f"{max(until, turn.at if turn.read_to_end else 0) + 1:020d}"
    due = tables.batches.first(reach, DUE_MOST)
    pieces = deque(tables.members.first(reach, DUE_MOST)) if due else deque()
    for key, found in due:
        row = found
        if row.owed is None:
            if (row.window_end > closed and row.closes_at > turn.at) or decided.deadlines >= most:
                break
            closed = max(closed, row.window_end)
            row = _close(row, turn, decided)
        owed = _tell(key, row, most, (pieces, turn, decided))
        if owed:
            tables.batches.put(key, row._replace(owed=owed))
            break
        tables.batches.delete(key)
    if closed > until:
        tables.closing.put(CLOCK, ClockRow(Micros(closed)))
    return decided


def _close(row: BatchRow, turn: SettlementTurn, decided: Decided) -> BatchRow:
    value = SettlementBatch(
        batch_id(row.account, row.currency, row.window_end), row.account, row.currency, row.gross_minor, row.fees_minor,
        Minor(row.gross_minor - row.fees_minor), row.window_start, row.window_end, row.payment_count,
        row.first_sequence, row.last_sequence,
    )  # fmt: skip
    decided.records.append(Out(BATCHES, row.account, value, turn.partition))
    decided.deadlines += 1
    return row._replace(owed=row.payment_count)


def _tell(
    key: str, row: BatchRow, most: int, work: tuple[deque[tuple[str, MembersRow]], SettlementTurn, Decided]
) -> int:
    """Writes SETTLED for the next members of a closed batch; how many are still owed."""
    pieces, turn, decided = work
    members_table = turn.tables.members
    identity = batch_id(row.account, row.currency, row.window_end)
    assert row.owed is not None, "only a closed batch owes events"
    owed = row.owed
    while owed and pieces and decided.deadlines < most:
        piece, (members,) = pieces[0]
        assert piece.startswith(key), (piece, key)
        told = members[: most - decided.deadlines]
        decided.records += [_settled(member, row, identity, turn.at) for member in told]
        decided.deadlines += len(told)
        owed -= len(told)
        if len(told) < len(members):
            members_table.put(piece, MembersRow(members[len(told) :]))
            break
        members_table.delete(piece)
        pieces.popleft()
    return owed


def _settled(member: Sequence[Any], row: BatchRow, identity: str, at: Micros) -> Out:
    posting_id, payment_id, intent_id, debtor, amount_minor, sequence, score, decision = member
    event = new(PaymentEvent, (
        derive_id("settled", identity, posting_id), payment_id, intent_id, sequence, Status.SETTLED, debtor, row.account,
        amount_minor, row.currency, at, None, score, DECISIONS[decision], (), None, None, None, None,
        PaymentState.SETTLED, None, None, None, None,
    ))  # fmt: skip
    return new(Out, (EVENTS, debtor, event, None))


def next_deadline(tables: SettlementTables) -> int | None:
    """When the oldest batch closes, in µs; 0 where something is due; None where there is no batch."""
    for _, row in tables.batches.first(_PAST_ALL, 1):
        return 0 if row.owed is not None or row.window_end <= _until(tables) else row.closes_at
    return None
