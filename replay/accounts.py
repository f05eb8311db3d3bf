"""An account's books, folded from its own partition of `ledger.postings` (R1, R3, R4; invariant 4)."""

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from replay.audit import Source
from replay.reader import Raw
from replay.window import iso
from schemas import codec
from schemas.events import Direction, Entry, EntryCode, Layer, Micros, Minor, Posting
from schemas.keys import partition_of
from topologies.topics import ACCOUNT_EVENTS, COMMANDS, POSTINGS, Topic

_PLACES = {
    (Direction.DEBIT, Layer.PENDING): 0,
    (Direction.DEBIT, Layer.POSTED): 1,
    (Direction.CREDIT, Layer.PENDING): 2,
    (Direction.CREDIT, Layer.POSTED): 3,
}


class UnknownAccount(Exception):
    """No such account was opened, and no entry names it."""


class BooksDisagree(Exception):
    """An entry does not follow from the one before it, or can't be read."""


class Balance(NamedTuple):
    """Balances in one currency, in minor units: debits and credits, pending and posted (R1)."""

    currency: str
    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int
    sequence: int
    """Of the last entry; 0 where there is none."""
    at: Micros | None
    """When the last entry was made."""
    flags: tuple[str, ...]
    """The flags that the account was opened with; none for an internal account."""

    @property
    def posted(self) -> int:
        """The balance, read from the account's own side (R3)."""
        balance = self.credits_posted - self.debits_posted
        return -balance if "DEBIT_NORMAL" in self.flags else balance

    @property
    def held(self) -> int:
        """Money that is set aside, such as for a review."""
        return self.debits_pending

    @property
    def available(self) -> int | None:
        """What may go out (R4); None where no overdraft is refused, so there is no limit."""
        if "NO_OVERDRAFT" not in self.flags:
            return None
        return self.credits_posted - self.debits_posted - self.debits_pending


class Line(NamedTuple):
    """One entry, and the posting that it is part of."""

    at: Micros
    sequence: int
    code: EntryCode
    direction: Direction
    layer: Layer
    amount_minor: Minor
    currency: str
    counterparty: str | None
    payment_id: str
    posting_id: str


class AccountBooks(NamedTuple):
    """An account: a balance per currency, sorted, and its latest entries, oldest first."""

    account: str
    partition: int
    balances: tuple[Balance, ...]
    entries: tuple[Line, ...]


def account_books(source: Source, account: str, entries: int = 5, until: int | None = None) -> AccountBooks:
    """Folds the account's entries and keeps the last `entries` of them. Reads its partition alone.

    `until`: what happened after this moment (µs) is left out, what happened at it is not. Raises
    UnknownAccount, BooksDisagree, replay.reader.Unreachable and TopicMissing.
    """
    topics = (POSTINGS, COMMANDS, ACCOUNT_EVENTS)
    counts = source.require([topic.name for topic in topics])
    try:
        needle = account.encode()
    except UnicodeEncodeError:
        raise UnknownAccount(f"no account is named {account!r}: that is no UTF-8") from None
    partition = partition_of(account, counts[POSTINGS.name])
    purses: dict[str, _Purse] = {}
    latest: deque[tuple[Entry, Posting]] = deque(maxlen=entries)
    for raw, posting in _named(source, POSTINGS, partition, needle):
        if until is not None and posting.occurred_at > until:
            continue
        for entry in posting.entries:
            if entry.account == account:
                purse = purses.get(entry.currency)
                if purse is None:
                    purse = purses[entry.currency] = _Purse()
                purse.add(entry, posting, raw)
                latest.append((entry, posting))
    # Opened before its first entry, so what is read now tells of every account that has entries.
    opened, later = _opened(source, account, partition, needle, until)
    if not purses and not opened and later is not None:
        raise UnknownAccount(
            f"account {account} was not open yet: it was opened at {iso(later)}; ask for a later moment"
        )
    if not purses and not opened:
        raise UnknownAccount(
            f"account {account} was never opened and has no entry (partition {partition} of {POSTINGS.name}); check "
            "the id, and --run or the topic prefix"
        )
    flags = next(iter(opened.values()), ())
    balances = [purses.get(currency, _Purse()).balance(currency, flags) for currency in sorted({*purses, *opened})]
    return AccountBooks(account, partition, tuple(balances), tuple(_line(*one) for one in latest))


