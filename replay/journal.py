"""The journal as a judge reads it: steps that join, and the cut up to which a running system is judged.

A record belongs to a step by its *source*, the partition whose step wrote it, which every record of
the contract tells by its fields, and by its place: the records of one source stand on an output
partition in the order of its steps. So the n-th record of a source on (topic, partition) lies inside
the cut if n is at most the sum of the journal's counts for it. Every role has steps, a source and a cut
of its own.
"""

from array import array
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from replay.verdicts import Verdict, Verdicts
from schemas.internal import JournalRecord
from topologies.topics import ACCOUNT_EVENTS, POSTINGS

CORE, SETTLEMENT = "core", "settlement"
"""The roles whose steps move money, and gather merchants' credits."""
ANYBODY = -1
"""Stands for all sources together where a record does not tell its own: answers to commands and claims."""
STEPS_BACK = 512
"""Steps per partition that a cut can be moved back."""

Route = tuple[int, str, int]
"""(source partition, topic, partition)."""
Place = tuple[str, int]
"""(topic, partition)."""


class Cut:
    """Up to where each input partition was read, and how many records were written on each route."""

    def __init__(
        self, nexts: dict[Place, int], written: dict[Route, int], recent: dict[int, list[JournalRecord]]
    ) -> None:
        self.nexts = nexts
        self.written = written
        self._recent = recent

    def read(self, topic: str, partition: int, offset: int) -> bool:
        """Whether a step inside the cut has read this record."""
        return offset < self.nexts.get((topic, partition), 0)

    def close(self, routes: Mapping[Route, "array[int]"]) -> None:
        """Moves the cut back until no step inside it has read a record that lies outside it.

        The journal's partitions can't be read at one moment, so a step may be seen that read a
        credit whose own step was not. `routes` holds the offsets of all records of the inner topics.
        """
        moved = True
        while moved:
            moved = False
            for (source, topic, partition), offsets in routes.items():
                inside = self.written.get((source, topic, partition), 0)
                if inside >= len(offsets):
                    continue
                while self.nexts.get((topic, partition), 0) > offsets[inside] and self._step_back(partition):
                    moved = True

    def _step_back(self, partition: int) -> bool:
        if not self._recent.get(partition):
            return False
        step = self._recent[partition].pop()
        for read in step.inputs:
            self.nexts[read.topic, partition] = read.first_offset
        for out in step.outputs:
            self.written[source_of(partition, out.topic), out.topic, out.partition] -= out.records
        return True

    def outside(self, routes: Mapping[Route, "array[int]"]) -> set[tuple[str, int, int]]:
        """(topic, partition, offset) of the records on `routes` that belong to later steps."""
        return {
            (topic, partition, offset)
            for (source, topic, partition), offsets in routes.items()
            for offset in offsets[self.written.get((source, topic, partition), 0) :]
        }


def source_of(partition: int, topic: str) -> int:
    """The source under which a step's records on `topic` are counted."""
    return ANYBODY if topic == ACCOUNT_EVENTS.name else partition


class Mark(NamedTuple):
    """Where a partition stood after a step."""

    nexts: dict[str, int]
    """The offset behind what was read, by input topic."""
    postings: int
    """How many records its steps had written to ledger.postings."""


class Journal:
    """All steps, folded by role. `wanted`: by role, (partition, step) of steps to be kept in `marks`."""

    def __init__(self, verdicts: Verdicts, wanted: Mapping[str, set[tuple[int, int]]] | None = None) -> None:
        self._verdict = verdicts.journal
        self._wanted = wanted or {}
        self._roles: dict[str, Steps] = {}
        self.of(CORE)

    def of(self, role: str) -> "Steps":
        """A role's steps; none where it has not taken any."""
        steps = self._roles.get(role)
        if steps is None:
            steps = self._roles[role] = Steps(role, self._verdict, self._wanted.get(role, set()))
        return steps

    def roles(self) -> list[str]:
        """The core and every other role that has taken a step."""
        return [role for role, steps in self._roles.items() if role == CORE or steps.nexts]

    def writer_of(self, topic: str) -> str:
        """The role whose steps alone write to a topic; the core where none has."""
        return next((role for role, steps in self._roles.items() if topic in steps.topics), CORE)

    def add(self, partition: int, offset: int, step: JournalRecord) -> None:
        """The next record of a partition of the journal."""
        self._verdict.examined += 1
        self.of(step.role).add(partition, offset, step)

    def last_steps(self) -> dict[str, dict[int, int]]:
        """The last step of each partition, by role."""
        return {role: steps.last_steps() for role, steps in self._roles.items()}


