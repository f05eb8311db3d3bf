"""Credits, reversals and events inside the cut: what became of money that was sent (invariant 10)."""

from collections import Counter
from sys import intern
from typing import NamedTuple, TypeVar

from replay.books import Paid
from replay.journal import Cut
from replay.verdicts import Verdicts
from schemas.events import Credit, PaymentEvent, Reversal

CREDITS, REVERSALS = "ledger.credits", "ledger.reversals"
APPLIED = frozenset({"COMPLETED", "CAPTURED"})
"""Statuses that only the creditor's partition writes (R15)."""
PROVISIONAL = frozenset({"REVIEW", "AUTHORISED"})
"""Statuses after which another event of the same intent may come."""
AFTERWARDS = frozenset({"SETTLED"})
"""Statuses that follow an intent's end without being its fate."""


class Fate(NamedTuple):
    """An event, as much of it as the judge needs."""

    event_id: str
    status: str
    reason: str | None
    sequence: int
    occurred_at: int
    offset: int
    """In payments.events."""
    bounded: bool
    """Whether it carries a deadline."""
    decided_at: int
    """When home decided: of an outcome, when its money was sent."""


class Repeat(NamedTuple):
    """An event that was given again."""

    event_id: str
    status: str
    reason: str | None
    offset: int


class Sent(NamedTuple):
    """A credit whose decision has not been met yet."""

    debtor: str
    payment_id: str
    amount_minor: int
    currency: str
    sequence: int
    partition: int
    offset: int
    decided_by: int | None
    """Offset of the APPROVE that sent it."""
    sent_at: int


One = TypeVar("One", Fate, Repeat)


class Home:
    """What the events, credits and letters say of the intents of one partition, by intent offset."""

    __slots__ = ("answers", "asked", "decided", "events", "letters", "sent")

    def __init__(self) -> None:
        self.events: dict[int, Fate | list[Fate]] = {}
        self.decided: dict[int, Fate | list[Fate]] = {}
        """Events that an APPROVE or REJECT caused, by its offset."""
        self.answers: dict[int, Repeat | list[Repeat]] = {}
        self.sent: dict[int, Sent] = {}
        """Undecided credits."""
        self.asked: dict[int, tuple[int, int]] = {}
        """Unanswered REPEATs: partition and offset in ledger.credits."""
        self.letters: Counter[int] = Counter()


Key = tuple[str, str, int]
"""(debtor, payment id, sequence)."""


