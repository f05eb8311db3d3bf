"""A payment's whole story, in order across topics: intents, postings, credits, reversals, batches, events, letters.

Topics have no common order, so a record stands by its time, but never before what it follows from: the second
leg behind its credit, the way back behind the refusal, an event behind the ones with lower numbers (R15, R19).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from replay.letters import Letter, letter_of, letter_topics
from replay.reader import Raw
from replay.source import Source
from schemas import codec
from schemas.events import (
    Credit,
    Direction,
    EntryCode,
    Intent,
    PaymentEvent,
    Posting,
    Reversal,
    SettlementBatch,
    Status,
)
from schemas.keys import partition_of
from topologies.topics import BATCHES, CREDITS, EVENTS, INTENTS, POSTINGS, REVERSALS, Topic

_RANK = {Intent: 0, Posting: 1, Credit: 2, Reversal: 4, SettlementBatch: 6, PaymentEvent: 7, Letter: 8}
"""What stands first of one moment; a posting of the second leg, or of the way back, one behind what it carries out."""
_APPLIED = frozenset({Status.COMPLETED, Status.CAPTURED})


class UnknownPayment(Exception):
    """No record names such a payment."""


class Unreadable(Exception):
    """A record of ours can't be decoded."""


class Told(NamedTuple):
    """A record of the story, and where it stands."""

    topic: str
    partition: int
    offset: int
    at: int
    """When it happened, µs; of what a stranger sent, and of what was said again, when it was written."""
    record: Any
    """Intent, Posting, Credit, Reversal, SettlementBatch, PaymentEvent, or `replay.letters.Letter`."""
    debtor: str

    @property
    def repeat(self) -> bool:
        """Whether it is an event that says again what was said, for an intent that was sent again (R19)."""
        return isinstance(self.record, PaymentEvent) and self.record.repeat_intent_id is not None


def story(source: Source, payment_id: str, debtor: str | None = None, prefix: str = "") -> list[Told]:
    """The records of `payment_id`, by debtor, then in their order.

    Payment ids are a debtor's own, so without `debtor` several payments may be found, and every partition
    is read. `prefix` is that of the topics. Raises UnknownPayment, Unreadable, replay.reader.Unreachable and
    TopicMissing.
    """
    try:
        found = list(_Search(source, payment_id, debtor, prefix).run())
    except UnicodeEncodeError:
        raise UnknownPayment(f"no payment is named {payment_id!r} of {debtor!r}: that is no UTF-8") from None
    if not found:
        whose = "" if debtor is None else f" of {debtor}"
        raise UnknownPayment(
            f"no record tells of payment {payment_id}{whose}. Check the id{'' if debtor is None else 's'}, and --run or the "
            "topic prefix."
        )
    return _ordered(found)


class _Search:
    """Finds the records, reading no more partitions than it must."""

    def __init__(self, source: Source, payment_id: str, debtor: str | None, prefix: str) -> None:
        self._source, self._payment, self._debtor, self._prefix = source, payment_id, debtor, prefix
        self._needle = payment_id.encode()
        self._count = source.require([topic.name for topic in (INTENTS, EVENTS, POSTINGS, CREDITS, REVERSALS)])[
            EVENTS.name
        ]

    def run(self) -> Iterator[Told]:
        """What is found, topic by topic."""
        every = set(range(self._count))
        homes = every if self._debtor is None else {partition_of(self._debtor, self._count)}
        home = [told for topic in (INTENTS, EVENTS, REVERSALS, POSTINGS) for told in self._found(topic, homes)]
        yield from home
        away = every if self._debtor is None else {partition_of(name, self._count) for name in _creditors(home)}
        gone = list(self._found(POSTINGS, away - homes))
        yield from gone
        yield from self._found(CREDITS, away)
        yield from self._batches([*home, *gone])
        yield from self._letters()

    def _found(self, topic: Topic, partitions: set[int]) -> Iterator[Told]:
        """The payment's records on some partitions of a topic."""
        decode = codec.decoder(topic.subject)
        ends = {place: end for place, end in self._source.ends([topic.name]).items() if place[1] in partitions}
        for raw in self._source.read(topic.name, ends):
            if raw.value is None or self._needle not in raw.value:  # strings stand in Avro as they are
                continue
            try:
                record = decode(raw.value)
            except codec.Undecodable as error:
                if topic is INTENTS:
                    continue  # anybody may write there; it is among the letters
                raise Unreadable(
                    f"{topic.name} partition {raw.partition} offset {raw.offset} can't be decoded ({error.code}: "
                    f"{error.reason}); find out what else is wrong: headrace audit"
                ) from error
            if record.payment_id == self._payment and self._debtor in (None, record.debtor):
                yield Told(topic.name, raw.partition, raw.offset, _time(record, raw), record, record.debtor or "")

    def _batches(self, found: Sequence[Told]) -> Iterator[Told]:
        """The settlement batches that the payment's credits are in; of one moment with the SETTLED that it was told by."""
        if BATCHES.name not in self._source.require([]):
            return
        settled = {told.debtor: told.at for told in found if getattr(told.record, "status", None) == Status.SETTLED}
        for told in found:
            for entry in told.record.entries if isinstance(told.record, Posting) else ():
                if entry.settled_sequence is None:
                    continue
                for raw, batch in self._batches_of(entry.account):
                    if (
                        batch.currency == entry.currency
                        and batch.first_sequence <= entry.sequence <= batch.last_sequence
                    ):
                        at = settled.get(told.debtor, raw.timestamp)
                        yield Told(BATCHES.name, raw.partition, raw.offset, at, batch, told.debtor)

    def _batches_of(self, account: str) -> Iterator[tuple[Raw, SettlementBatch]]:
        place = (BATCHES.name, partition_of(account, self._count))
        decode, needle = codec.decoder(BATCHES.subject), account.encode()
        for raw in self._source.read(BATCHES.name, {place: self._source.ends([BATCHES.name])[place]}):
            if needle in (raw.value or b"") and (batch := decode(raw.value)).account == account:
                yield raw, batch

    def _letters(self) -> Iterator[Told]:
        """Dead letters that are about the payment, or whose unreadable bytes hold its id."""
        for topic in letter_topics(self._source):
            for raw in self._source.read(topic, self._source.ends([topic])):
                if raw.value is None or self._needle not in raw.value:
                    continue
                letter = letter_of(raw, self._prefix)
                key = (letter.key or b"").decode("utf-8", "backslashreplace")
                debtor = key if letter.record is None else getattr(letter.record, "debtor", None)
                same = letter.record is None or getattr(letter.record, "payment_id", None) == self._payment
                if same and debtor is not None and self._debtor in (None, debtor):
                    yield Told(topic, raw.partition, raw.offset, raw.timestamp, letter, debtor)