class Steps:
    """The steps of one role, folded; checks that they join."""

    def __init__(self, role: str, verdict: Verdict, wanted: set[tuple[int, int]]) -> None:
        self.role, self._verdict, self._wanted = role, verdict, wanted
        self.marks: dict[tuple[int, int], Mark] = {}
        self._last: dict[int, tuple[int, int]] = {}
        self.nexts: dict[Place, int] = {}
        self.written: dict[Route, int] = {}
        self.topics: set[str] = set()
        """Every topic that the steps have written to."""
        self.letters: set[tuple[str, int, int]] = set()
        """(topic, partition, offset) of every input that became a dead letter."""
        self._recent: dict[int, deque[JournalRecord]] = {}

    def add(self, partition: int, offset: int, step: JournalRecord) -> None:
        """The next step of a partition."""
        self._joins(partition, offset, step)
        for read in step.inputs:
            self._reads(partition, offset, step, read)
            self.nexts[read.topic, partition] = read.next_offset
        written = self.written
        for topic, to, count in step.outputs:
            route = (source_of(partition, topic), topic, to)
            written[route] = written.get(route, 0) + count
            self.topics.add(topic)
        for topic, letter, _code in step.dead_letters:
            self.letters.add((topic, partition, letter))
        self._recent.setdefault(partition, deque(maxlen=STEPS_BACK)).append(step)
        if (partition, step.step) in self._wanted:
            self.marks[partition, step.step] = self._mark(partition, step)

    def _mark(self, partition: int, step: JournalRecord) -> Mark:
        nexts = {read.topic: read.next_offset for read in step.inputs}
        return Mark(nexts, self.written.get((partition, POSTINGS.name, partition), 0))

    def cut(self) -> Cut:
        """The cut at the journal's end as read so far."""
        recent = {partition: list(steps) for partition, steps in self._recent.items()}
        return Cut(dict(self.nexts), dict(self.written), recent)

    def last_steps(self) -> dict[int, int]:
        """The last step of each partition."""
        return {partition: step for partition, (step, _at) in self._last.items()}

    def around(self, partition: int, step: int) -> tuple[dict[str, int], dict[str, int]]:
        """Offsets by input topic up to which a recent step had read, and from which the next one went on.

        Empty where that step is none of the last `STEPS_BACK`.
        """
        found: tuple[dict[str, int], dict[str, int]] = ({}, {})
        for each in self._recent.get(partition, ()):
            if each.step == step:
                nexts = {read.topic: read.next_offset for read in each.inputs}
                found = (nexts, nexts)
            elif each.step == step + 1:
                found = (found[0], {read.topic: read.first_offset for read in each.inputs})
        return found

    def _joins(self, partition: int, offset: int, step: JournalRecord) -> None:
        number, at = self._last.get(partition, (0, 0))
        where = f"headrace.journal partition {partition} offset {offset}, role {step.role}"
        if step.step != number + 1:
            meaning = "a step was committed twice" if step.step <= number else "a step was lost"
            self._verdict.offends(f"{where}: expected step {number + 1}, found {step.step}: {meaning}")
        if step.at < at:
            self._verdict.offends(f"{where}: step {step.step} is at {step.at}, its predecessor at {at}: time went back")
        self._last[partition] = (step.step, step.at)

    def _reads(self, partition: int, offset: int, step: JournalRecord, read: tuple[str, int, int, int, bool]) -> None:
        topic, first, after, count, _to_end = read
        before = self.nexts.get((topic, partition), 0)
        where = (
            f"headrace.journal partition {partition} offset {offset}, role {self.role}, step {step.step}, input {topic}"
        )
        if first < before:
            self._verdict.offends(f"{where}: begins at {first}, but all below {before} were read: records read twice")
        if not 0 <= count <= after - first:
            self._verdict.offends(f"{where}: {count} records can't stand on the offsets {first} to {after}")


class Tally:
    """Counts what stands on each route, and tells which records lie inside the cut."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut
        self._written = cut.written
        self.found: dict[Route, int] = {}

    def inside(self, source: int, topic: str, partition: int) -> bool:
        """Counts the next record of this route; whether it belongs to a step inside the cut."""
        route = (source, topic, partition)
        number = self.found.get(route, 0) + 1
        self.found[route] = number
        return number <= self._written.get(route, 0)


def compare(verdict: Verdict, topics: frozenset[str], tally: Tally, later: Steps) -> None:
    """Each route of a role holds at least what the journal said at the cut, and at most what it says now."""
    cut, found = tally.cut, tally.found
    verdict.examined += sum(found.values())
    routes = {route for route in {*cut.written, *later.written} if route[1] in topics} | set(found)
    for route in sorted(routes):
        source, topic, partition = route
        least, most = cut.written.get(route, 0), later.written.get(route, 0)
        there = found.get(route, 0)
        who = "steps" if source == ANYBODY else f"partition {source}'s steps"
        where = f"{topic} partition {partition}: {who} wrote"
        if there < least:
            verdict.offends(f"{where} {least:,} records by the journal, {there:,} are there: records were lost")
        elif there > most:
            verdict.offends(
                f"{where} {most:,} records by the journal, {there:,} are there: records without their step, "
                "so a transaction was torn or somebody else wrote"
            )
