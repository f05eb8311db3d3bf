"""The plan on an in-memory log: the same agents and the same step code, one thread, no Kafka.

Every transaction commits at once. For tests of the rules and for trying things out.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from schemas import codec
from schemas.events import Micros
from schemas.keys import partition_of
from streams.rules import Rules
from streams.tables import TableSpec
from streams.turn import AliasOwner, Received
from topologies.engine.letters import letter_of
from topologies.engine.step import Headers, Parcel, PartitionStep, PartitionTables, Place, Raw, Taken
from topologies.plan import Plan, SharedTable
from topologies.topics import JOURNAL, Topic, dead_letters


class Stored(NamedTuple):
    """A record on the in-memory log; `value` as bytes."""

    partition: int
    offset: int
    timestamp: Micros
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class MemoryBase:
    """Committed rows in a dict."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.get = self.rows.get

    def first(self, before: str, most: int) -> list[tuple[str, Any]]:
        """Rows before `before` in key order."""
        end = before.encode()
        keys = sorted((key for key in self.rows if key.encode() < end), key=str.encode)
        return [(key, self.rows[key]) for key in keys[:most]]

    def prefetch(self, keys: Iterable[str]) -> None:
        """Nothing to do."""

    def apply(self, changes: dict[str, Any | None]) -> None:
        """Keeps changed rows."""
        for key, row in changes.items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row


class Memory:
    """A cluster and its only worker. `now` (µs) is the clock; nothing moves it but you."""

    def __init__(
        self, plan: Plan, partitions: int = 4, rules: Rules | None = None, now: int = 1_700_000_000_000_000
    ) -> None:
        self.plan = plan
        self.partitions = partitions
        self.now = Micros(now)
        self.letters: list[Parcel] = []
        self._rules = rules or Rules()
        self._log: dict[tuple[str, int], list[Stored]] = {}
        self._done: dict[tuple[str, int], int] = {}
        self._steps = [0] * partitions
        self._aliases: dict[str, AliasOwner] = {}
        self._bases: dict[tuple[str, int], MemoryBase] = {}
        self._tables = [PartitionTables(plan, self._base_of(p)) for p in range(partitions)]

    def _base_of(self, partition: int) -> Any:
        def base(spec: TableSpec) -> MemoryBase:
            return self._bases.setdefault((spec.name, partition), MemoryBase())

        return base

    def publish(self, topic: Topic, key: str, value: Any, partition: int | None = None) -> tuple[int, int]:
        """Appends a record (or raw bytes); returns its partition and offset."""
        data = value if isinstance(value, bytes) else codec.encode(value)
        where = partition_of(key, self.partitions) if partition is None else partition
        return where, self._append(topic.name, where, key.encode(), data)

    def _append(self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers = ()) -> int:
        log = self._log.setdefault((topic, partition), [])
        stored = Stored(partition, len(log), self.now, key, value, headers)
        log.append(stored)
        if self.plan.shared is not None and topic == self.plan.shared.topic.name:
            self._fold(stored, self.plan.shared)
        return stored.offset

    def _fold(self, stored: Stored, shared: SharedTable) -> None:
        try:
            record = codec.decoder(shared.topic.subject)(stored.value)
        except codec.Undecodable:
            return
        received = Received(shared.topic.name, stored.partition, stored.offset, stored.timestamp, stored.key, record)
        shared.fold(self._aliases, received)

    def run(self, at: int | None = None, batch: int = 1_000_000) -> "Memory":
        """Steps every partition, `batch` records of a topic at a time, until nothing is left to do."""
        if at is not None:
            self.now = Micros(at)
        while sum(self._step(partition, batch) for partition in range(self.partitions)):
            pass
        return self

    def _step(self, partition: int, batch: int) -> bool:
        taken = [self._take(topic, partition, batch) for topic in self.plan.inputs]
        tables = self._tables[partition]
        due = any(
            agent.next_deadline is not None
            and (moment := agent.next_deadline(tables.bound[agent.name])) is not None
            and moment <= self.now
            for agent in self.plan.agents
        )
        if not due and not any(t.raws for t in taken):
            return False
        place = Place(self.plan, partition, self.partitions, self._rules, "memory")
        step = PartitionStep(place, tables, self._aliases, self.now, taken)
        for first in step.works():
            work = first.decide()
            while work is not None:
                work = work.decide()
        self._commit(partition, step)
        return True

    def _take(self, topic: Topic, partition: int, batch: int) -> Taken:
        log = self._log.get((topic.name, partition), [])
        start = self._done.get((topic.name, partition), 0)
        raws = [Raw(s.offset, s.timestamp, s.key, s.value, _headers_of(s)) for s in log[start : start + batch]]
        return Taken(topic, raws, start, start + len(raws), start + len(raws) == len(log))

    def _commit(self, partition: int, step: PartitionStep) -> None:
        outputs = step.outputs()
        self._steps[partition] += 1
        self._append(JOURNAL.name, partition, None, step.journal(self._steps[partition], (), outputs))
        for (topic, where), pairs in outputs.items():
            for key, value in pairs:
                self._append(topic, where, key, value)
        for parcel in step.parcels:
            name = dead_letters(parcel.agent).name
            self._append(name, partition, *letter_of(parcel, "", f"headrace.{self.plan.role}"))
        self.letters += step.parcels
        step.tables.keep()
        for taken in step.taken:
            self._done[taken.topic.name, partition] = taken.next

    def stored(self, topic: Topic) -> list[Stored]:
        """Every record of a topic, partition by partition."""
        return [s for p in range(self.partitions) for s in self._log.get((topic.name, p), [])]

    def records(self, topic: Topic) -> list[Any]:
        """Every decoded record of a topic, partition by partition."""
        decode = codec.decoder(topic.subject)
        return [decode(s.value) for s in self.stored(topic)]

    def table(self, name: str, partition: int) -> dict[str, Any]:
        """The committed rows of a table."""
        return self._bases[name, partition].rows


def _headers_of(stored: Stored) -> Any:
    return lambda: stored.headers
