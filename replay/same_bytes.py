"""Invariant 8: the journal's steps, taken once more, give the records that are on the topics, byte for byte.

Role after role and partition after partition is run from its first step on, at the journal's times, over the same inputs and
the same prefix of the table of aliases (`topologies.engine.rerun`). Dead-letter headers and sweeps of
expired rows are left out. Two bounds make it exact beside running workers: every step up to the first end
of the journal must be found whole on the topics, and every record below the topics' ends, which were
taken later, must come from a step up to the journal's second end, taken last.

Kept in memory: one partition's rows, and eight bytes per record (a keyed 64-bit hash of this process).
"""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from replay.differences import Pair, difference
from replay.expected import Expected, Merge, Writer
from replay.logged import read_changelog
from replay.reader import Place, Raw
from replay.redriven import INNER, is_copy
from replay.source import Progress, Replay, Source, Span
from replay.verdicts import Verdict
from schemas import codec
from schemas.codec import Undecodable
from schemas.internal import JournalRecord, SettingsRecord
from topologies.engine.rerun import Claims, Rerun, Setting, setting_of
from topologies.engine.step import PartitionStep
from topologies.engine.step import Raw as StepRaw
from topologies.plan import Plan
from topologies.topics import JOURNAL, SETTINGS, changelog, dead_letters

EACH = 50_000
"""Records between two lines of progress."""


def replay_of(plans: Sequence[Plan], sources: Callable[[], Source]) -> Replay:
    """A judge of invariant 8 for `replay.audit.judge`. `sources` opens one more reader of the cluster at each call.

    `plans`: those of all roles.
    """

    def judge(span: Span, verdict: Verdict, say: Progress) -> None:
        with _calm_collector():
            agains = [Again(plan, sources, span, say) for plan in plans if plan.role in span.inputs]
            SameBytes(agains, sources(), span, verdict).judge()

    return judge


@contextmanager
def _calm_collector() -> Iterator[None]:
    """Python's cycle collector looks at young objects only: walking all rows again and again takes half the time."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1_000_000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


class Stray(Exception):
    """A partition can't be run on: the reason."""


class Ran(NamedTuple):
    """A step that was taken once more."""

    raw: Raw
    record: JournalRecord
    step: PartitionStep
    outputs: dict[Place, list[tuple[bytes, bytes]]]

    def written(self) -> dict[Place, list[Pair]]:
        """Its records and dead letters by output partition; the journal's own and the changelog left out."""
        found: dict[Place, list[Pair]] = dict(self.outputs)  # type: ignore[arg-type]
        for parcel in self.step.parcels:
            place = (dead_letters(parcel.agent).name, parcel.partition)
            found.setdefault(place, []).append((parcel.raw.key, parcel.raw.value))
        return found


class Stream:
    """One input of one partition, handed out step by step."""

    def __init__(self, raws: Iterator[Raw]) -> None:
        self._raws = raws
        self._next = next(raws, None)

    def take(self, step: int, first: int, after: int) -> list[StepRaw]:
        """The records from `first` on, below `after`. Raises Stray at one before `first`, which no step has read."""
        found, raw = [], self._next
        while raw is not None and raw.offset < after:
            if raw.offset < first:
                raise Stray(f"{raw.topic} offset {raw.offset} was read by no step; step {step} goes on behind it")
            found.append(step_raw(raw))
            raw = next(self._raws, None)
        self._next = raw
        return found


def step_raw(raw: Raw) -> StepRaw:
    """A record as a step takes it; headers are not looked at."""
    return StepRaw(raw.offset, raw.timestamp, raw.key, raw.value, _no_headers)


def _no_headers() -> None:
    return None


