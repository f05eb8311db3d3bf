"""Dumps a window of a topic: into a folder, from where it stopped if it was begun, or line by line.

A folder has `<topic>/date=YYYY-MM-DD/partition=NN/<first>-<last>.<form>` and `<topic>/manifest.json`. Nothing
joins a group, nothing is written to Kafka.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from confluent_kafka import Message

from replay.batches import BatchReader
from replay.manifest import FORMAT, Manifest
from replay.reader import Place
from replay.selection import Selection, Wanted
from replay.texts import FORMS, Rows, Unreadable
from replay.window import Window, iso, parse_bound
from schemas.catalogue import catalogue
from topologies.topics import BY_NAME

FILE_ROWS, FILE_ROWS_LEAST = 100_000, 5_000
"""Rows of one partition that make a file; with many partitions fewer, down to the second number."""
PENDING_ROWS = 1_000_000
"""Rows that wait for their files, in all partitions together."""
CHUNK, CHUNK_LEAST = 20_000, 2_000
"""Records of one partition that are encoded together; with many partitions fewer, down to the second number."""
PARQUET = "parquet"
Progress = Callable[[int, int], None]
"""Told offsets read, and records that passed."""


class NoSuchTopic(Exception):
    """The cluster has no such topic, and no contract speaks of it. Exit 2."""


class NoAnalytics(Exception):
    """pyarrow is not installed. Exit 2."""


class Form(Protocol):
    """How records are written."""

    suffix: str

    def encode(self, messages: Sequence[Message]) -> tuple[list[Rows], Unreadable]:
        """The records that are meant, by day, and those that are none."""

    def write(self, path: Path, contents: Sequence[Any]) -> None:
        """Writes one file."""


class Asked(NamedTuple):
    """What is to be dumped."""

    topic: str
    """Without the prefix."""
    window: Window
    words: tuple[str | None, ...]
    """The window in the user's own words: a dump that is resumed keeps the moments that they meant at first."""
    wanted: Wanted
    form: str
    mask: bool
    margin: int
    """µs by which reading begins before the window's first time."""


class Span(NamedTuple):
    """What is to be read."""

    starts: dict[Place, int]
    ends: dict[Place, int]

    @property
    def offsets(self) -> int:
        """Offsets to be read."""
        return sum(max(end - self.starts[place], 0) for place, end in self.ends.items())


@dataclass
class _Heap:
    """What waits of one partition."""

    messages: list[Message] = field(default_factory=list)
    days: dict[str, list[Rows]] = field(default_factory=dict)
    rows: int = 0
    unreadable: Unreadable = field(default_factory=list)
    following: int = 0

    def encode(self, form: Form) -> int:
        """Encodes the messages that wait; gives how many records passed."""
        found, wrong = form.encode(self.messages)
        self.messages = []
        self.unreadable += wrong
        for rows in found:
            self.days.setdefault(rows.day, []).append(rows)
        passed = sum(len(rows.messages) for rows in found)
        self.rows += passed
        return passed


def form_of(asked: Asked, topic: str) -> Form:
    """The form that is asked for. Raises NoAnalytics, BadSelection."""
    selection = Selection(asked.topic, asked.window, asked.wanted)
    if asked.form != PARQUET:
        return FORMS[asked.form](selection, topic, mask=asked.mask)
    try:
        from replay.parquet import Parquet
    except ModuleNotFoundError as error:
        raise NoAnalytics(
            f"Parquet needs {error.name}, which is not installed: pip install 'headrace[analytics]', or take "
            "--format jsonl or csv"
        ) from error
    return Parquet(selection, topic, mask=asked.mask)


def known_topic(reader: BatchReader, topic: str) -> None:
    """Raises TopicMissing where a topic of the contract is not on the cluster, NoSuchTopic where none is called so."""
    there = reader.require([])
    if topic in there:
        return
    if topic not in BY_NAME:
        near = get_close_matches(topic, [*there, *BY_NAME], 1)
        hint = f"did you mean {near[0]}?" if near else "`headrace topics list` tells what there is"
        raise NoSuchTopic(f"there is no topic {topic}; {hint}")
    reader.require([topic])


def span_of(reader: BatchReader, asked: Asked) -> Span:
    """From where to where each partition is to be read, now. Raises Unreachable, TopicMissing.

    Records stand nearly in the order of their times, so reading begins a margin before the first time and
    goes on to the end that is captured here.
    """
    topic, (begin, end) = asked.topic, asked.window
    starts, ends = reader.starts([topic]), reader.ends([topic])
    if end is not None and end.offset is not None:
        ends = {place: min(last, end.offset) for place, last in ends.items()}
    if begin is not None and begin.offset is not None:
        starts = {place: max(first, begin.offset) for place, first in starts.items()}
    elif begin is not None and begin.at is not None:
        found = reader.offsets_at(topic, begin.at - asked.margin, ends)
        starts = {place: max(first, found[place]) for place, first in starts.items()}
    return Span({place: min(first, ends[place]) for place, first in starts.items()}, ends)


