"""Money that waits: amounts of the intents and credits between a group's committed offset and the end.

Each record is read once, at the head. What waits is the sum of what was read, less the sum of what has been consumed
since; what was consumed before anybody looked is never read.
"""

from array import array
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Mapping
from functools import partial
from sys import intern
from typing import Any, NamedTuple

from confluent_kafka import Message

from headrace.follow import follow
from schemas import codec
from schemas.money import MAX_MINOR, exponent
from schemas.wire import Undecodable
from topologies import topics
from topologies.engine.config import ClusterConfig
from topologies.engine.offsets import Where

Money = dict[str, int]
"""Minor units by currency."""
VALUED = {topics.INTENTS: int(MAX_MINOR), topics.CREDITS: 2**63 - 1}
"""The topics whose records are worth money that waits, and the most that one can be: admission refuses more (R48)."""
CHUNK = 4_096
"""Records whose sum is kept."""


class Wanted(NamedTuple):
    """What is to be known of a partition: from `start` up to, but not including, `end`."""

    start: int
    end: int


class _Chunk:
    """Some records after one another: where each stands, and what it is worth."""

    def __init__(self) -> None:
        self.offsets, self.amounts, self.currencies = array("q"), array("q"), list[str]()
        self.sums: Counter[str] = Counter()

    def below(self, offset: int) -> Counter[str]:
        """What the records before `offset` are worth."""
        found: Counter[str] = Counter()
        for n in range(bisect_left(self.offsets, offset)):
            found[self.currencies[n]] += self.amounts[n]
        return found


class Tally:
    """The amounts of one partition's records from `base` on, so that those behind any later offset can be told."""

    def __init__(self, base: int) -> None:
        self.base = self.next = base
        """First offset that can be asked for, and the one to be read next."""
        self.records = 0
        """Records that are kept."""
        self._chunks: deque[_Chunk] = deque()
        self._sums: Counter[str] = Counter()

    def add(self, offset: int, currency: str, amount_minor: int) -> None:
        """The next record with an amount, at `offset`, of at most `MAX_MINOR`."""
        assert offset >= self.next, (offset, self.next)
        if not self._chunks or len(self._chunks[-1].offsets) == CHUNK:
            self._chunks.append(_Chunk())
        chunk = self._chunks[-1]
        chunk.offsets.append(offset)
        chunk.amounts.append(amount_minor)
        chunk.currencies.append(currency)
        chunk.sums[currency] += amount_minor
        self._sums[currency] += amount_minor
        self.records += 1
        self.next = offset + 1

    def since(self, offset: int) -> Money:
        """What the records at and behind `offset` are worth, in the order of the currencies' codes."""
        assert offset >= self.base, (offset, self.base)
        left = Counter(self._sums)
        for chunk in self._chunks:
            if chunk.offsets[-1] >= offset:
                left.subtract(chunk.below(offset))
                break
            left.subtract(chunk.sums)
        return {currency: left[currency] for currency in sorted(left) if left[currency]}

    def forget(self, offset: int) -> None:
        """Nobody will ask for what is before `offset`."""
        while self._chunks and self._chunks[0].offsets[-1] < offset:
            gone = self._chunks.popleft()
            self._sums.subtract(gone.sums)
            self.records -= len(gone.offsets)
        self.base = max(self.base, offset)
        self.next = max(self.next, offset)


class Gaps:
    """Reads what waits on the valued topics; joins no group and commits nothing.

    At most about `most` records of a partition are kept. Behind them, money is "at least" so much.
    """

    def __init__(self, cluster: ClusterConfig, most: int) -> None:
        self._cluster, self._most = cluster, most
        self._worth = {
            cluster.prefix + topic.name: partial(_worth, codec.decoder(topic.subject), most_minor)
            for topic, most_minor in VALUED.items()
        }
        self._tallies: dict[Where, Tally] = {}

    def read(self, wanted: Mapping[Where, Wanted], seconds: float) -> None:
        """Reads on towards the ends, for at most `seconds`; ends later where something can't be read, without a word."""
        for place, (start, _) in wanted.items():
            tally = self._tallies.get(place)
            if tally is None or start < tally.base:
                self._tallies[place] = Tally(start)
            else:
                tally.forget(start)
        left = {place: want.end for place, want in wanted.items() if self._lacks(place, want.end)}
        follow(self._cluster, {place: self._tallies[place].next for place in left}, seconds, partial(self._take, left))

    def money(self, place: Where, wanted: Wanted) -> tuple[Money, bool]:
        """What waits, and whether that is all; `read` goes before. Other topics have none, and that is all of it."""
        if place[0] not in self._worth or wanted.start >= wanted.end:
            return {}, True
        tally = self._tallies.get(place)
        if tally is None or wanted.start < tally.base:
            return {}, False
        return tally.since(wanted.start), tally.next >= wanted.end

    def valued(self, topic: str) -> bool:
        """Whether the topic's records are worth money; `topic` with the prefix."""
        return topic in self._worth

    def _lacks(self, place: Where, end: int) -> bool:
        tally = self._tallies[place]
        return tally.next < end and tally.records < self._most

    def _take(self, ends: Mapping[Where, int], place: Where, message: Message) -> bool:
        tally, offset = self._tallies[place], int(message.offset() or 0)
        if message.error() is not None:
            tally.next = max(tally.next, offset)
            return True
        if (worth := self._worth[place[0]](message.value())) is not None:
            tally.add(offset, *worth)
        tally.next = offset + 1
        return not self._lacks(place, ends[place])


def _worth(decode: Callable[[bytes | None], Any], most_minor: int, value: bytes | None) -> tuple[str, int] | None:
    """Currency and amount of a record; None where it can't be money."""
    try:
        record = decode(value)
    except Undecodable:
        return None
    fits = 0 < record.amount_minor <= most_minor and exponent(record.currency) is not None
    return (intern(record.currency), record.amount_minor) if fits else None
