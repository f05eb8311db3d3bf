"""What steps should have written, as 64-bit hashes, and its comparison with what stands on a partition.

On an output partition the records of several roles and source partitions stand between each other; each source's
own stand in the order of its steps. So a partition is right if it is such a merge, and nothing else.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence

from replay.differences import Pair
from replay.reader import Place

Writer = tuple[str, int]
"""(role, partition) whose steps write a record."""
AHEAD = 1_000
"""How far a record is looked for behind the one that was expected."""


class Expected:
    """Hashes of the records that steps write, by output partition and writer."""

    def __init__(self) -> None:
        self._all: dict[Place, dict[Writer, array[int]]] = {}
        self._whole: dict[Place, dict[Writer, int]] = {}
        self._soft: dict[Place, set[int]] = {}
        self.loose = False
        """Steps that could not be compared wrote too: records that were not expected are no offence."""

    def add(self, source: Writer, written: Mapping[Place, Sequence[Pair]], *, whole: bool, soft: bool) -> None:
        """A step's records. `whole`: they must be there; `soft`: a step that could not be compared came before."""
        for place, pairs in written.items():
            hashes = self._all.setdefault(place, {}).setdefault(source, array("q"))
            if soft:
                self._soft.setdefault(place, set()).update(map(hash, pairs))
                continue
            hashes.extend(map(hash, pairs))
            if whole:
                self._whole.setdefault(place, {})[source] = len(hashes)

    def places(self) -> list[Place]:
        """Every output partition."""
        return sorted(self._all)

    def merge(self, place: Place) -> "Merge":
        """The comparison of one output partition; give it every record, in order."""
        whole, soft = self._whole.get(place, {}), self._soft.get(place, set())
        return Merge(self._all.get(place, {}), whole, soft, loose=self.loose)


class Merge:
    """Takes the records of one output partition in their order."""

    def __init__(
        self, all_: Mapping[Writer, "array[int]"], whole: Mapping[Writer, int], soft: set[int], *, loose: bool
    ) -> None:
        self._all, self._whole, self._soft, self._loose = all_, whole, soft, loose
        self._at = dict.fromkeys(all_, 0)
        self._heads: dict[int, list[Writer]] = {}
        for source in all_:
            self._show(source)
        self.same = 0
        """Records that were expected."""
        self.other = 0
        """Records that were not, where that is no offence."""

    def _show(self, source: Writer) -> None:
        hashes, at = self._all[source], self._at[source]
        if at < len(hashes):
            self._heads.setdefault(hashes[at], []).append(source)

    def takes(self, found: int) -> bool:
        """Whether the next record is the next one of some source."""
        sources = self._heads.get(found)
        if sources is None:
            if found in self._soft:
                self.same += 1
                return True
            self.other += self._loose
            return self._loose
        source = sources.pop()
        if not sources:
            del self._heads[found]
        self._at[source] += 1
        self._show(source)
        self.same += 1
        return True

    def heads(self) -> Iterator[tuple[Writer, int]]:
        """Source, and number of its records that were taken; those that have no more are left out."""
        return ((source, at) for source, at in self._at.items() if at < len(self._all[source]))

    def missing(self) -> tuple[Writer, int] | None:
        """Source and number of the first record that must be there and was not met."""
        return next(((source, at) for source, at in self._at.items() if at < self._whole.get(source, 0)), None)

    def skipped(self, found: int) -> tuple[Writer, int] | None:
        """Source and number of the record that is missing, if `found` is one that was expected a little later."""
        for source, at in self.heads():
            if found in self._all[source][at : at + AHEAD]:
                return source, at
        return None