class Again:
    """Takes the journal's steps once more."""

    def __init__(self, plan: Plan, sources: Callable[[], Source], span: Span, say: Progress) -> None:
        self.plan, self.span, self._say = plan, span, say
        self._journal = sources()
        self._inputs = {topic.name: sources() for topic in plan.inputs}
        self._claims = Claims(plan, span.partitions)
        self._told: dict[str, SettingsRecord] = {}
        self._settings: dict[str, Setting] = {}
        self._read_settings()
        self._read_claims()

    def _read_settings(self) -> None:
        decode, source = codec.decoder(SETTINGS.subject), self._journal
        if SETTINGS.name not in source.require([]):
            return
        for raw in source.read(SETTINGS.name, source.ends([SETTINGS.name])):
            try:
                told: SettingsRecord = decode(raw.value)
            except Undecodable:
                continue
            self._told[told.code_hash] = told

    def _read_claims(self) -> None:
        if self.plan.shared is None:
            return
        topic = self.plan.shared.topic.name
        for raw in self._journal.read(topic, self._journal.ends([topic])):
            self._claims.add(raw.partition, step_raw(raw))

    def setting(self, code_hash: str) -> Setting:
        """What a hash in the journal stands for."""
        found = self._settings.get(code_hash)
        if found is None:
            found = self._settings[code_hash] = setting_of(code_hash, self._told.get(code_hash))
        return found

    def partition(self, number: int) -> Rerun:
        """A partition before its first step."""
        return Rerun(self.plan, number, self.span.partitions, self._claims)

    def steps(self, rerun: Rerun, partition: int) -> Iterator[Ran]:
        """Takes step after step. Raises Stray where that is not possible."""
        decode, role, count = codec.decoder(JOURNAL.subject), self.plan.role, 0
        inputs = {topic: Stream(self._read(source, topic, partition)) for topic, source in self._inputs.items()}
        place = (JOURNAL.name, partition)
        for raw in self._journal.read(JOURNAL.name, {place: self.span.journal[place]}, self.span.starts):
            try:
                record: JournalRecord = decode(raw.value)
            except Undecodable as error:
                raise Stray(f"{JOURNAL.name} offset {raw.offset} can't be decoded: {error.reason}") from error
            if record.role != role:
                continue
            yield self._take(rerun, raw, record, inputs)
            rerun.tables.keep()
            before, count = count, count + sum(read.records for read in record.inputs)
            if count // EACH != before // EACH:
                self._say(f"replay of {role}, partition {partition}: {count:,} records")
        self._say(f"replay of {role}, partition {partition}: {count:,} records, done")

    def _read(self, source: Source, topic: str, partition: int) -> Iterator[Raw]:
        place = (topic, partition)
        return source.read(topic, {place: self.span.inputs[self.plan.role].get(place, 0)}, self.span.starts)

    def _take(self, rerun: Rerun, raw: Raw, record: JournalRecord, inputs: Mapping[str, Stream]) -> Ran:
        setting = self.setting(record.code_hash)
        raws = {}
        for read in record.inputs:
            if read.topic not in inputs:
                raise Stray(f"step {record.step} read {read.topic}, which this version's plan does not know")
            raws[read.topic] = found = inputs[read.topic].take(record.step, read.first_offset, read.next_offset)
            if len(found) != read.records:
                raise Stray(
                    f"step {record.step} read {read.records:,} records of {read.topic} from offset {read.first_offset} "
                    f"to {read.next_offset}, {len(found):,} are there now: the same input can't be given again"
                )
        if setting.why:
            lost = {(letter.topic, letter.offset) for letter in record.dead_letters}
            raws = {topic: [one for one in found if (topic, one.offset) not in lost] for topic, found in raws.items()}
        try:
            step = rerun.step(record, raws, setting.rules)
            return Ran(raw, record, step, step.outputs())
        except Exception as error:
            raise Stray(f"step {record.step} can't be taken once more: {type(error).__name__}: {error}") from error


