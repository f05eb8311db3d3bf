"""One step of one partition: records in, decisions by the plan's agents, records out.

Every driver shares this code: Kafka, memory and replay. It knows no broker and no framework.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from schemas import codec
from schemas.codec import Undecodable
from schemas.events import Micros
from schemas.internal import JournalInput, JournalLetter, JournalOutput, JournalRecord
from schemas.keys import partition_of
from streams.rules import Rules
from streams.tables import TableSpec, new
from streams.turn import Alert, AliasOwner, Decided, Letter, Out, Received, Turn
from topologies.engine.overlay import Base, Overlay
from topologies.plan import Agent, Decision, Plan
from topologies.topics import Topic, dead_letters

Headers = Sequence[tuple[str, bytes | None]]
UNPROCESSABLE = "unprocessable"
"""Code of the dead letter of a record that no agent could process: such a step decides nothing."""


class Raw(NamedTuple):
    """A record as it came from the log."""

    offset: int
    timestamp: int
    """µs."""
    key: bytes | None
    value: bytes | None
    headers: Callable[[], Headers | None]


class Taken(NamedTuple):
    """What a step takes of one topic. Offsets: `first` read, `next` after the last (markers included)."""

    topic: Topic
    raws: Sequence[Raw]
    first: int
    next: int
    to_end: bool


class Parcel(NamedTuple):
    """A dead letter ready to be written: the input byte for byte, and why."""

    agent: str
    topic: Topic
    partition: int
    raw: Raw
    code: str
    message: str
    exception: str | None = None
    """The traceback, where an agent raised."""


class PartitionTables:
    """The tables of one partition, each under an overlay, bound for each agent."""

    def __init__(self, plan: Plan, base: Callable[[TableSpec], Base]) -> None:
        self.overlays = {spec.name: Overlay(base(spec)) for spec in plan.tables()}
        self.bound = {
            agent.name: agent.bind(*(self.overlays[spec.name] for spec in agent.tables)) for agent in plan.agents
        }

    def changes(self) -> dict[str, dict[str, Any | None]]:
        """Changed rows by table; a table without changes is left out."""
        return {name: overlay.changed for name, overlay in self.overlays.items() if overlay.changed}

    def keep(self) -> None:
        """The step is committed."""
        for overlay in self.overlays.values():
            if overlay.changed:
                overlay.keep()

    def drop(self) -> None:
        """The step never happened."""
        for overlay in self.overlays.values():
            overlay.drop()


@dataclass(frozen=True)
class Place:
    """Where and under which settings a partition runs."""

    plan: Plan
    partition: int
    partitions: int
    rules: Rules
    code_hash: str
    deadlines: int = 2_000


@dataclass(slots=True)
class Work:
    """One batch for one agent. `decide` runs it and gives the work for the next agent, if any."""

    step: "PartitionStep"
    agent: Agent
    decision: Decision
    batch: Sequence[Any]

    def decide(self) -> "Work | None":
        """Decides the batch; results stay with the step."""
        decided = self.decision(self.batch, self.step.turn(self.agent))
        self.step.collect(self.agent, decided)
        if not decided.handed_on:
            return None
        following = self.step.place.plan.next_of(self.agent)
        assert following is not None, f"{self.agent.name} hands on to nobody"
        return Work(self.step, following, following.inlets[self.agent.name], decided.handed_on)


class PartitionStep:
    """What one partition does in one transaction."""

    def __init__(
        self,
        place: Place,
        tables: PartitionTables,
        aliases: Mapping[str, AliasOwner],
        at: Micros,
        taken: Sequence[Taken],
    ) -> None:
        self.place = place
        self.tables = tables
        self.at = at
        self.taken = taken
        self._aliases = aliases
        self.records: list[Out] = []
        self.parcels: list[Parcel] = []
        self.alerts: list[Alert] = []
        self.deadlines = 0

    def turn(self, agent: Agent) -> Turn[Any]:
        """The turn of one agent."""
        place = self.place
        return Turn(
            self.at,
            place.partition,
            place.partitions,
            self.tables.bound[agent.name],
            self._aliases,
            place.rules,
            all(taken.to_end and not taken.raws for taken in self.taken),
        )

    def works(self) -> list[Work]:
        """What the agents have to decide, in the order of rule R12: deadlines, then each input topic."""
        works = [
            Work(self, agent, _expire_of(agent, self.place.deadlines), ())
            for agent in self.place.plan.agents
            if agent.expire is not None
        ]
        for taken in self.taken:
            agent = self.place.plan.reader_of(taken.topic)
            batch = self._read(agent, taken)
            if batch:
                works.append(Work(self, agent, agent.inlets[taken.topic], batch))
        return works

    def _read(self, agent: Agent, taken: Taken) -> list[Received]:
        """Decodes a topic's records; what can't be read becomes a dead letter."""
        decode = agent.decoder(taken.topic, self.place.rules)
        name, partition = taken.topic.name, self.place.partition
        batch: list[Received] = []
        for raw in taken.raws:
            offset, timestamp, key, data, _ = raw
            try:
                value = decode(data)
            except Undecodable as error:
                self.parcels.append(Parcel(agent.name, taken.topic, partition, raw, error.code, error.reason))
            else:
                batch.append(new(Received, (name, partition, offset, timestamp, key, value)))
        return batch

    def collect(self, agent: Agent, decided: Decided) -> None:
        """Keeps what an agent decided."""
        self.records += decided.records
        self.alerts += decided.alerts
        self.deadlines += decided.deadlines
        for letter in decided.letters:
            self.parcels.append(self._parcel(agent, letter))

    def _parcel(self, agent: Agent, letter: Letter) -> Parcel:
        taken = next(taken for taken in self.taken if taken.topic.name == letter.received.topic)
        raw = next(raw for raw in taken.raws if raw.offset == letter.received.offset)
        return Parcel(agent.name, taken.topic, letter.received.partition, raw, letter.code, letter.message)

    def outputs(self) -> dict[tuple[str, int], list[tuple[bytes, bytes]]]:
        """Encoded records by (topic, partition), in the order in which they were decided."""
        partitions = self.place.partitions
        found: dict[tuple[str, int], list[tuple[bytes, bytes]]] = defaultdict(list)
        kinds: set[Any] = {type(out.value) for out in self.records}
        encoders = {kind: codec.encoder(kind) for kind in kinds}
        for topic, key, value, partition in self.records:
            where = (topic, partition_of(key, partitions) if partition is None else partition)
            found[where].append((key.encode(), encoders[type(value)](value)))
        return found

    def journal(
        self, step: int, alias_offsets: Sequence[int], outputs: Mapping[tuple[str, int], Sequence[Any]]
    ) -> bytes:
        """The step's journal record, encoded."""
        counts = {where: len(records) for where, records in outputs.items()}
        for parcel in self.parcels:
            where = (dead_letters(parcel.agent).name, parcel.partition)
            counts[where] = counts.get(where, 0) + 1
        return codec.encode(
            JournalRecord(
                role=self.place.plan.role,
                step=step,
                at=self.at,
                inputs=tuple(JournalInput(t.topic.name, t.first, t.next, len(t.raws), t.to_end) for t in self.taken),
                alias_offsets=tuple(alias_offsets),
                code_hash=self.place.code_hash,
                dead_letters=tuple(JournalLetter(p.topic.name, p.raw.offset, p.code) for p in self.parcels),
                outputs=tuple(JournalOutput(topic, partition, n) for (topic, partition), n in sorted(counts.items())),
                deadlines=self.deadlines,
            )
        )


def _expire_of(agent: Agent, most: int) -> Decision:
    expire = agent.expire
    assert expire is not None
    return lambda _batch, turn: expire(turn, most)
