"""Dead letters that wait: what stands on the dead-letter topics and was not put back, by agent. Reads each once."""

from array import array
from collections.abc import Iterable
from typing import NamedTuple

from confluent_kafka import IsolationLevel, KafkaException, Message
from confluent_kafka.admin import AdminClient, OffsetSpec

from headrace.follow import follow
from headrace.lag import CALL_S
from replay.letters import DLQ
from schemas import codec
from schemas.wire import Undecodable
from topologies.engine.admin import ClusterUnreachable, admin_client
from topologies.engine.config import ClusterConfig
from topologies.engine.offsets import Where, log_offsets
from topologies.topics import REDRIVES, dead_letters

OF_AGENT = dead_letters("").name
"""How the name of an agent's dead-letter topic begins."""


class Letters(NamedTuple):
    """An agent's dead letters that wait."""

    waiting: int
    oldest: float | None
    """When the oldest was written, s since 1970; None where none waits."""


class _Shelf:
    """The letters of one partition, in their order: offset and time of each, and which were put back."""

    def __init__(self) -> None:
        self.offsets, self.millis = array("q"), array("q")
        self.gone: set[int] = set()
        self._first = 0

    def add(self, offset: int, millis: int) -> None:
        self.offsets.append(offset)
        self.millis.append(millis)

    def count(self) -> int:
        """A receipt may be read before its letter, never without it being there."""
        return max(len(self.offsets) - len(self.gone), 0)

    def oldest(self) -> int | None:
        while self._first < len(self.offsets) and self.offsets[self._first] in self.gone:
            self._first += 1
        return self.millis[self._first] if self._first < len(self.offsets) else None


class Letterbox:
    """Follows the dead-letter topics and the receipts of what was put back. Memory: 16 bytes a letter."""

    def __init__(self, cluster: ClusterConfig) -> None:
        self._cluster = cluster
        self._receipts = cluster.prefix + REDRIVES.name
        self._decode = codec.decoder(REDRIVES.subject)
        self._admin: AdminClient | None = None
        self._next: dict[Where, int] = {}
        self._shelves: dict[Where, _Shelf] = {}
        self._whole = False

    def look(self, seconds: float) -> dict[str, Letters] | None:
        """Letters by agent, after at most `seconds` of reading; None as long as not everything was read once.

        Raises ClusterUnreachable.
        """
        try:
            ends = self._ends()
        except KafkaException as error:
            self._admin = None
            raise ClusterUnreachable(
                f"Kafka at {self._cluster.bootstrap} did not tell the ends of the dead-letter topics: "
                f"{error.args[0].str()}; try again"
            ) from error
        if any(end < self._next.get(place, 0) for place, end in ends.items()):  # other topics of the same names
            self._next, self._shelves, self._whole = {}, {}, False
        starts = {place: self._next.get(place, 0) for place, end in ends.items() if self._next.get(place, 0) < end}
        left = follow(self._cluster, starts, seconds, self._take)
        self._whole = self._whole or not left
        return self._found(ends) if self._whole else None

    def _ends(self) -> dict[Where, int]:
        """Stable ends of what is to be followed."""
        if self._admin is None:
            self._admin = admin_client(self._cluster)
        there = self._admin.list_topics(timeout=CALL_S).topics
        names = [name for name in there if name == self._receipts or name.startswith(self._cluster.prefix + DLQ)]
        places = [(name, number) for name in names for number in there[name].partitions]
        return log_offsets(self._admin, places, OffsetSpec.latest(), CALL_S, IsolationLevel.READ_COMMITTED)

    def _take(self, place: Where, message: Message) -> bool:
        offset = int(message.offset() or 0)
        if message.error() is not None:
            self._next[place] = max(self._next.get(place, 0), offset)
            return True
        self._next[place] = offset + 1
        if place[0] != self._receipts:
            self._shelf(place).add(offset, message.timestamp()[1])
            return False
        try:
            receipt = self._decode(message.value())
        except Undecodable:  # a letter that may have been put back counts as one that waits
            return False
        self._shelf((self._cluster.prefix + receipt.topic, receipt.partition)).gone.add(receipt.offset)
        return False

    def _shelf(self, place: Where) -> _Shelf:
        return self._shelves.setdefault(place, _Shelf())

    def _found(self, places: Iterable[Where]) -> dict[str, Letters]:
        cut = len(self._cluster.prefix)
        by_agent: dict[str, list[_Shelf]] = {}
        for place in places:
            if place[0] != self._receipts:
                agent = place[0][cut:].removeprefix(OF_AGENT)
                by_agent.setdefault(agent, []).append(self._shelf(place))
        return {agent: _letters(shelves) for agent, shelves in sorted(by_agent.items())}


def _letters(shelves: Iterable[_Shelf]) -> Letters:
    oldest = [millis / 1000 for shelf in shelves if (millis := shelf.oldest()) is not None]
    return Letters(sum(shelf.count() for shelf in shelves), min(oldest, default=None))