def _creditors(found: Iterable[Told]) -> set[str]:
    """Whom the payment goes to, as far as its home knows."""
    names: set[str | None] = set()
    for told in found:
        if isinstance(told.record, Posting):
            names |= {entry.counterparty for entry in told.record.entries}
        else:
            names.add(told.record.creditor)
    return {name for name in names if name}


def _time(record: Any, raw: Raw) -> int:
    if isinstance(record, Intent) or getattr(record, "repeat_intent_id", None) is not None:
        return raw.timestamp
    for name in ("occurred_at", "sent_at", "decided_at"):
        if hasattr(record, name):
            return int(getattr(record, name))
    raise AssertionError(record)


def _ordered(found: Sequence[Told]) -> list[Told]:
    """By debtor and time, with everything behind what it follows from."""
    begun, sent, back = (_firsts(found, kind) for kind in (Intent, Credit, Reversal))
    placed: list[tuple[int, Told]] = []
    latest: dict[str, int] = {}
    for told in sorted(found, key=_number):
        record = told.record
        about = record.record if isinstance(record, Letter) else record
        key = (told.debtor, getattr(about, "intent_id", None) or "")
        floor = begun.get(key, 0)
        lettered = about is not record
        if (
            isinstance(about, Reversal)
            or (lettered and isinstance(about, Credit))
            or _applies(about)
            or _returns(about)
        ):
            floor = max(floor, sent.get(key, 0))
        if _returns(about) or (lettered and isinstance(about, Reversal)):
            floor = max(floor, back.get(key, 0))
        if isinstance(record, PaymentEvent) and not told.repeat:
            floor = latest[told.debtor] = max(latest.get(told.debtor, 0), floor, told.at)
        placed.append((max(told.at, floor), told))
    placed.sort(key=lambda one: (one[1].debtor, one[0], _rank(one[1].record), *_number(one[1])))
    return [told for _, told in placed]


def _rank(record: Any) -> int:
    if isinstance(record, Posting) and _returns(record):
        return _RANK[Reversal] + 1
    return _RANK[Credit] + 1 if isinstance(record, Posting) and _applies(record) else _RANK[type(record)]


def _number(told: Told) -> tuple[int, str, int, int]:
    return getattr(told.record, "sequence", 0), told.topic, told.partition, told.offset


def _firsts(found: Iterable[Told], kind: type) -> dict[tuple[str, str], int]:
    """When each intent's first record of a kind was made."""
    firsts: dict[tuple[str, str], int] = {}
    for told in found:
        if isinstance(told.record, kind) and not getattr(told.record, "repeat_intent_id", None):
            key = (told.debtor, told.record.intent_id)  # type: ignore[attr-defined]
            firsts[key] = min(firsts.get(key, told.at), told.at)
    return firsts


def _applies(record: Any) -> bool:
    """Whether it is of the second leg: it takes money out of transit."""
    if isinstance(record, PaymentEvent):
        return record.status in _APPLIED
    return isinstance(record, Posting) and any(
        entry.direction == Direction.DEBIT and entry.account.startswith("~in-transit/") for entry in record.entries
    )


def _returns(record: Any) -> bool:
    """Whether it is of the way back."""
    if isinstance(record, PaymentEvent):
        return record.status == Status.REVERSED
    return isinstance(record, Posting) and any(entry.code == EntryCode.RETURN for entry in record.entries)


def state_of(told: Sequence[Told]) -> str:
    """How one debtor's payment stands: its latest event's state; without one SENT, DEAD_LETTER or WAITING."""
    events = [one.record for one in told if isinstance(one.record, PaymentEvent)]
    if events:
        return str(events[-1].payment_state)
    if any(isinstance(one.record, Credit) for one in told):
        return "SENT"
    return "DEAD_LETTER" if any(isinstance(one.record, Letter) for one in told) else "WAITING"


def answered(told: Sequence[Told]) -> bool:
    """Whether a debtor's payment has an event or a dead letter, so that somebody was told."""
    return any(isinstance(one.record, PaymentEvent | Letter) for one in told)
