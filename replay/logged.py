"""The changelog as a judge reads it: what its rows were at an offset, and whether its records join.

A worker that ends a checkpoint deletes the log's head, also while it is read here: then the reading begins anew.
"""

from collections import defaultdict
from collections.abc import Mapping

from replay.reader import HeadDeleted, Raw
from replay.source import Source
from replay.verdicts import Verdict
from topologies.engine.changelog import Head, by_table, unpack

Rows = defaultdict[str, dict[bytes, bytes | None]]
"""By table and key; None: deleted."""


class History:
    """A partition of the changelog, as a reader knows it who stands at `offset` (None: at the end)."""

    def __init__(self, topic: str, partition: int, first: int, offset: int | None, table: str | None = None) -> None:
        """`first`: the log's first offset; `table`: the only one whose rows are kept."""
        self.where = f"{topic} partition {partition}"
        self.first, self.offset = first, offset
        self._table = table
        self.at: Rows = defaultdict(dict)
        """What the records before `offset` say."""
        self.later: defaultdict[str, dict[bytes, list[bytes | None]]] = defaultdict(dict)
        """What was written from there on."""
        self.there: Head | None = None
        """The last record before `offset`."""
        self.last: Head | None = None
        """The last record of all."""
        self._wrong: list[str] = []

    def add(self, raw: Raw) -> None:
        """The next record."""
        value, where = raw.value or b"", f"{self.where} offset {raw.offset}"
        try:
            head, rows = unpack(value)
        except ValueError as error:
            self._wrong.append(f"{where}: {error}: it was damaged, or somebody else wrote here")
            return
        self._joins(where, raw.offset, head)
        self.last = head
        if self.offset is None or raw.offset < self.offset:
            self.there = head
            for table, key, row in by_table(rows, self._table):
                self.at[table][key] = row
        else:
            for table, key, row in by_table(rows, self._table):
                self.later[table].setdefault(key, []).append(row)

    def _joins(self, where: str, offset: int, head: Head) -> None:
        step, base = (self.last.step, self.last.base) if self.last else (0, 0)
        expected = (step, step + 1) if self.last else (1,)
        if head.step not in expected and (self.last or not self.first):
            meaning = "rows were written twice" if head.step <= step else "rows of a step were lost"
            self._wrong.append(f"{where}: step {head.step} follows step {step}: {meaning}")
        if not base <= head.base <= offset:
            self._wrong.append(f"{where}, step {head.step}: its base is {head.base}, the one before it {base}")

    @property
    def step(self) -> int:
        """The step of the last record of all; 0 before the first."""
        return self.last.step if self.last else 0

    @property
    def rebuilds(self) -> bool:
        """Whether a lost store can be rebuilt: all that lives can be read."""
        return self.first <= (self.last.base if self.last else 0)

    def tell(self, verdict: Verdict) -> None:
        """Says what is wrong with the log itself."""
        for told in self._wrong:
            verdict.offends(told)
        if not self.rebuilds:
            base = self.last.base if self.last else 0
            verdict.offends(
                f"{self.where} starts at {self.first}, and only from {base} on it has all rows: its head was deleted, a "
                "lost store can't be rebuilt"
            )

    def row(self, table: str, key: bytes) -> bytes | None:
        """A row at `offset`."""
        return self.at[table].get(key)

    def untold(self, table: str, key: bytes) -> bool:
        """Whether nobody can know a row at `offset`: it stood before the log's first offset, if at all.

        What lives was written once more since, or deleted; where the log rebuilds and has neither, there is no row.
        """
        if self.first <= (self.there.base if self.there else 0) or key in self.at[table]:
            return False
        return key in self.later[table] or not self.rebuilds


def read_changelog(
    source: Source, topic: str, offsets: Mapping[int, int | None], table: str | None = None
) -> dict[int, History]:
    """The history of each partition of `offsets`, each read to its end as one who stands at that offset."""
    while True:
        starts = source.starts([topic])  # before the ends: so the base at the ends is not below it
        ends = {place: end for place, end in source.ends([topic]).items() if place[1] in offsets}
        found = {p: History(topic, p, starts[topic, p], offset, table) for p, offset in offsets.items()}
        try:
            for raw in source.read(topic, ends, starts):
                found[raw.partition].add(raw)
        except HeadDeleted:
            if source.starts([topic]) == starts:
                raise
        else:
            return found
