"""One partition that this worker runs: its inbox, its tables, and its search for a poisonous record."""

import traceback
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.events import Micros
from streams.turn import AliasOwner
from topologies.engine.changelog import pack
from topologies.engine.checkpoint import Checkpoint, Slice
from topologies.engine.errors import WorkerStopped
from topologies.engine.inbox import Inbox
from topologies.engine.limits import Limits
from topologies.engine.recovery import Recovered
from topologies.engine.seams import Clock
from topologies.engine.step import UNPROCESSABLE, Parcel, PartitionStep, PartitionTables, Place, Taken

ONCE_MORE = 2
"""A record that fails this often alone, one time after another, is a dead letter."""


@dataclass
class Poison:
    """The search by halving: how many records the next step may take, and how often one failed alone."""

    room: int | None = None
    left: int = 0
    suspect: tuple[str, int] | None = None
    """Topic and offset of the record that failed alone last."""
    failures: int = 0
    traced: str | None = None
    in_a_row: int = 0


class Partition:
    """State of one ready partition between steps."""

    def __init__(self, place: Place, state: Recovered, limits: Limits, clock: Clock) -> None:
        self.place = place
        self.state = state
        self.inbox = Inbox(place.plan, state.offsets)
        self.tables = PartitionTables(place.plan, lambda spec: state.tables[spec.name])
        self._limits = limits
        self._clock = clock
        self._poison = Poison()
        self._settled = 0
        self._condemned: deque[int] = deque()
        """How many records were settled before each of the last condemned ones."""
        self._sweeping = deque(spec for spec in place.plan.tables() if spec.expires is not None)
        self._swept = ""
        self.checkpoint = Checkpoint(state, limits)

    @property
    def number(self) -> int:
        """The partition's number."""
        return self.place.partition

    def next_step(self, aliases: Mapping[str, AliasOwner], ends: Mapping[str, int], room: int) -> PartitionStep | None:
        """The step that is due now, or None. Nothing is taken out of the inbox before `settle`."""
        at = Micros(max(self._clock.micros(), self.state.at))
        poison = self._poison
        if poison.traced is not None:
            return self._letter_step(aliases, at, ends)
        taken = self.inbox.take(room if poison.room is None else min(room, poison.room), ends)
        if not any(t.raws for t in taken) and not self._deadline_due(at, at_end=all(t.to_end for t in taken)):
            return None
        return PartitionStep(self.place, self.tables, aliases, at, taken)

    def _deadline_due(self, at: int, *, at_end: bool) -> bool:
        for agent in self.place.plan.agents:
            if agent.next_deadline is not None and (at_end or not agent.deadlines_at_end):
                moment = agent.next_deadline(self.tables.bound[agent.name])
                if moment is not None and moment <= at:
                    return True
        return False

    def _letter_step(self, aliases: Mapping[str, AliasOwner], at: Micros, ends: Mapping[str, int]) -> PartitionStep:
        """The condemned record's own step: a dead letter and its offset, nothing else."""
        assert self._poison.suspect is not None, "only a record that failed alone is condemned"
        topic, offset = self._poison.suspect
        taken = self.inbox.take_alone(topic, ends)
        culprit = next(t for t in taken if t.raws)
        assert culprit.raws[0].offset == offset, "the condemned record is the first of its topic"
        step = PartitionStep(self.place, self.tables, aliases, at, taken)
        agent = self.place.plan.reader_of(culprit.topic).name
        trace = self._poison.traced
        step.parcels.append(
            Parcel(
                agent,
                culprit.topic,
                self.number,
                culprit.raws[0],
                UNPROCESSABLE,
                "every attempt to process this record raised an error; the trace says where",
                trace,
            )
        )
        return step

    @property
    def condemned(self) -> bool:
        """Whether the next step is a dead letter's own."""
        return self._poison.traced is not None

    def failed(self, step: PartitionStep, error: Exception, *, in_deadline: bool = False) -> None:
        """The step raised: take half as many next time; a record that fails alone twice is condemned.

        Raises WorkerStopped where no record can be blamed, or where too many records in a row are bad.
        """
        self.tables.drop()
        count = sum(len(taken.raws) for taken in step.taken)
        poison = self._poison
        if in_deadline or count == 0:
            raise WorkerStopped(f"partition {self.number}: a deadline can't be carried out: {error!r}") from error
        if count > 1:
            if poison.room is None:
                poison.left = count
            poison.room, poison.failures = count // 2, 0
            return
        poison.room, poison.left = 1, max(poison.left, 1)
        alone = next((taken.topic.name, taken.raws[0].offset) for taken in step.taken if taken.raws)
        poison.failures = poison.failures + 1 if alone == poison.suspect else 1
        poison.suspect = alone
        if poison.failures < ONCE_MORE:
            return
        poison.in_a_row += 1
        self._break_if_hopeless(error)
        poison.traced = "".join(traceback.format_exception(error))

    def _break_if_hopeless(self, error: Exception) -> None:
        """A bad deployment must not empty a topic into the dead letters."""
        limits, recent = self._limits, self._condemned
        recent.append(self._settled)
        while recent[0] < self._settled - limits.unknown_bad_of:
            recent.popleft()
        if self._poison.in_a_row > limits.unknown_bad_in_a_row or len(recent) > limits.unknown_bad:
            raise WorkerStopped(
                f"partition {self.number}: {len(recent)} of the last {limits.unknown_bad_of} records can't be processed "
                f"({error!r}): this looks like a bad deployment, not like bad records"
            ) from error

    def sweep(self, at: int) -> None:
        """Deletes a few rows that mean nothing any more, in the step that is about to be committed.

        One slice of one table a step, table after table, so state stays bounded at a small, even cost.
        Decisions judge rows by `at` themselves, so it makes no difference to them when a row goes.
        """
        if not self._sweeping:
            return
        spec = self._sweeping[0]
        expires = spec.expires
        assert expires is not None, "only tables whose rows expire are swept"
        overlay = self.tables.overlays[spec.name]
        rows = self.state.tables[spec.name].after(self._swept, self._limits.sweep_rows)
        for key, row in rows:
            moment = expires(row)
            if moment is not None and moment <= at and key not in overlay.changed:
                overlay.delete(key)
        if len(rows) < self._limits.sweep_rows:
            self._sweeping.rotate(-1)
            self._swept = ""
        else:
            self._swept = rows[-1][0] + "\0"

    def plan(self, step: PartitionStep, alias_offsets: Sequence[int]) -> "Planned":
        """All that the decided step's transaction will write."""
        self.sweep(step.at)
        outputs = step.outputs()
        journal = step.journal(self.state.step + 1, alias_offsets, outputs)
        rows: list[tuple[bytes, bytes | None]] = []
        for table, changed in self.tables.changes().items():
            rows += self.state.tables[table].encode(changed)
        again = self.checkpoint.take(len(rows))
        packed = pack(self.state.step + 1, again.base, [*again.rows, *rows])
        return Planned(self, step, outputs, journal, rows, again, packed)

    def settle(self, step: PartitionStep) -> None:
        """The step's transaction is committed: its records are decided for good."""
        self.inbox.settle(step.taken)
        self._settled += records_of(step.taken)
        self.tables.keep()
        self.state.offsets = self.inbox.next
        self.state.step += 1
        self.state.at = step.at
        poison = self._poison
        if poison.room is None:
            return
        poison.failures = 0
        if poison.traced is None:
            poison.in_a_row = 0
        poison.left -= sum(len(taken.raws) for taken in step.taken)
        if poison.traced is not None or poison.left <= 0:
            self._poison = Poison(in_a_row=poison.in_a_row)

    def close(self) -> None:
        """Closes the store."""
        self.state.store.close()


@dataclass(slots=True)
class Planned:
    """A partition's step with all that its transaction will write."""

    partition: Partition
    step: PartitionStep
    outputs: dict[tuple[str, int], list[tuple[bytes, bytes]]]
    journal: bytes
    rows: list[tuple[bytes, bytes | None]]
    """Changed rows under their keys in the store; None: deleted."""
    again: Slice
    """Unchanged rows that a checkpoint writes once more."""
    packed: list[bytes]
    """The records for the changelog."""

    def offsets(self) -> dict[str, int]:
        """Offset to commit by topic: every input of the partition, read or not."""
        return {taken.topic.name: taken.next for taken in self.step.taken}


def records_of(taken: Sequence[Taken]) -> int:
    """How many records were taken."""
    return sum(len(t.raws) for t in taken)
