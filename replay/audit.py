"""The audit: judges a cluster by its topics (invariants 1 to 7 and 10 of docs/architecture.md).

It shares no code with the decisions that it judges; what else it may be asked (stores, a replay, committed
offsets: 6, 8 and 9) is told by `replay.state`, and only a replay runs them again. A running system is judged at one cut:

1. The journal is read to its end. Per partition it says up to where each input was read, and how
   many records went to each output partition.
2. Only then the ends of all other topics are taken, open transactions included, and each topic is
   read to there, waiting for what is open. So all that those steps wrote is seen.
3. A record belongs to a step inside the cut if it is among the first n of its source on its
   partition, n being the journal's sum (see `replay.journal`). Everything else is left out.
4. Where a step inside the cut has read a credit or reversal that lies outside it, the cut of the
   reading partition is moved back until that is so nowhere: then the cut is a state that the system
   really was in, and a credit is decided inside it exactly if it was read inside it.
5. At the end the journal is read once more. No partition may hold more records of a source than the
   journal accounts for by then, nor fewer than it did at first.

Settlement is judged at the cut that the journal's first end makes for its own steps: what they read of the postings.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from replay.books import Account, Books
from replay.fates import Fates
from replay.journal import ANYBODY, CORE, SETTLEMENT, Cut, Journal, Route, Tally, compare
from replay.lettered import last_headers, origin_of
from replay.letters import receipts
from replay.outcomes import AFTERWARDS, APPLIED, Outcomes
from replay.reader import Place, Raw, Reader
from replay.redriven import Copies, is_copy
from replay.rest import at_rest
from replay.settled import Settled
from replay.source import LETTERS, Progress, Source
from replay.standing import Group
from replay.state import Further, State
from replay.verdicts import AuditReport, Check, Verdicts, plain
from schemas import codec
from schemas.codec import Undecodable
from schemas.events import PaymentEvent
from schemas.keys import partition_of
from topologies.engine.config import ClusterConfig
from topologies.topics import (
    ACCOUNT_EVENTS,
    BATCHES,
    COMMANDS,
    CREDITS,
    DELIVERIES,
    EVENTS,
    INTENTS,
    JOURNAL,
    POSTINGS,
    REDRIVES,
    REVERSALS,
    Topic,
)

if TYPE_CHECKING:
    from replay.stores import Stores

READ = (JOURNAL, COMMANDS, ACCOUNT_EVENTS, REVERSALS, CREDITS, EVENTS, INTENTS, POSTINGS)
"""Topics that must be there, in the order in which they are read; what other roles write and letters, where there are any."""
EACH = 50_000
"""Records between two lines of progress."""

__all__ = ("AuditReport", "Check", "Progress", "Source", "audit", "judge")


def audit(
    cluster: ClusterConfig,
    *,
    quiet: bool = False,
    replay: bool = False,
    home: Path | None = None,
    progress: Progress | None = None,
) -> AuditReport:
    """Judges a cluster.

    `quiet` also fails on intents that wait, money in transit, lag and open transactions. `replay` takes
    every step of the journal once more and compares the bytes (invariant 8). `home` is the folder of
    workers' state whose stores are judged too (invariants 6 and 9). `progress` is told a line now and then.
    Raises replay.reader.Unreachable, TopicMissing, and replay.source.NoStores.
    """
    with ExitStack() as opened:
        looked: list[Stores] = []
        again = None
        if home is not None:
            from replay.stores import open_stores

            looked = open_stores(opened, cluster, home)
        from topologies.payments import PLANS

        if replay:
            from replay.same_bytes import replay_of

            again = replay_of(list(PLANS.values()), lambda: opened.enter_context(_reader(cluster)))
        further = Further(again, looked, {role: opened.enter_context(Group(cluster, role)) for role in PLANS})
        return judge(opened.enter_context(_reader(cluster)), quiet=quiet, further=further, progress=progress)


def _reader(cluster: ClusterConfig) -> Reader:
    """A reader that knows all topics: one that does not waits a second for each."""
    reader = Reader(cluster)
    reader.partitions()
    return reader


def judge(
    source: Source, *, quiet: bool = False, further: Further | None = None, progress: Progress | None = None
) -> AuditReport:
    """Judges what `source` holds, and what else is asked; see `audit`."""
    return _Audit(source, further or Further(), progress or (lambda _line: None), quiet=quiet).run()


class _Audit:
    def __init__(self, source: Source, further: Further, say: Progress, *, quiet: bool) -> None:
        self._source = source
        self._quiet = quiet
        self._say = say
        self._counts = source.require([topic.name for topic in READ])
        self._partitions = self._counts[INTENTS.name]
        self._letter_topics = sorted(name for name in self._counts if name.startswith(LETTERS))
        self._read = [topic.name for topic in READ]
        self._read += [topic.name for topic in (BATCHES, DELIVERIES) if topic.name in self._counts]
        self._verdicts = Verdicts()
        self._state = State(further, source, self._verdicts, quiet=quiet)
        self._journal = Journal(self._verdicts, self._state.wanted())
        self._records: Counter[str] = Counter()
        self._codes: Counter[str] = Counter()
        self._ends: dict[Place, int] = {}
        self._copies = Copies()
        self._lettered: dict[str, Tally] = {}
        """By topic that one role alone writes: it may write there for the first time while the audit reads."""

    def run(self) -> AuditReport:
        begun = monotonic()
        if (odd := self._uneven()) is not None:
            self._verdicts.counts.offends(odd)
            return AuditReport(ok=False, checks=self._verdicts.checks(), seconds=monotonic() - begun)
        if self._state.hangs():
            return AuditReport(ok=False, checks=(self._verdicts.still.check(),), seconds=monotonic() - begun)
        seen = self._source.ends([JOURNAL.name])
        self._steps(seen, None)
        tallies = {role: Tally(self._journal.of(role).cut()) for role in (CORE, SETTLEMENT, *self._journal.roles())}
        tally = tallies[CORE]
        cut = tally.cut
        self._state.begin(self._journal, cut)
        self._ends = self._source.ends(self._read[1:] + self._letter_topics + self._state.also())
        flags = self._flags(tally)
        outcomes = Outcomes(self._verdicts, self._partitions, cut)
        routes: dict[Route, array[int]] = {}
        self._reversals(outcomes, routes)
        self._credits(outcomes, routes)
        cut.close(routes)
        outcomes.leave_out(cut.outside(routes))
        tally.found.update({route: len(offsets) for route, offsets in routes.items()})
        lost = self._dead_letters(outcomes, tallies)
        if DELIVERIES.name in self._counts:
            self._count_only(DELIVERIES.name, tallies)
        settled = self._batches(tallies[SETTLEMENT])
        self._events(outcomes, tallies, settled)
        undecided = outcomes.undecided(lost)
        fates = self._intents(cut, outcomes)
        books = Books(self._verdicts, self._partitions, flags, fates.conflicts())
        merchants = frozenset(account for account, held in flags.items() if "MERCHANT" in held)
        self._postings(tally, books, settled, merchants)
        books.compare_transit(undecided)
        ends = self._ends
        self._state.ask_offsets(self._journal, ends)
        self._later(seen, tallies)
        self._state.end(self._journal, ends, self._ends, self._say)
        return self._report((outcomes, fates, books, settled), seconds=monotonic() - begun)

    def _uneven(self) -> str | None:
        for name in self._read + self._letter_topics:
            if self._counts[name] != self._partitions:
                return (
                    f"{name} has {self._counts[name]} partitions, {INTENTS.name} {self._partitions}: records of one "
                    "account stand apart, nothing can be judged"
                )
        return None

    def _raws(self, topic: str, starts: Mapping[Place, int] | None = None) -> Iterator[Raw]:
        """The records of a topic, counted and told about."""
        count = 0
        for raw in self._source.read(topic, self._ends, starts):
            count += 1
            if not count % EACH:
                self._say(f"{topic}: {count:,} records")
            yield raw
        self._records[topic] += count
        self._say(f"{topic}: {count:,} records, done")

    def _decoded(self, topic: Topic) -> Iterator[tuple[int, int, Any]]:
        """(partition, offset, record) of a topic that we write; unreadable ones are offences."""
        return ((raw.partition, raw.offset, record) for raw, record in self._records_of(topic))

    def _records_of(self, topic: Topic) -> Iterator[tuple[Raw, Any]]:
        decode = codec.decoder(topic.subject)
        verdict = self._verdicts.readable
        for raw in self._raws(topic.name):
            try:
                record = decode(raw.value)
            except Undecodable as error:
                verdict.offends(
                    f"{topic.name} partition {raw.partition} offset {raw.offset} can't be decoded ({error.code}: "
                    f"{error.reason}): we wrote nonsense, or somebody else wrote here"
                )
                continue
            verdict.examined += 1
            yield raw, record

    def _steps(self, ends: dict[Place, int], starts: Mapping[Place, int] | None) -> None:
        decode = codec.decoder(JOURNAL.subject)
        self._ends = ends
        for raw in self._raws(JOURNAL.name, starts):
            try:
                step = decode(raw.value)
            except Undecodable as error:
                self._verdicts.readable.offends(
                    f"{JOURNAL.name} partition {raw.partition} offset {raw.offset} can't be decoded ({error.code}: "
                    f"{error.reason})"
                )
                continue
            self._journal.add(raw.partition, raw.offset, step)

    def _flags(self, tally: Tally) -> dict[Account, tuple[str, ...]]:
        """The flags of every account, by currency: those of the first OPEN that was accepted."""
        accepted: set[tuple[str, str]] = set()
        for partition, _offset, answer in self._decoded(ACCOUNT_EVENTS):
            tally.inside(ANYBODY, ACCOUNT_EVENTS.name, partition)
            if answer.accepted and answer.alias is None:
                accepted.add((answer.account, answer.command_id))
        flags: dict[Account, tuple[str, ...]] = {}
        known: dict[tuple[str, ...], tuple[str, ...]] = {}
        decode = codec.decoder(COMMANDS.subject)
        for raw in self._raws(COMMANDS.name):
            try:
                command = decode(raw.value)
            except Undecodable:
                continue
            if command.command == "OPEN" and (command.account, command.command_id) in accepted:
                held = tuple(command.flags)
                flags.setdefault((command.account, command.currency), known.setdefault(held, held))
        return flags

    def _reversals(self, outcomes: Outcomes, routes: "dict[Route, array[int]]") -> None:
        for raw, reversal in self._records_of(REVERSALS):
            if is_copy(raw):
                self._copies.copy(raw)
                outcomes.reversal_again(raw.partition, raw.offset, reversal)
                continue
            source = partition_of(reversal.creditor, self._partitions)
            routes.setdefault((source, REVERSALS.name, raw.partition), array("q")).append(raw.offset)
            outcomes.reversal(raw.partition, raw.offset, reversal)

    def _credits(self, outcomes: Outcomes, routes: "dict[Route, array[int]]") -> None:
        for raw, credit in self._records_of(CREDITS):
            partition, offset, home = raw.partition, raw.offset, credit.home_partition
            if home != partition_of(credit.debtor, self._partitions):
                self._verdicts.transit.offends(
                    f"{CREDITS.name} partition {partition} offset {offset}, payment {credit.payment_id}: names home "
                    f"partition {home}, which is not where {credit.debtor} lives"
                )
                continue
            if is_copy(raw):
                self._copies.copy(raw)
                outcomes.credit_again(partition, offset, credit)
                continue
            routes.setdefault((home, CREDITS.name, partition), array("q")).append(offset)
            outcomes.credit(partition, offset, credit)

    def _dead_letters(self, outcomes: Outcomes, tallies: Mapping[str, Tally]) -> set[tuple[str, int, int]]:
        """Counts letters inside the cut and compares them with the journal; gives the inputs they stand for."""
        lost: set[tuple[str, int, int]] = set()
        for topic in self._letter_topics:
            role = self._journal.writer_of(topic)
            tally = self._lettered[topic] = Tally(tallies[role].cut)
            for raw in self._raws(topic):
                headers = last_headers(raw)
                origin = origin_of(headers, self._partitions)
                if origin is not None:
                    self._copies.letter(raw, origin)
                if not tally.inside(raw.partition, topic, raw.partition):
                    continue
                self._codes[headers.get("headrace.error.code", "none")] += 1
                if origin is None or origin not in self._journal.of(role).letters:
                    self._verdicts.counts.offends(
                        f"{topic} partition {raw.partition} offset {raw.offset}: its __dlq.errors headers name "
                        f"{origin or 'no input'}, of which the journal knows no dead letter"
                    )
                    continue
                if origin[0] == INTENTS.name:
                    outcomes.homes[origin[1]].letters[origin[2]] += 1
                lost.add(origin)
        return lost

    def _count_only(self, topic: str, tallies: Mapping[str, Tally]) -> None:
        """A topic that one role writes on its own partitions, and that nothing else is asked of."""
        tally = self._lettered[topic] = Tally(tallies[self._journal.writer_of(topic)].cut)
        for raw in self._raws(topic):
            tally.inside(raw.partition, topic, raw.partition)

    def _batches(self, tally: Tally) -> Settled:
        """The batches that settlement has closed."""
        verdict, steps = self._verdicts.settled, self._journal.of(SETTLEMENT)
        settled = Settled(verdict, self._partitions, tally.cut, steps.letters)
        verdict.judged = BATCHES.name in self._counts
        for partition, offset, batch in self._decoded(BATCHES) if verdict.judged else ():
            if tally.inside(partition, BATCHES.name, partition):
                settled.batch(partition, offset, batch)
        return settled

    def _events(self, outcomes: Outcomes, tallies: Mapping[str, Tally], settled: Settled) -> None:
        event: PaymentEvent
        partitions, name, tally, further = self._partitions, EVENTS.name, tallies[CORE], tallies[SETTLEMENT]
        for partition, offset, event in self._decoded(EVENTS):
            status = event.status
            if status in AFTERWARDS:  # settlement writes it where the creditor lives
                if further.inside(partition_of(event.creditor, partitions), name, partition):
                    outcomes.statuses[str(status)] += 1
                    settled.event(partition, offset, event)
                continue
            # Only the creditor's partition writes COMPLETED and CAPTURED; all else is written at home (R15).
            source = partition_of(event.creditor, partitions) if status in APPLIED else partition
            if tally.inside(source, name, partition):
                outcomes.event(partition, offset, event)

    def _intents(self, cut: Cut, outcomes: Outcomes) -> Fates:
        fates = Fates(self._verdicts, cut, outcomes.homes)
        decode = codec.decoder(INTENTS.subject)
        for raw in self._raws(INTENTS.name):
            try:
                intent = decode(raw.value)
            except Undecodable:
                intent = None
            fates.intent(raw.partition, raw.offset, intent)
        fates.close()
        return fates

    def _postings(self, tally: Tally, books: Books, settled: Settled, merchants: frozenset[Account]) -> None:
        name, state = POSTINGS.name, self._state
        for partition, offset, posting in self._decoded(POSTINGS):
            if tally.inside(partition, name, partition):
                books.post(partition, offset, posting)
            settled.post(partition, offset, posting, merchants)
            state.post(partition, tally.found[partition, name, partition], posting)
        settled.close()

    def _later(self, seen: Mapping[Place, int], tallies: dict[str, Tally]) -> None:
        """What the journal says by now bounds what may be there."""
        self._steps(self._source.ends([JOURNAL.name]), seen)
        for topic, lettered in self._lettered.items():
            role = self._journal.writer_of(topic)
            # A role that had taken no step at the cut had written nothing up to there.
            tallies.setdefault(role, Tally(Cut({}, {}, {}))).found.update(lettered.found)
        topics = frozenset({*self._read[2:], *self._letter_topics} - {INTENTS.name})
        for role, tally in tallies.items():
            compare(self._verdicts.counts, topics, tally, self._journal.of(role))
        if REDRIVES.name in self._counts:
            self._copies.judge(receipts(self._source), self._verdicts.counts)

    def _report(self, parts: tuple[Outcomes, Fates, Books, Settled], *, seconds: float) -> AuditReport:
        outcomes, fates, books, settled = parts
        money, held = books.money()
        in_transit: Counter[str] = Counter()
        for (_debtor, _payment, currency), amount in books.transit.items():
            in_transit[currency] += amount
        checks = self._verdicts.checks()
        if self._quiet:
            gathered = SETTLEMENT in self._journal.roles()
            checks = (*checks, at_rest(outcomes, fates, books, settled if gathered else None))
        return AuditReport(
            ok=all(check.ok for check in checks),
            checks=checks,
            records=dict(self._records),
            intents=self._verdicts.fates.examined,
            waiting=fates.waiting,
            fates=plain(fates.by_fate),
            events_by_status=plain(outcomes.statuses),
            declined_by_reason=plain(outcomes.reasons),
            repeats=outcomes.repeats,
            dead_letters=plain(self._codes),
            money=money,
            held=held,
            in_transit={currency: amount for currency, amount in sorted(in_transit.items()) if amount},
            seconds=round(seconds, 3),
        )
