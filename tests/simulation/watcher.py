"""Watches every commit as it is decided: books, journal, offsets. What it finds is a violation."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from naive import Naive

from schemas import codec
from schemas.codec import Undecodable
from schemas.events import CreditAction, ReversalAction
from schemas.internal import JournalRecord
from schemas.keys import partition_of
from topologies.engine.memory.broker import Broker
from topologies.engine.memory.coordinator import Transactional
from topologies.engine.memory.log import Place, Record
from topologies.topics import ALIASES, BY_NAME, COMMANDS, CREDITS, INTENTS, JOURNAL, POSTINGS, REVERSALS


class Violation(Exception):
    """A promise is broken."""


class Watcher:
    """Folds committed transactions in the order of their decisions."""

    def __init__(self, broker: Broker, partitions: int, group: str) -> None:
        self._group = group
        self.naive = Naive()
        self.steps = [0] * partitions
        self.committed = 0
        self.decided = 0
        """Input records that committed steps have decided."""
        self._broker = broker
        self._partitions = partitions
        self._at = [0] * partitions
        self._aliases: list[Sequence[int]] = [()] * partitions
        self._next: Counter[Place] = Counter()
        self._books: dict[tuple[str, str], list[int]] = {}
        self._transit = 0
        self._undecided: dict[tuple[str, int, int], int] = {}
        """Amounts of credits and returns by (topic, partition, offset) that no step has read yet."""
        self._decode = {name: codec.decoder(topic.subject) for name, topic in BY_NAME.items()}
        self.violations: list[str] = []
        broker.coordinator.on_end.append(self._watch)

    def _watch(self, txn: Transactional, commit: bool) -> None:  # as decided
        try:
            self._ended(txn, commit)
        except Violation as violation:
            self.violations.append(str(violation))
        except LookupError as unknown:
            self.violations.append(f"a decision about {unknown}, of which the naive ledger knows nothing")

    def _ended(self, txn: Transactional, commit: bool) -> None:  # as decided
        if not commit:
            return
        self.committed += 1
        wrote = {place: self._broker.logs[place].undecided(txn.producer) for place in sorted(txn.places)}
        promised = self._broker.group(self._group).promised(txn.producer)
        journals = {
            partition: [self._decode[JOURNAL.name](record.value) for _, record in records]
            for (topic, partition), records in wrote.items()
            if topic == JOURNAL.name
        }
        self._check_offsets(txn, promised, journals)
        self._check_counts(wrote, journals)
        for partition, (journal,) in journals.items():
            self._step(partition, journal)
        self._post(wrote)
        self._move(wrote)

    # -- atomic ----------------------------------------------------------------------------------

    def _check_offsets(self, txn: Transactional, promised: Any, journals: dict[int, list[JournalRecord]]) -> None:
        if not promised:
            raise Violation(f"{txn.identity} epoch {txn.epoch}: a transaction without offsets: {sorted(txn.places)}")
        for partition, steps in journals.items():
            if len(steps) != 1:
                raise Violation(f"partition {partition}: one transaction holds the steps {[s.step for s in steps]}")
            expected = {(read.topic, partition): (read.next_offset, str(steps[0].step)) for read in steps[0].inputs}
            found = {place: value for place, value in promised.items() if place[1] == partition}
            if found != expected:
                raise Violation(
                    f"partition {partition} step {steps[0].step}: its offsets are {found}, the journal says {expected}"
                )
        for (topic, partition), (offset, metadata) in promised.items():
            if partition not in journals and metadata != str(self.steps[partition]):
                raise Violation(
                    f"{topic} [{partition}]: offset {offset} is committed at step {metadata} without that step's "
                    f"records; the last one is {self.steps[partition]}"
                )

    def _check_counts(self, wrote: dict[Place, list[tuple[int, Record]]], journals: dict[int, Any]) -> None:
        told: Counter[Place] = Counter()
        for (journal,) in journals.values():
            for topic, partition, count in journal.outputs:
                told[topic, partition] += count
        found = {
            place: len(records) for place, records in wrote.items() if not place[0].startswith("headrace.") and records
        }
        if found != dict(told):
            raise Violation(f"a commit wrote {found}, its journal records tell of {dict(told)}")

    def _step(self, partition: int, journal: JournalRecord) -> None:
        if journal.step != self.steps[partition] + 1:
            raise Violation(f"partition {partition}: step {journal.step} follows step {self.steps[partition]}")
        if journal.at < self._at[partition]:
            raise Violation(f"partition {partition}: time goes back in step {journal.step}")
        self.steps[partition], self._at[partition] = journal.step, journal.at
        if any(now < before for now, before in zip(journal.alias_offsets, self._aliases[partition], strict=False)):
            raise Violation(f"partition {partition} step {journal.step}: the table of aliases goes back")
        self._aliases[partition] = journal.alias_offsets
        letters = {(topic, offset) for topic, offset, _ in journal.dead_letters}
        self.naive.expire(journal.at, lambda name: partition_of(name, self._partitions) == partition)
        for read in journal.inputs:
            place = (read.topic, partition)
            if read.first_offset < self._next[place]:
                raise Violation(f"{read.topic} [{partition}]: {read.first_offset} is read again in step {journal.step}")
            records = list(self._broker.logs[place].committed(self._next[place], read.next_offset))
            if len(records) != read.records:
                raise Violation(
                    f"{read.topic} [{partition}] step {journal.step}: {len(records)} records stand from "
                    f"{self._next[place]} to {read.next_offset}, {read.records} were decided"
                )
            self._next[place] = read.next_offset
            self.decided += len(records)
            for offset, record in records:
                self._undecided.pop((read.topic, partition, offset), None)
                if (read.topic, offset) not in letters:
                    self._feed(read.topic, record, journal)

    def _feed(self, topic: str, record: Record, journal: JournalRecord) -> None:
        try:
            value = self._decode[topic](record.value)
        except Undecodable as error:
            raise Violation(f"an unreadable record of {topic} got no dead letter") from error
        if topic == COMMANDS.name:
            self.naive.command(value)
        elif topic == INTENTS.name:
            self.naive.intent(value, journal.at, self._owner(value.creditor_alias, journal.alias_offsets))
        elif topic == CREDITS.name and value.action is CreditAction.CREDIT:
            self.naive.credit(value.debtor, value.payment_id)
        elif topic == REVERSALS.name and value.action is ReversalAction.RETURN:
            self.naive.give_back(value.debtor, value.payment_id)

    def _owner(self, alias: str | None, read: Sequence[int]) -> str | None:
        """Whose the alias is by the claims below `read`: the first one's."""
        if alias is None:
            return None
        partition = partition_of(alias, self._partitions)
        for _, record in self._broker.logs[ALIASES.name, partition].committed(0, read[partition]):
            claim = self._decode[ALIASES.name](record.value)
            if claim.alias == alias:
                return str(claim.account)
        return None

    # -- books -----------------------------------------------------------------------------------

    def _post(self, wrote: dict[Place, list[tuple[int, Record]]]) -> None:
        decode = self._decode[POSTINGS.name]
        for (topic, _), records in wrote.items():
            if topic == POSTINGS.name:
                for _, record in records:
                    self._entries(decode(record.value))

    def _entries(self, posting: Any) -> None:
        sums: Counter[Any] = Counter()
        for e in posting.entries:
            book = self._books.setdefault((e.account, e.currency), [0, 0, 0, 0, 0])
            book[2 * (e.direction == "CREDIT") + (e.layer == "POSTED")] += e.amount_minor
            book[4] += 1
            after = [e.debits_pending, e.debits_posted, e.credits_pending, e.credits_posted, e.sequence]
            if book != after:
                raise Violation(f"{e.account}: entry {e.sequence} says {after}, the entries before it add up to {book}")
            signed = e.amount_minor if e.direction == "CREDIT" else -e.amount_minor
            sums[e.layer] += signed
            if e.account.startswith("~in-transit"):
                self._transit += signed
            elif (
                e.account != "bank"
                and not e.account.startswith("~")
                and e.debits_posted + e.debits_pending > e.credits_posted
            ):
                raise Violation(f"{e.account} is overdrawn: {after}")
        if any(sums.values()):
            raise Violation(f"posting {posting.posting_id} does not balance: {sums}")

    def _move(self, wrote: dict[Place, list[tuple[int, Record]]]) -> None:
        for (topic, partition), records in wrote.items():
            if topic in {CREDITS.name, REVERSALS.name}:
                for offset, record in records:
                    value = self._decode[topic](record.value)
                    if value.action in {CreditAction.CREDIT, ReversalAction.RETURN}:
                        self._undecided[topic, partition, offset] = value.amount_minor
        if self._transit != sum(self._undecided.values()):
            raise Violation(f"{self._transit} are in transit, but undecided: {self._undecided}")

    def balances(self) -> dict[str, tuple[int, int]]:
        """(posted balance, held) by account, internal ones left out."""
        return {
            account: (book[3] - book[1], book[0] - book[2])
            for (account, _), book in self._books.items()
            if not account.startswith("~")
        }
