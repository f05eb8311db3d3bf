"""Where records come from, and what a judge is told: shared by the audit and its parts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from replay.reader import Place, Raw
from replay.verdicts import Verdict

CHANGELOGS, LETTERS = "headrace.changelog.", "dlq.payments."
Progress = Callable[[str], None]


class NoStores(Exception):
    """There is no worker's store to look into."""


class Source(Protocol):
    """Where records come from: `Reader`, or lists in a test."""

    def require(self, topics: Sequence[str]) -> dict[str, int]:
        """Partition count of every topic; raises TopicMissing unless `topics` are among them."""

    def ends(self, topics: Sequence[str]) -> dict[Place, int]:
        """The offset after the last record of each partition."""

    def starts(self, topics: Sequence[str]) -> dict[Place, int]:
        """The first offset that is still there, of each partition."""

    def read(self, topic: str, ends: Mapping[Place, int], starts: Mapping[Place, int] | None = None) -> Iterator[Raw]:
        """The committed records below `ends`, from `starts` or the beginning."""


class Span(NamedTuple):
    """What a replay runs and compares. Offsets are those after the last record."""

    partitions: int
    whole: Mapping[str, Mapping[int, int]]
    """By role, the last step by partition whose records must all be there."""
    ends: Mapping[Place, int]
    """Ends of the topics that steps write, the changelogs too."""
    journal: Mapping[Place, int]
    """Ends of the journal, taken when all below `ends` was decided: the last steps that are run."""
    inputs: Mapping[str, Mapping[Place, int]]
    """By role, up to where those steps have read."""
    starts: Mapping[Place, int]
    """The first offsets of all these topics."""


Replay = Callable[[Span, Verdict, Progress], None]
"""Judges invariant 8."""
