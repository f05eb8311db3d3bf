"""The plan's steps taken once more from their journal: the same agents and the same step code, no Kafka.

The third driver beside `turns.py` and `memory/`. Tables are dicts, so one partition's rows must fit
into memory. Rows that expired are not swept: it makes no difference to decisions when a row goes.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from schemas import codec
from schemas.events import Micros
from schemas.internal import JournalLetter, JournalRecord, SettingsRecord
from streams.notification_rules import notification_rules
from streams.rules import Rules, screening_rules
from streams.settlement_rules import settlement_rules
from streams.turn import AliasOwner, Received
from topologies.engine import identity
from topologies.engine.step import UNPROCESSABLE, Parcel, PartitionStep, PartitionTables, Place, Raw, Taken
from topologies.engine.store import encode_row
from topologies.plan import Plan
from topologies.topics import BY_NAME


class WentBack(Exception):
    """The journal contradicts itself: what no worker does."""


class Setting(NamedTuple):
    """What a hash in the journal stands for."""

    rules: Rules
    why: str = ""
    """Why a step under this hash may give other bytes here; empty: same code, same settings."""


def setting_of(code_hash: str, told: SettingsRecord | None) -> Setting:
    """The settings that `told` keeps under a journal's hash; default ones where they can't be known."""
    if told is None:
        return Setting(Rules(), "headrace.settings does not have its settings")
    try:
        values = orjson.loads(told.settings)
        parts = {
            "screening": screening_rules(values["screening"]),
            "settlement": settlement_rules(values["settlement"]),
            "notification": notification_rules(values["notification"]),
        }
        rules = Rules(**{**values, **parts})
    except (ValueError, TypeError, KeyError) as error:
        return Setting(Rules(), f"the settings of version {told.version} can't be read: {error}")
    if identity.code_hash(rules) != code_hash:
        return Setting(rules, f"version {told.version} had other code, or its settings were changed")
    return Setting(rules)


class Rows:
    """Committed rows of one table in a dict; keys are put in order when `first` is asked for the first time."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.get = self.rows.get
        self._order: list[tuple[bytes, str]] | None = None

    def first(self, before: str, most: int) -> list[tuple[str, Any]]:
        """At most `most` rows before `before`, in the order of their UTF-8 keys."""
        if self._order is None:
            self._order = sorted((key.encode(), key) for key in self.rows)
        end = bisect_left(self._order, (before.encode(),))
        return [(key, self.rows[key]) for _, key in self._order[: min(most, end)]]

    def prefetch(self, keys: Iterable[str]) -> None:
        """Nothing to do: all is at hand."""

    def apply(self, changes: dict[str, Any | None]) -> None:
        """Makes changed rows (None: deleted) the committed ones."""
        if self._order is not None:
            for key, row in changes.items():
                self._place(self._order, key, gone=row is None)
        for key, row in changes.items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row

    def _place(self, order: list[tuple[bytes, str]], key: str, *, gone: bool) -> None:
        there = key in self.rows
        if gone and there:
            del order[bisect_left(order, (key.encode(), key))]
        elif not gone and not there:
            insort(order, (key.encode(), key))


class Claims:
    """Every record of the shared table's topic, decoded once for all partitions."""

    def __init__(self, plan: Plan, partitions: int) -> None:
        self._shared = plan.shared
        self.logs: list[list[Received]] = [[] for _ in range(partitions)]

    def add(self, partition: int, raw: Raw) -> None:
        """The next record of a partition; what can't be read is folded by nobody."""
        assert self._shared is not None, "only a shared table has claims"
        try:
            value = codec.decoder(self._shared.topic.subject)(raw.value)
        except codec.Undecodable:
            return
        name = self._shared.topic.name
        self.logs[partition].append(Received(name, partition, raw.offset, Micros(raw.timestamp), raw.key, value))

    def fold(self, rows: dict[str, AliasOwner], received: Received) -> None:
        """Applies one record to the shared table's rows."""
        assert self._shared is not None, "only a shared table has claims"
        self._shared.fold(rows, received)


class Rerun:
    """One partition, from its first step on."""

    def __init__(self, plan: Plan, partition: int, partitions: int, claims: Claims) -> None:
        self._plan = plan
        self._partition = partition
        self._partitions = partitions
        self._claims = claims
        self._folded = [0] * len(claims.logs)
        self._aliases: dict[str, AliasOwner] = {}
        self._specs = {spec.name: spec for spec in plan.tables()}
        self._rows = {name: Rows() for name in self._specs}
        self.tables = PartitionTables(plan, lambda spec: self._rows[spec.name])

    def step(self, record: JournalRecord, raws: Mapping[str, Sequence[Raw]], rules: Rules) -> PartitionStep:
        """Takes the step that `record` tells of, with its input records by topic; `keep` or `drop` its rows."""
        self._fold(record.alias_offsets)
        # As many deadlines as the step carried out: how many one may is a worker's limit, which no hash covers.
        place = Place(self._plan, self._partition, self._partitions, rules, record.code_hash, record.deadlines)
        taken = [
            Taken(BY_NAME[read.topic], raws[read.topic], read.first_offset, read.next_offset, read.to_end)
            for read in record.inputs
        ]
        step = PartitionStep(place, self.tables, self._aliases, record.at, taken)
        letter = next((letter for letter in record.dead_letters if letter.code == UNPROCESSABLE), None)
        if letter is not None:
            self._condemn(step, letter)
            return step
        for first in step.works():
            work = first.decide()
            while work is not None:
                work = work.decide()
        return step

    def _fold(self, offsets: Sequence[int]) -> None:
        """The shared table, up to where the step's worker had read it (R25). Raises WentBack."""
        for partition, end in enumerate(offsets):
            log, done = self._claims.logs[partition], self._folded[partition]
            if done and end <= log[done - 1].offset:
                raise WentBack(f"it had read the table of aliases less far than the step before: {tuple(offsets)}")
            while done < len(log) and log[done].offset < end:
                self._claims.fold(self._aliases, log[done])
                done += 1
            self._folded[partition] = done

    def _condemn(self, step: PartitionStep, letter: JournalLetter) -> None:
        """A dead letter's own step: the record and its offset, nothing else."""
        for taken in step.taken:
            for raw in taken.raws:
                if (taken.topic.name, raw.offset) == (letter.topic, letter.offset):
                    agent = self._plan.reader_of(taken.topic).name
                    step.parcels.append(Parcel(agent, taken.topic, self._partition, raw, letter.code, ""))

    def keys(self, table: str) -> Iterable[str]:
        """The keys of a table's rows."""
        return self._rows[table].rows.keys()

    def row(self, table: str, key: str) -> bytes | None:
        """A committed row as its changelog has it, None where there is none."""
        return self.encoded(self._rows[table].rows.get(key))

    @staticmethod
    def encoded(row: Any) -> bytes | None:
        """A row as changelogs have it; None stays None, which deletes."""
        return None if row is None else encode_row(row)

    def expired(self, table: str, key: str, at: int) -> bool:
        """Whether a row means nothing any more at `at` (µs), so that a worker may have swept it away."""
        expires = self._specs[table].expires
        row = self._rows[table].rows.get(key)
        moment = None if row is None or expires is None else expires(row)
        return moment is not None and moment <= at