class SameBytes:
    """The judge of invariant 8."""

    def __init__(self, agains: Sequence[Again], source: Source, span: Span, verdict: Verdict) -> None:
        """`agains`: one of each role."""
        self._agains = {again.plan.role: again for again in agains}
        self._source, self._span, self._verdict = source, span, verdict
        self._expected = Expected()
        self._rows: list[str] = []
        """What is wrong with rows; told last, as records say more."""
        self._steps = 0
        self._uncompared: dict[str, int] = {}
        """Steps by why they can't be compared."""

    def judge(self) -> None:
        """Runs every partition and compares."""
        for again in self._agains.values():
            for partition in range(self._span.partitions):
                self._run(again, partition)
        for place in self._expected.places():
            self._compare(place)
        for told in self._rows:
            self._verdict.offends(told)
        self._verdict.what = f"records and rows of {self._steps:,} steps"
        for why, count in self._uncompared.items():
            self._verdict.note(f"{count:,} steps are not comparable, their bytes may differ: {why}")

    def _run(self, again: Again, partition: int) -> None:
        """All steps of a partition: what they write is kept as expected; their journal and rows are compared."""
        rerun, at, role = again.partition(partition), 0, again.plan.role
        soft = False
        passing: dict[tuple[str, str], set[bytes | None]] = {}
        try:
            for ran in again.steps(rerun, partition):
                whole = ran.record.step <= self._span.whole.get(role, {}).get(partition, 0)
                self._steps += 1
                if why := again.setting(ran.record.code_hash).why:
                    self._uncompared[why] = self._uncompared.get(why, 0) + 1
                    soft = self._expected.loose = True
                else:
                    if not soft:
                        self._compare_journal(ran)
                    self._expected.add((role, partition), ran.written(), whole=whole, soft=soft)
                if not whole:
                    _note_passing(passing, rerun)
                at = ran.record.at
        except Stray as stray:
            told = f"role {role}, partition {partition}: {stray}"
            self._verdict.note(told) if soft else self._verdict.offends(told)
            self._expected.loose = True
            return
        if not soft:
            self._compare_rows((again, rerun), partition, at, passing)

    def _compare_journal(self, ran: Ran) -> None:
        again = ran.step.journal(ran.record.step, ran.record.alias_offsets, ran.outputs)
        self._verdict.examined += 1
        if again != ran.raw.value:
            _, told = difference(JOURNAL.name, (ran.raw.key, again), (ran.raw.key, ran.raw.value))
            self._verdict.offends(
                f"{JOURNAL.name} partition {ran.raw.partition} offset {ran.raw.offset}, step {ran.record.step}: {told}"
            )

    def _compare_rows(
        self,
        ran: tuple[Again, Rerun],
        partition: int,
        at: int,
        passing: Mapping[tuple[str, str], set[bytes | None]],
    ) -> None:
        """The last row of each key on the changelog is the one that the steps leave."""
        again, rerun = ran
        topic = changelog(again.plan.role).name
        if (topic, partition) not in self._span.ends:
            return
        history = read_changelog(self._source, topic, {partition: self._span.ends[topic, partition]})[partition]
        history.tell(self._verdict)
        own = {spec.name for spec in again.plan.tables()}
        for table in sorted({*own, *history.at}):
            last = history.at[table]
            self._verdict.examined += len(last)
            for key in {*last, *(key.encode() for key in (rerun.keys(table) if table in own else ()))}:
                name = key.decode(errors="replace")
                expected, found = rerun.row(table, name) if table in own else None, last.get(key)
                if expected == found or (found is None and rerun.expired(table, name, at)):
                    continue
                if found not in passing.get((table, name), ()) and not history.untold(table, key):
                    self._rows.append(
                        f"{history.where}, table {table}, key {name!r}: the steps leave the row {_text(expected)}, the "
                        f"changelog has {_text(found)}"
                    )

    def _compare(self, place: Place) -> None:
        """An output partition holds the records of the steps, each source partition's in its order."""
        topic, partition = place
        merge = self._expected.merge(place)
        read = self._source.read(topic, {place: self._span.ends[place]}, self._span.starts)
        raws = (raw for raw in read if not (topic in INNER and is_copy(raw)))
        wrong = next((raw for raw in raws if not merge.takes(hash((raw.key, raw.value)))), None)
        if wrong is not None:
            self._verdict.offends(self._named(place, merge, wrong))
        elif (missing := merge.missing()) is not None:
            step, _ = self._capture(place, *missing)
            self._verdict.offends(
                f"{topic} partition {partition}: step {step} of {_writer(missing[0])} writes a record that is not there"
            )
        self._verdict.examined += merge.same
        if merge.other:
            self._verdict.note(
                f"{topic} partition {partition} has {merge.other:,} records of other bytes or of steps that are not "
                "comparable"
            )

    def _named(self, place: Place, merge: Merge, raw: Raw) -> str:
        """How the first record that differs differs from the nearest one that was expected."""
        where = f"{place[0]} partition {place[1]} offset {raw.offset}"
        found = (raw.key, raw.value)
        if (skipped := merge.skipped(hash(found))) is not None:
            step, _ = self._capture(place, *skipped)
            return f"{where}: a record of step {step} of {_writer(skipped[0])} is missing before it"
        nearest: tuple[int, str] | None = None
        for source, number in merge.heads():
            step, pair = self._capture(place, source, number)
            count, told = difference(place[0], pair, found)
            if nearest is None or count < nearest[0]:
                nearest = count, f"{where}: step {step} of {_writer(source)} gives another record: {told}"
        return f"{where}: no step writes this record" if nearest is None else nearest[1]

    def _capture(self, place: Place, source: Writer, number: int) -> tuple[int, Pair]:
        """Step and bytes of the n-th record (from 0) that a source writes to `place`: runs it again."""
        role, partition = source
        again = self._agains[role]
        for ran in again.steps(again.partition(partition), partition):
            pairs = ran.written().get(place, [])
            if number < len(pairs):
                return ran.record.step, pairs[number]
            number -= len(pairs)
        raise AssertionError(place)


def _writer(source: Writer) -> str:
    role, partition = source
    return f"{role}'s partition {partition}"


def _note_passing(passing: dict[tuple[str, str], set[bytes | None]], rerun: Rerun) -> None:
    """Rows that a step behind the first end of the journal changes: the changelog may have the old or the new one."""
    for table, changed in rerun.tables.changes().items():
        for key, row in changed.items():
            there = passing.setdefault((table, key), set())
            there.update((rerun.row(table, key), rerun.encoded(row)))


def _text(row: bytes | None) -> str:
    return "nothing" if row is None else row.decode(errors="replace")[:200]
