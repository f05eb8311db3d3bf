"""What an audit asks besides the payments' own topics: rows, stores, offsets, and a replay (invariants 6, 8 and 9)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from replay.journal import Cut, Journal
from replay.logged import CHANGELOG, read_changelog
from replay.reader import Place
from replay.rows import ACCOUNTS, Rows
from replay.source import CHANGELOGS, LETTERS, Progress, Replay, Source, Span
from replay.standing import Committed, Standing, compare_lag, compare_offsets, hanging, settle, tell_open
from replay.verdicts import Verdicts
from schemas.events import Posting
from topologies.topics import BY_NAME, POSTINGS

if TYPE_CHECKING:
    from replay.stores import Stores


@dataclass(frozen=True)
class Further:
    """What else is to be judged; nothing by default."""

    replay: Replay | None = None
    stores: "Stores | None" = None
    standing: Standing | None = None


def _ours(topic: str) -> bool:
    """Whether a topic is of the contract; without a prefix a cluster may have others."""
    return topic in BY_NAME or topic.startswith((CHANGELOGS, LETTERS))


class State:
    """The audit's companion: told what it reads, in the order in which it must be read."""

    def __init__(self, further: Further, source: Source, verdicts: Verdicts, *, quiet: bool) -> None:
        self._further, self._source, self._verdicts, self._quiet = further, source, verdicts, quiet
        self._counts = counts = {name: count for name, count in source.require([]).items() if _ours(name)}
        self._whole = further.replay is not None or further.stores is not None
        """Whether the changelog's end is needed."""
        self._rows: dict[int, list[Rows]] = {}
        self._logged: dict[int, int] = {}
        """The changelog's last step, by partition."""
        self._before: dict[int, int] = {}
        self._committed: dict[Place, Committed] = {}
        verdicts.rows.judged = CHANGELOG in counts
        verdicts.stores.judged = verdicts.ahead.judged = further.stores is not None
        verdicts.replay.judged = further.replay is not None
        if further.stores is not None:
            further.stores.tell(verdicts.ahead)
        verdicts.offsets.judged = further.standing is not None
        verdicts.still.judged = further.standing is not None and self._quiet

    def wanted(self) -> set[tuple[int, int]]:
        """Steps, by partition, that the journal must remember."""
        return set() if self._further.stores is None else self._further.stores.steps()

    def hangs(self) -> bool:
        """Whether a transaction stays open, so that reading would not end; asked of a system at rest only."""
        if self._further.standing is None or not self._quiet:
            return False
        ends = self._source.ends(list(self._counts))
        found = hanging(self._further.standing, ends)
        tell_open(found, ends, self._verdicts.still)
        return bool(found)

    def also(self) -> list[str]:
        """Topics whose ends are needed besides those of the payments."""
        return [CHANGELOG] if self._whole and CHANGELOG in self._counts else []

    def begin(self, journal: Journal, cut: Cut) -> None:
        """The journal was read to its first end. Reads the account rows, which end before the postings do."""
        self._before = journal.last_steps()
        if self._verdicts.rows.judged:
            self._account_rows(cut)
        if self._further.stores is not None:
            for partition, rows in self._further.stores.account_rows(journal, self._verdicts.rows):
                self._rows.setdefault(partition, []).append(rows)

    def _account_rows(self, cut: Cut) -> None:
        verdict = self._verdicts.rows
        partitions = range(self._counts[CHANGELOG])
        for partition, history in read_changelog(
            self._source, CHANGELOG, dict.fromkeys(partitions, None), ACCOUNTS
        ).items():
            history.tell(verdict)
            self._logged[partition] = history.step
            if history.step < (step := self._before.get(partition, 0)):
                verdict.offends(f"{history.where} ends at step {history.step}, the journal has step {step} committed")
            least = cut.written.get((partition, POSTINGS.name, partition), 0) if history.rebuilds else 0
            rows = Rows(f"{history.where}, table {ACCOUNTS}", least, verdict)
            rows.add((key, row) for key, row in history.at[ACCOUNTS].items() if row is not None)
            self._rows[partition] = [rows]

    def post(self, partition: int, number: int, posting: Posting) -> None:
        """The next posting of a partition, its `number`-th."""
        for rows in self._rows.get(partition, ()):
            rows.post(number, posting)

    def ask_offsets(self, journal: Journal, ends: Mapping[Place, int]) -> None:
        """Everything below `ends` is read but the changelog; offsets that are committed now lie between both journal ends."""
        for found in self._rows.values():
            for rows in found:
                rows.close()
        if self._further.standing is not None:
            settle(self._further.standing, ends)
            self._committed = self._further.standing.committed(sorted(journal.nexts))

    def end(self, journal: Journal, ends: Mapping[Place, int], second: Mapping[Place, int], say: Progress) -> None:
        """The journal was read to its `second` end; `ends` are those of all other topics, taken before."""
        further, verdicts, source = self._further, self._verdicts, self._source
        starts = source.starts(list(self._counts)) if self._whole else {}
        self._compare_steps(journal.last_steps())
        if further.stores is not None:
            further.stores.behind(journal, ends, verdicts.ahead)
            further.stores.compare(source, ends, verdicts.stores)
        if further.standing is not None:
            compare_offsets(source, self._committed, self._before, journal, verdicts.offsets)
            if self._quiet:
                now = source.ends(list(self._counts))
                verdicts.still.examined = len(now)
                tell_open(further.standing.open_at(now), now, verdicts.still)
                compare_lag(source, self._committed, now, verdicts.still)
        if further.replay is not None:
            partitions = max(partition for _, partition in second) + 1
            span = Span(partitions, self._before, ends, second, journal.nexts, starts)
            further.replay(span, verdicts.replay, say)

    def _compare_steps(self, last: Mapping[int, int]) -> None:
        """No row was left by a step that the journal does not have by now."""
        for partition, step in self._logged.items():
            if step > last.get(partition, 0):
                self._verdicts.rows.offends(
                    f"{CHANGELOG} partition {partition} ends at step {step}, the journal at step {last.get(partition, 0)}: "
                    "a transaction was torn, or somebody else wrote"
                )