class Dump:
    """One dump. `read` reads all that is left of it."""

    def __init__(self, reader: BatchReader, form: Form, asked: Asked, progress: Progress) -> None:
        self.form = form
        self._reader, self._asked, self._progress = reader, asked, progress
        self.scanned = self.passed = 0

    def read(self, span: Span, done: Callable[[int, _Heap], None], most: int) -> None:
        """Reads a span; `done(partition, heap)` is told what is to be written.

        That is whenever `most` records of a partition have passed, and at its end.
        """
        topic, count = self._asked.topic, max(len(span.ends), 1)
        chunk = max(CHUNK_LEAST, min(CHUNK, 10 * CHUNK // count))
        heaps: dict[int, _Heap] = {partition: _Heap() for _, partition in span.ends}
        before = {partition: first for (_, partition), first in span.starts.items()}
        for partition, messages, following in self._reader.batches(topic, span.ends, span.starts):
            heap, end = heaps[partition], span.ends[topic, partition]
            heap.messages += messages
            heap.following = following
            if len(heap.messages) >= chunk or following >= end:
                self.passed += heap.encode(self.form)
            if heap.rows >= most or following >= end:
                heaps[partition] = _Heap()
                done(partition, heap)
            self.scanned += following - before[partition]
            before[partition] = following
            self._progress(self.scanned, self.passed)

    def into(self, manifest: Manifest) -> None:
        """Writes all that is left into the manifest's folder."""
        topic = self._asked.topic
        manifest.save()

        def done(partition: int, heap: _Heap) -> None:
            manifest.note(partition, heap.unreadable)
            manifest.add(self.form, partition, heap.days, heap.following)
            manifest.save()

        span = Span(manifest.places(topic, "next"), manifest.places(topic, "ends"))
        self.read(span, done, max(FILE_ROWS_LEAST, min(FILE_ROWS, PENDING_ROWS // max(len(span.ends), 1))))

    def through(self, span: Span, write: Callable[[bytes], object]) -> Unreadable:
        """Hands line after line to `write`; gives the places of what could not be decoded."""
        wrong: Unreadable = []

        def done(_partition: int, heap: _Heap) -> None:
            for parts in heap.days.values():
                for rows in parts:
                    for line in rows.content:
                        write(line)
            wrong.extend(heap.unreadable)

        self.read(span, done, 1)
        return wrong


def begin(reader: BatchReader, asked: Asked, out: Path, name: str, now: int) -> Manifest:
    """The manifest of a dump in `out`: one that was begun and is the same, else a new one.

    `name`: the topic with its prefix. Raises OtherDump, DumpDamaged, OSError, Unreachable, TopicMissing.
    """
    identity = _identity(reader, asked, name)
    found = Manifest.found(out / name, identity)
    if found is not None:
        return found
    span = span_of(reader, asked)

    def by_partition(places: Mapping[Place, int]) -> dict[str, int]:
        return {str(partition): offset for (_, partition), offset in sorted(places.items())}

    first = by_partition(span.starts)
    data: dict[str, Any] = {
        "format": FORMAT,
        **identity,
        "window": {"from": _said(asked.window.begin), "to": _said(asked.window.end)},
        "captured_at": iso(now),
        "complete": False,
        "records": 0,
        "bytes": 0,
        "starts": first,
        "ends": by_partition(span.ends),
        "next": dict(first),
        "unreadable": {"count": 0, "first": []},
        "files": [],
    }
    return Manifest(out / name, data)


def _said(bound: Any) -> str | None:
    return None if bound is None else str(bound)


def _identity(reader: BatchReader, asked: Asked, name: str) -> dict[str, Any]:
    """What makes two dumps the same."""
    known = BY_NAME.get(asked.topic)
    version = None if known is None else catalogue().versions(known.subject)[-1]
    return {
        "topic": name,
        "cluster": reader.cluster_id(),
        "schema": version and {"subject": version.subject, "id": version.id, "sha256": version.fingerprint},
        "asked": {"window": list(asked.words), **asked.wanted._asdict(), "format": asked.form, "masked": asked.mask},
    }


def resumed(asked: Asked, manifest: Manifest) -> Asked:
    """What was asked, with the moments that its words meant when the dump was begun."""
    told = manifest.data["window"]
    bounds = [None if told[side] is None else parse_bound(told[side], 0) for side in ("from", "to")]
    return asked._replace(window=Window(*bounds))
