"""Merchants' credits against their batches: invariant 7, judged from the topics alone.

A *member* is an entry of `ledger.postings` that reserves the number of a SETTLED event, with the fees that its
posting takes from the same account (R29). Batches and SETTLED events of settlement's steps are read before.
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from replay.books import Account
from replay.journal import Cut
from replay.verdicts import Verdict
from schemas.events import Direction, Entry, EntryCode, PaymentEvent, PaymentState, Posting, SettlementBatch
from schemas.keys import derive_id, partition_of
from topologies.topics import BATCHES, EVENTS, POSTINGS

_GATHERED = frozenset({EntryCode.PRINCIPAL, EntryCode.FEE})
Place = tuple[int, int]
"""(partition, offset)."""


class Closed:
    """A batch as it stands on its topic, and what its members come to."""

    __slots__ = ("batch", "count", "fees", "gross", "last", "owed", "place")

    def __init__(self, batch: SettlementBatch, place: Place) -> None:
        self.batch, self.place = batch, place
        self.gross = self.fees = self.count = self.last = 0
        self.owed = 0
        """Members whose SETTLED event was not met."""

    def __str__(self) -> str:
        partition, offset = self.place
        return (
            f"{BATCHES.name} partition {partition} offset {offset}, batch {self.batch.batch_id} of {self.batch.account}"
        )


class Told(NamedTuple):
    """A SETTLED event, as much of it as the judge needs."""

    said: int
    """Hash of what it says."""
    partition: int
    offset: int


class Settled:
    """Every member is in one batch or still open, batches are what their members are, each is told once."""

    def __init__(self, verdict: Verdict, partitions: int, cut: Cut, letters: Iterable[tuple[str, int, int]]) -> None:
        """`cut` and `letters`: settlement's own."""
        self.batches = 0
        self.open = 0
        """Members in windows that are not closed."""
        self.unread = 0
        """Members that no step of settlement has read."""
        self._verdict, self._partitions, self._cut = verdict, partitions, cut
        self._lost = {(partition, offset) for topic, partition, offset in letters if topic == POSTINGS.name}
        self._of: dict[Account, list[Closed]] = {}
        self._at: Counter[Account] = Counter()
        """Which batch of an account its next member may be in."""
        self._latest: dict[int, Closed] = {}
        self._ids: set[str] = set()
        self._told: dict[int, Told] = {}

    @property
    def owed(self) -> int:
        """SETTLED events that closed batches still owe their members."""
        return sum(closed.owed for known in self._of.values() for closed in known)

    def batch(self, partition: int, offset: int, batch: SettlementBatch) -> None:
        """The next batch of a partition."""
        self.batches += 1
        closed = Closed(batch, (partition, offset))
        known = self._of.setdefault((batch.account, batch.currency), [])
        before = known[-1].batch if known else None
        expected = 1 if before is None else before.last_sequence + 1
        if batch.first_sequence != expected or batch.last_sequence < expected:
            self._offends(
                f"{closed}: covers the entries {batch.first_sequence} to {batch.last_sequence} of {batch.currency}, the "
                f"batch before ends at {expected - 1}: ranges do not join"
            )
        if batch.window_start >= batch.window_end or (before and batch.window_start < before.window_end):
            self._offends(
                f"{closed}: its window {batch.window_start} to {batch.window_end} is empty or overlaps another"
            )
        if batch.net_minor != batch.gross_minor - batch.fees_minor:
            self._offends(
                f"{closed}: net {batch.net_minor} is not gross {batch.gross_minor} less fees {batch.fees_minor}"
            )
        if batch.batch_id in self._ids or batch.batch_id != _batch_id(batch):
            self._offends(f"{closed}: its id is another's, or not that of its account, currency and window's end")
        if partition != partition_of(batch.account, self._partitions):
            self._offends(f"{closed}: stands on partition {partition}, where its account does not live")
        self._ids.add(batch.batch_id)
        self._latest[partition] = closed
        known.append(closed)

    def event(self, partition: int, offset: int, event: PaymentEvent) -> None:
        """The next SETTLED event."""
        key = hash((event.debtor, event.payment_id, event.sequence))
        where = f"{_where(partition, offset)}, payment {event.payment_id} of {event.debtor}"
        if (known := self._told.get(key)) is not None:
            self._offends(f"{where}: SETTLED once more, after {_where(known.partition, known.offset)}")
        if event.payment_state != PaymentState.SETTLED or partition != partition_of(event.debtor, self._partitions):
            self._offends(f"{where}: SETTLED with the state {event.payment_state}, or away from its debtor's partition")
        said = (event.event_id, event.intent_id, event.creditor, event.amount_minor, event.currency)
        self._told[key] = Told(hash(said), partition, offset)

    def post(self, partition: int, offset: int, posting: Posting, merchants: frozenset[Account]) -> None:
        """The next posting of a partition; all batches and SETTLED events were given before."""
        member: Entry | None = None
        members = 0
        for entry in posting.entries:
            if entry.settled_sequence is not None:
                member, members = entry, members + 1
            elif entry.code in _GATHERED and (wrong := _uncounted(entry, member, merchants)):
                self._offends(f"{_at(partition, offset, posting)}: {wrong}")
        if members != posting.members:
            self._offends(
                f"{_at(partition, offset, posting)}: says that settlement gathers {posting.members} of its entries, but "
                f"{members} bear the number of their SETTLED"
            )
        if member is not None:
            self._member(partition, offset, posting, member)

    def _member(self, partition: int, offset: int, posting: Posting, entry: Entry) -> None:
        self._verdict.examined += 1
        if (partition, offset) in self._lost:
            return
        read = self._cut.read(POSTINGS.name, partition, offset)
        key, account = (
            hash((posting.debtor, posting.payment_id, entry.settled_sequence)),
            (entry.account, entry.currency),
        )
        told = self._told.pop(key, None)
        known = self._of.get(account, ())
        while self._at[account] < len(known) and known[self._at[account]].batch.last_sequence < entry.sequence:
            self._at[account] += 1
        if self._at[account] == len(known):
            self.open, self.unread = self.open + read, self.unread + (not read)
            if told is not None:
                self._offends(f"{_at(partition, offset, posting)}: is SETTLED, and in no batch")
            return
        closed = known[self._at[account]]
        if not read:
            self._offends(f"{_at(partition, offset, posting)}: is in the range of {closed}, and no step has read it")
        self._add((partition, offset, posting), entry, closed)
        if told is None:
            closed.owed += 1
        elif told.said != hash(_expected(posting, entry, closed)):
            self._offends(
                f"{_where(told.partition, told.offset)}: SETTLED of payment {posting.payment_id} of {posting.debtor} tells "
                f"another intent, merchant, amount or id than its posting and {closed}"
            )

    def _add(self, at: tuple[int, int, Posting], entry: Entry, closed: Closed) -> None:
        posting = at[2]
        fees = [other for other in posting.entries if other.code == EntryCode.FEE and other.account == entry.account]
        closed.gross += entry.amount_minor
        closed.fees += sum(other.amount_minor for other in fees)
        closed.count += 1
        closed.last = max(entry.sequence, *(other.sequence for other in fees), 0)
        if sum(other.amount_minor for other in fees) > entry.amount_minor:
            self._offends(f"{_at(*at)}: takes a fee of more than the credit")
        if posting.occurred_at >= closed.batch.window_end:
            self._offends(f"{_at(*at)}: was posted after the window of {closed} had ended")

    def close(self) -> None:
        """After the last posting: totals agree, and nobody was told who is in no batch."""
        for known in self._of.values():
            for closed in known:
                self._totals(closed)
        for told in list(self._told.values())[:1]:
            self._offends(
                f"{_where(told.partition, told.offset)}: SETTLED for a payment that no posting lets settle "
                f"({len(self._told):,} of them)"
            )
        self._verdict.what = f"member entries, {self.batches:,} batches"
        owed = self.owed
        if self.open or self.unread or owed:
            self._verdict.note(
                f"{self.open:,} in open windows, {self.unread:,} not gathered yet, {owed:,} of closed batches not told yet"
            )

    def _totals(self, closed: Closed) -> None:
        batch = closed.batch
        found = (closed.gross, closed.fees, closed.count, closed.last)
        said = (batch.gross_minor, batch.fees_minor, batch.payment_count, batch.last_sequence)
        if found != said:
            self._offends(
                f"{closed}: says gross {said[0]}, fees {said[1]}, {said[2]} payments, up to entry {said[3]}; its members "
                f"come to gross {found[0]}, fees {found[1]}, {found[2]} payments, up to entry {found[3]}"
            )
        if closed.owed and closed is not self._latest[closed.place[0]]:
            self._offends(f"{closed}: {closed.owed} of its payments were never told SETTLED, a later batch's were")

    def _offends(self, detail: str) -> None:
        self._verdict.offends(detail)