class Outcomes:
    """Matches every credit with its one decision, and every reversal with what home made of it."""

    def __init__(self, verdicts: Verdicts, partitions: int, cut: Cut) -> None:
        self.homes = [Home() for _ in range(partitions)]
        self.statuses: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.repeats = 0
        self._verdicts = verdicts
        self._cut = cut
        self._returned: dict[Key, list[tuple[Reversal, int, int]]] = {}
        """A payment id may be used again when its row has expired (R21), so several credits may have one key."""
        self._told: dict[tuple[int, int], int] = {}
        """(home partition, offset of the repeating intent) -> offset in ledger.reversals."""
        self._copied: list[tuple[tuple[str, int, int], tuple[str, int, int]]] = []
        """Places of redriven records, each with that of the record that it is the copy of."""

    def reversal(self, partition: int, offset: int, reversal: Reversal) -> None:
        """The next reversal; all come before the first credit."""
        self._verdicts.transit.examined += 1
        if reversal.action == "REPEAT":
            if reversal.repeat_intent_offset is not None:
                self._told[partition, reversal.repeat_intent_offset] = offset
            return
        key = (reversal.debtor, reversal.payment_id, reversal.sequence)
        self._returned.setdefault(key, []).append((reversal, partition, offset))

    def reversal_again(self, partition: int, offset: int, reversal: Reversal) -> None:
        """A reversal that was a dead letter and was redriven: it takes the place of the one that it is the copy of."""
        here = (REVERSALS, partition, offset)
        asks = (partition, reversal.repeat_intent_offset)
        if reversal.action == "REPEAT":
            if asks in self._told:
                self._copied.append((here, (REVERSALS, partition, self._told[partition, asks[1] or 0])))
                self._told[partition, asks[1] or 0] = offset
            return
        key = (reversal.debtor, reversal.payment_id, reversal.sequence)
        backs = self._returned.get(key, [])
        number = next((n for n, back in enumerate(backs) if back[:2] == (reversal, partition)), None)
        if number is None:
            self._offends(f"{_at(*here, key)} was redriven, and is no copy of a reversal before it")
            return
        self._copied.append((here, (REVERSALS, partition, backs[number][2])))
        backs[number] = (reversal, partition, offset)

    def credit_again(self, partition: int, offset: int, credit: Credit) -> None:
        """A credit that was a dead letter and was redriven: it takes the place of the one that it is the copy of."""
        here, home = (CREDITS, partition, offset), self.homes[credit.home_partition]
        if credit.action == "REPEAT":
            asks = credit.repeat_intent_offset
            if asks is not None and asks in home.asked:
                self._copied.append((here, (CREDITS, *home.asked[asks])))
                home.asked[asks] = (partition, offset)
            return
        sent = home.sent.get(credit.intent_offset)
        said = (credit.debtor, credit.payment_id, credit.amount_minor, credit.currency, credit.sequence, partition)
        if sent is None or sent[:6] != said:
            key = (credit.debtor, credit.payment_id, credit.sequence)
            self._offends(f"{_at(*here, key)} was redriven, and is no copy of a credit before it")
            return
        self._copied.append((here, (CREDITS, partition, sent.offset)))
        home.sent[credit.intent_offset] = sent._replace(offset=offset)

    def _back(self, key: Key) -> tuple[Reversal, int, int] | None:
        """The next reversal of a credit that was returned, taken out."""
        backs = self._returned.get(key)
        if backs is None:
            return None
        back = backs.pop(0)
        if not backs:
            del self._returned[key]
        return back

    def credit(self, partition: int, offset: int, credit: Credit) -> None:
        """The next credit; all come before the first event."""
        self._verdicts.transit.examined += 1
        home = self.homes[credit.home_partition]
        if credit.action == "REPEAT":
            if credit.repeat_intent_offset is not None:
                home.asked[credit.repeat_intent_offset] = (partition, offset)
            return
        key = (credit.debtor, credit.payment_id, credit.sequence)
        if (known := home.sent.get(credit.intent_offset)) is not None:
            self._offends(
                f"{_at(CREDITS, partition, offset, key)} carries out intent offset {credit.intent_offset} once more, "
                f"after {CREDITS} partition {known.partition} offset {known.offset}: money was sent twice"
            )
        home.sent[credit.intent_offset] = Sent(
            credit.debtor, credit.payment_id, credit.amount_minor, intern(credit.currency), credit.sequence, partition, offset,
            credit.decided_by_intent_offset, credit.sent_at,
        )  # fmt: skip

    def leave_out(self, outside: set[tuple[str, int, int]]) -> None:
        """Forgets the credits and reversals at these places (topic, partition, offset): later steps wrote them."""
        if not outside:
            return
        outside = set(outside)
        for copy, original in self._copied:
            if original in outside:
                outside.add(copy)
        for number, home in enumerate(self.homes):
            home.sent = {o: s for o, s in home.sent.items() if (CREDITS, s.partition, s.offset) not in outside}
            home.asked = {asks: place for asks, place in home.asked.items() if (CREDITS, *place) not in outside}
            for asks in [asks for (p, asks), o in self._told.items() if p == number and (REVERSALS, p, o) in outside]:
                del self._told[number, asks]
        inside = {
            key: [back for back in backs if (REVERSALS, back[1], back[2]) not in outside]
            for key, backs in self._returned.items()
        }
        self._returned = {key: backs for key, backs in inside.items() if backs}

    def event(self, partition: int, offset: int, event: PaymentEvent) -> None:
        """The next event of a partition."""
        home = self.homes[partition]
        if event.repeat_intent_id is not None or event.repeat_intent_offset is not None:
            self._repeat(home, partition, offset, event)
            return
        status = intern(str(event.status))
        self.statuses[status] += 1
        if event.reason is not None:
            self.reasons[str(event.reason)] += 1
        about = event.intent_offset
        if about is None:
            self._verdicts.fates.offends(
                f"payments.events partition {partition} offset {offset}, event {event.event_id}: names no intent offset"
            )
            return
        sent = home.sent.get(about)
        fate = Fate(
            event.event_id, status, event.reason, event.sequence, event.occurred_at, offset,
            event.deadline_at is not None, event.occurred_at if sent is None else sent.sent_at,
        )  # fmt: skip
        _add(home.events, about, fate)
        if event.decided_by_intent_offset is not None and status not in AFTERWARDS:
            _add(home.decided, event.decided_by_intent_offset, fate)
        if status in APPLIED:
            self._applied(home, partition, offset, event)
        elif status == "REVERSED":
            self._reversed(home, partition, offset, event)

    def _repeat(self, home: Home, partition: int, offset: int, event: PaymentEvent) -> None:
        self.repeats += 1
        asks = event.repeat_intent_offset
        if asks is None:
            self._verdicts.fates.offends(
                f"payments.events partition {partition} offset {offset}, event {event.event_id}: is given again to "
                f"intent {event.repeat_intent_id} without its offset"
            )
            return
        answer = Repeat(event.event_id, str(event.status), event.reason, offset)
        _add(home.answers, asks, answer)
        home.asked.pop(asks, None)
        self._told.pop((partition, asks), None)

    def _applied(self, home: Home, partition: int, offset: int, event: PaymentEvent) -> None:
        sent = home.sent.pop(event.intent_offset or 0, None)
        key = (event.debtor, event.payment_id, event.sequence)
        where = _at("payments.events", partition, offset, key)
        if sent is None:
            self._offends(
                f"{where}: {event.status} without an undecided credit: money was paid out twice or never sent"
            )
            return
        self._agrees(where, event, sent)
        if not self._cut.read(CREDITS, sent.partition, sent.offset):
            self._offends(f"{where}: {event.status}, but {_of(sent)} has not been read by any step")

    def _reversed(self, home: Home, partition: int, offset: int, event: PaymentEvent) -> None:
        sent = home.sent.pop(event.intent_offset or 0, None)
        where = _at("payments.events", partition, offset, (event.debtor, event.payment_id, event.sequence))
        if sent is None:
            self._offends(f"{where}: REVERSED without an undecided credit: money was given back twice or never sent")
            return
        self._agrees(where, event, sent)
        if self._back((sent.debtor, sent.payment_id, sent.sequence)) is None:
            self._offends(f"{where}: REVERSED, but no reversal says that {_of(sent)} was refused")

    def _agrees(self, where: str, event: PaymentEvent, sent: Sent) -> None:
        found = (event.debtor, event.payment_id, event.amount_minor, event.currency, event.sequence)
        expected = (sent.debtor, sent.payment_id, sent.amount_minor, sent.currency, sent.sequence)
        if found != expected:
            self._offends(f"{where}: expected {expected} as in {_of(sent)}, found {found}: another payment's outcome")

    def undecided(self, letters: set[tuple[str, int, int]]) -> dict[Paid, int]:
        """Money that credits and reversals still carry, by payment. `letters`: inputs that became dead letters.

        What a step has read must be decided, unless it is a dead letter; what none has read can't be.
        """
        money: Counter[Paid] = Counter()
        for number, home in enumerate(self.homes):
            for sent in home.sent.values():
                money[sent.debtor, sent.payment_id, sent.currency] += sent.amount_minor
                self._waits(sent, letters)
            for asks, place in home.asked.items():
                self._unanswered(number, asks, place, letters)
        for key, backs in self._returned.items():
            for _reversal, partition, offset in backs:
                self._offends(
                    f"{_at(REVERSALS, partition, offset, key)}: returns a credit that was applied too, was given back "
                    "before, or was never sent"
                )
        return {paid: amount for paid, amount in money.items() if amount}

    def _waits(self, sent: Sent, letters: set[tuple[str, int, int]]) -> None:
        key = (sent.debtor, sent.payment_id, sent.sequence)
        back = self._back(key)
        topic, partition, offset = (CREDITS, sent.partition, sent.offset) if back is None else (REVERSALS, *back[1:])
        if back is not None and (back[0].amount_minor, back[0].currency) != (sent.amount_minor, sent.currency):
            self._offends(f"{_at(topic, partition, offset, key)}: returns another amount than {_of(sent)} carried")
        if self._cut.read(topic, partition, offset) and (topic, partition, offset) not in letters:
            self._offends(
                f"{_at(topic, partition, offset, key)}: was read by a step and has no decision: "
                f"{sent.amount_minor} {sent.currency} stay in transit for ever"
            )

    def _unanswered(self, home: int, asks: int, place: tuple[int, int], letters: set[tuple[str, int, int]]) -> None:
        told = self._told.get((home, asks))
        topic, partition, offset = (CREDITS, *place) if told is None else (REVERSALS, home, told)
        if self._cut.read(topic, partition, offset) and (topic, partition, offset) not in letters:
            self._offends(
                f"{topic} partition {partition} offset {offset}: REPEAT for payments.intents partition {home} offset "
                f"{asks} was read by a step and never answered"
            )

    def _offends(self, detail: str) -> None:
        self._verdicts.transit.offends(detail)


def _add(found: dict[int, One | list[One]], offset: int, one: One) -> None:
    """One entry stands alone, as nearly always; several stand in a list."""
    known = found.get(offset)
    if known is None:
        found[offset] = one
    elif isinstance(known, list):
        known.append(one)
    else:
        found[offset] = [known, one]


def _of(sent: Sent) -> str:
    return f"its credit ({CREDITS} partition {sent.partition} offset {sent.offset})"


def _at(topic: str, partition: int, offset: int, key: Key) -> str:
    debtor, payment_id, sequence = key
    return f"{topic} partition {partition} offset {offset}, payment {payment_id} of {debtor}, sequence {sequence}"
