"""What an audit asks besides the payments' own topics: rows, stores, offsets, and a replay (invariants 6, 8 and 9)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from replay.journal import CORE, Cut, Journal
from replay.logged import read_changelog
from replay.reader import Place
from replay.rows import ACCOUNTS, Rows
from replay.source import CHANGELOGS, LETTERS, Progress, Replay, Source, Span
from replay.standing import Committed, Standing, compare_lag, compare_offsets, hanging, settle, tell_open
from replay.verdicts import Verdicts
from schemas.events import Posting
from topologies.topics import BY_NAME, DELIVERIES, POSTINGS, changelog

if TYPE_CHECKING:
    from replay.stores import Stores

_CORES = changelog(CORE).name


@dataclass(frozen=True)
class Further:
    """What else is to be judged; nothing by default."""

    replay: Replay | None = None
    stores: "Sequence[Stores]" = ()
    """By role."""
    standing: Mapping[str, Standing] = field(default_factory=dict)
    """By role."""


def _ours(topic: str) -> bool:
    """Whether a topic is of the contract; without a prefix a cluster may have others."""
    return topic in BY_NAME or topic.startswith((CHANGELOGS, LETTERS))


class State:
    """The audit's companion: told what it reads, in the order in which it must be read."""

    def __init__(self, further: Further, source: Source, verdicts: Verdicts, *, quiet: bool) -> None:
        self._further, self._source, self._verdicts, self._quiet = further, source, verdicts, quiet
        self._counts = counts = {name: count for name, count in source.require([]).items() if _ours(name)}
        self._whole = further.replay is not None or bool(further.stores)
        """Whether the changelogs' ends are needed."""
        self._rows: dict[int, list[Rows]] = {}
        self._logged: dict[str, dict[int, int]] = {}
        """Each changelog's last step, by role and partition."""
        self._before: dict[str, dict[int, int]] = {}
        self._committed: dict[str, dict[Place, Committed]] = {}
        verdicts.rows.judged = _CORES in counts
        verdicts.stores.judged = verdicts.ahead.judged = bool(further.stores)
        verdicts.replay.judged = further.replay is not None
        for stores in further.stores:
            stores.tell(verdicts.ahead)
        verdicts.offsets.judged = bool(further.standing)
        verdicts.still.judged = bool(further.standing) and self._quiet

    def wanted(self) -> dict[str, set[tuple[int, int]]]:
        """Steps by role, with their partitions, that the journal must remember."""
        return {stores.role: stores.steps() for stores in self._further.stores}

    def hangs(self) -> bool:
        """Whether a transaction stays open, so that reading would not end; asked of a system at rest only."""
        if not self._further.standing or not self._quiet:
            return False
        ends = self._source.ends(list(self._counts))
        found = hanging(self._anyone(), ends)
        tell_open(found, ends, self._verdicts.still)
        return bool(found)

    def _anyone(self) -> Standing:
        """For what has nothing to do with a role."""
        return next(iter(self._further.standing.values()))

    def also(self) -> list[str]:
        """Topics whose ends are needed besides those of the payments."""
        also = (topic for topic in self._counts if topic.startswith(CHANGELOGS) or topic == DELIVERIES.name)
        return list(also) if self._whole else []

    def begin(self, journal: Journal, cut: Cut) -> None:
        """The journal was read to its first end. Reads the account rows, which end before the postings do."""
        self._before = journal.last_steps()
        for topic in self._counts:
            if topic.startswith(CHANGELOGS):
                self._changelog(topic, cut)
        for stores in self._further.stores:
            if stores.role == CORE:
                for partition, rows in stores.account_rows(journal.of(CORE), self._verdicts.rows):
                    self._rows.setdefault(partition, []).append(rows)

    def _changelog(self, topic: str, cut: Cut) -> None:
        """A role's changelog joins and has all its steps; the core's also tells the account rows."""
        verdict, role = self._verdicts.rows, topic.removeprefix(CHANGELOGS)
        partitions = dict.fromkeys(range(self._counts[topic]), None)
        logged = self._logged[role] = {}
        for partition, history in read_changelog(self._source, topic, partitions, ACCOUNTS).items():
            history.tell(verdict)
            logged[partition] = history.step
            if history.step < (step := self._before.get(role, {}).get(partition, 0)):
                verdict.offends(f"{history.where} ends at step {history.step}, the journal has step {step} committed")
            if role == CORE:
                least = cut.written.get((partition, POSTINGS.name, partition), 0) if history.rebuilds else 0
                rows = Rows(f"{history.where}, table {ACCOUNTS}", least, verdict)
                rows.add((key, row) for key, row in history.at[ACCOUNTS].items() if row is not None)
                self._rows[partition] = [rows]

    def post(self, partition: int, number: int, posting: Posting) -> None:
        """The next posting of a partition, its `number`-th."""
        for rows in self._rows.get(partition, ()):
            rows.post(number, posting)

    def ask_offsets(self, journal: Journal, ends: Mapping[Place, int]) -> None:
        """All below `ends` is read but the changelogs; offsets committed now lie between both journal ends."""
        for found in self._rows.values():
            for rows in found:
                rows.close()
        if self._further.standing:
            settle(self._anyone(), ends)
        for role, standing in self._further.standing.items():
            if role in journal.roles():
                self._committed[role] = standing.committed(sorted(journal.of(role).nexts))

    def end(self, journal: Journal, ends: Mapping[Place, int], second: Mapping[Place, int], say: Progress) -> None:
        """The journal was read to its `second` end; `ends` are those of all other topics, taken before."""
        further, verdicts, source = self._further, self._verdicts, self._source
        starts = source.starts(list(self._counts)) if self._whole else {}
        self._compare_steps(journal)
        for stores in further.stores:
            stores.behind(journal.of(stores.role), ends, verdicts.ahead)
            stores.compare(source, ends, verdicts.stores)
        for role, committed in self._committed.items():
            compare_offsets(source, committed, self._before.get(role, {}), journal.of(role), verdicts.offsets)
        if further.standing and self._quiet:
            now = source.ends(list(self._counts))
            tell_open(self._anyone().open_at(now), now, verdicts.still)
            for committed in self._committed.values():
                compare_lag(source, committed, now, verdicts.still)
            verdicts.still.examined = len(now)
        if further.replay is not None:
            partitions = max(partition for _, partition in second) + 1
            inputs = {role: journal.of(role).nexts for role in journal.roles()}
            further.replay(Span(partitions, self._before, ends, second, inputs, starts), verdicts.replay, say)

    def _compare_steps(self, journal: Journal) -> None:
        """No row was left by a step that the journal does not have by now."""
        for role, logged in self._logged.items():
            last = journal.of(role).last_steps()
            for partition, step in logged.items():
                if step > last.get(partition, 0):
                    self._verdicts.rows.offends(
                        f"{changelog(role).name} partition {partition} ends at step {step}, the journal at step "
                        f"{last.get(partition, 0)}: a transaction was torn, or somebody else wrote"
                    )