def _named(source: Source, topic: Topic, partition: int, needle: bytes) -> Iterator[tuple[Raw, Any]]:
    """The readable records of one partition that hold `needle`, with where they stand."""
    here = {(topic.name, partition): source.ends([topic.name])[topic.name, partition]}
    decode = codec.decoder(topic.subject)
    for raw in source.read(topic.name, here):
        if raw.value is None or needle not in raw.value:  # strings stand in Avro as they are
            continue
        try:
            yield raw, decode(raw.value)
        except codec.Undecodable as error:
            if topic is COMMANDS:
                continue  # anybody may write there; it became a dead letter
            raise BooksDisagree(
                f"{topic.name} partition {partition} offset {raw.offset} can't be decoded ({error.code}: "
                f"{error.reason}); find out what else is wrong: headrace audit"
            ) from error


class _Purse:
    """Balances while they are folded."""

    def __init__(self) -> None:
        self._sums = [0, 0, 0, 0]
        self._sequence = 0
        self._at: Micros | None = None

    def add(self, entry: Entry, posting: Posting, raw: Raw) -> None:
        """Adds one entry. Raises BooksDisagree where it does not follow from the one before."""
        place = _PLACES.get((entry.direction, entry.layer))
        if place is not None:
            self._sums[place] += entry.amount_minor
        self._sequence += 1
        said = [entry.debits_pending, entry.debits_posted, entry.credits_pending, entry.credits_posted, entry.sequence]
        if place is None or said != [*self._sums, self._sequence]:
            raise BooksDisagree(
                f"{raw.topic} partition {raw.partition} offset {raw.offset}, posting {posting.posting_id}: entry "
                f"{entry.sequence} of {entry.account} does not follow from its entry {self._sequence - 1} in "
                f"{entry.currency}; find out what else is wrong: headrace audit"
            )
        self._at = posting.occurred_at

    def balance(self, currency: str, flags: tuple[str, ...]) -> Balance:
        """What the entries came to."""
        debits_pending, debits_posted, credits_pending, credits_posted = self._sums
        return Balance(
            currency, debits_pending, debits_posted, credits_pending, credits_posted, self._sequence, self._at, flags
        )


def _line(entry: Entry, posting: Posting) -> Line:
    return Line(
        posting.occurred_at, entry.sequence, entry.code, entry.direction, entry.layer, entry.amount_minor,
        entry.currency, entry.counterparty, posting.payment_id, posting.posting_id,
    )  # fmt: skip


def _opened(
    source: Source, account: str, partition: int, needle: bytes, until: int | None
) -> tuple[dict[str, tuple[str, ...]], Micros | None]:
    """By currency, in the order in which they were opened: the flags that the account was opened with.

    And when it was opened for the first time, if that was after `until`.
    """
    accepted: set[str] = set()
    later: dict[str, Micros] = {}
    for _, answer in _named(source, ACCOUNT_EVENTS, partition, needle):
        if answer.account == account and answer.accepted and answer.alias is None:
            if until is None or answer.occurred_at <= until:
                accepted.add(answer.command_id)
            else:
                later.setdefault(answer.command_id, answer.occurred_at)
    found: dict[str, tuple[str, ...]] = {}
    first: Micros | None = None
    for _, command in _named(source, COMMANDS, partition, needle):
        if command.account == account and command.command == "OPEN":
            if command.command_id in accepted:
                found.setdefault(command.currency, tuple(command.flags))
            elif first is None:
                first = later.get(command.command_id)
    return found, first
