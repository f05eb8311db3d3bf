"""One partition of the simulated Kafka: records, control markers, the last stable offset.

After Kafka's own log: every record and every marker takes an offset; a transaction's records stay invisible to
read_committed readers from its first record on that partition until its marker is there.
"""

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import NamedTuple

Headers = tuple[tuple[str, bytes | None], ...]
Place = tuple[str, int]
"""(topic with prefix, partition)."""


class Fate(Enum):
    """What has become of a transaction's records on one partition."""

    OPEN = "open"
    COMMITTED = "committed"
    ABORTED = "aborted"


class Span:
    """One transaction's part of one partition."""

    __slots__ = ("fate", "first", "producer")

    def __init__(self, producer: int, first: int) -> None:
        self.producer = producer
        self.first = first
        self.fate = Fate.OPEN


class Record(NamedTuple):
    """A record as it stands in the log; `timestamp` in ms since 1970."""

    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    span: Span | None = None
    """None where no transaction wrote it."""


class Marker(NamedTuple):
    """A control record: the end of a producer's transaction on this partition."""

    producer: int
    committed: bool


class Hole:
    """An offset whose record was deleted."""


HOLE = Hole()


class PartitionLog:
    """A log that is appended to, and whose head may be deleted."""

    def __init__(self) -> None:
        self.entries: list[Record | Marker | Hole] = []
        self.epochs: dict[int, int] = {}
        """The highest epoch seen of each producer; lower ones are refused."""
        self.first = 0
        """The offset at which the log begins."""
        self._open: dict[int, Span] = {}
        self._batches: dict[int, set[int]] = {}
        self.aborted = 0
        """How many transactions were aborted that had records here."""

    @property
    def end(self) -> int:
        """The high watermark: the next offset."""
        return len(self.entries)

    @property
    def stable(self) -> int:
        """The last stable offset: nothing below it is undecided."""
        if not self._open:
            return len(self.entries)
        return min(span.first for span in self._open.values())

    def is_open(self, producer: int) -> bool:
        """Whether this producer has records here that have no marker yet."""
        return producer in self._open

    def append(self, record: Record) -> int:
        """Appends a record that belongs to no transaction; returns its offset."""
        self.entries.append(record)
        return len(self.entries) - 1

    def accept(self, producer: int, epoch: int) -> None:
        """A producer of this epoch writes here: its batches are numbered anew if the epoch is."""
        if epoch > self.epochs.get(producer, -1):
            self.epochs[producer] = epoch
            self._batches.pop(producer, None)

    def append_batch(self, producer: int, batch: int, records: Sequence[Record]) -> int:
        """Appends a producer's batch to its open transaction, or begins it; the first record's offset.

        -1 where this batch (its number rises within an epoch) was appended before.
        """
        known = self._batches.setdefault(producer, set())
        if batch in known:
            return -1
        known.add(batch)
        first = len(self.entries)
        span = self._open.get(producer)
        if span is None:
            span = self._open[producer] = Span(producer, first)
        self.entries += [record._replace(span=span) for record in records]
        return first

    def undecided(self, producer: int) -> list[tuple[int, Record]]:
        """(offset, record) of what this producer's open transaction has here."""
        span = self._open.get(producer)
        if span is None:
            return []
        entries = enumerate(self.entries[span.first :], span.first)
        return [(o, entry) for o, entry in entries if isinstance(entry, Record) and entry.span is span]

    def mark(self, producer: int, epoch: int, *, committed: bool) -> None:
        """Ends a producer's transaction here; a higher epoch refuses the older one's batches from now on."""
        self.accept(producer, epoch)
        span = self._open.pop(producer, None)
        if span is not None:
            span.fate = Fate.COMMITTED if committed else Fate.ABORTED
            self.aborted += not committed
        self.entries.append(Marker(producer, committed))

    def committed(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, Record]]:
        """(offset, record) of what read_committed readers see below `end`."""
        for offset, entry in enumerate(self.entries[start:end], start):
            if isinstance(entry, Record) and (entry.span is None or entry.span.fate is Fate.COMMITTED):
                yield offset, entry

    def delete_before(self, offset: int) -> None:
        """Deletes the log's head; offsets stay what they are."""
        assert offset <= self.stable, "no broker deletes what is not stable"
        self.first = max(self.first, offset)
        self.entries[:offset] = [HOLE] * offset