def _uncounted(entry: Entry, member: Entry | None, merchants: frozenset[Account]) -> str:
    """Why no batch will ever count an entry that one should; empty where none should."""
    account = (entry.account, entry.currency)
    if entry.code == EntryCode.PRINCIPAL and entry.direction == Direction.CREDIT and account in merchants:
        return f"credits the merchant {entry.account} and reserves no number for SETTLED: it will never be in a batch"
    beside = member is not None and account == (member.account, member.currency)
    if entry.code == EntryCode.FEE and entry.direction == Direction.DEBIT and not beside:
        return f"takes a fee from {entry.account} beside no credit of it: no batch will count it"
    return ""


def _batch_id(batch: SettlementBatch) -> str:
    return derive_id("batch", batch.account, batch.currency, batch.window_end)


def _expected(posting: Posting, entry: Entry, closed: Closed) -> tuple[str, str | None, str, int, str]:
    """What the SETTLED event of a member must say."""
    event_id = derive_id("settled", closed.batch.batch_id, posting.posting_id)
    return event_id, posting.intent_id, entry.account, entry.amount_minor, entry.currency


def _where(partition: int, offset: int) -> str:
    return f"{EVENTS.name} partition {partition} offset {offset}"


def _at(partition: int, offset: int, posting: Posting) -> str:
    return (
        f"{POSTINGS.name} partition {partition} offset {offset}, posting {posting.posting_id} of payment "
        f"{posting.payment_id} (debtor {posting.debtor})"
    )
