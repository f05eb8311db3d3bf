"""How far a partition's deliveries are answered: offsets are committed only behind what is answered, without a gap."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from confluent_kafka import TopicPartition

from replay.reader import Place, Raw, Reader
from replay.source import Source
from schemas import codec
from schemas.internal import AttemptAction, DeliveryState
from topologies.engine.config import ClusterConfig
from topologies.topics import ATTEMPTS, DELIVERIES, Topic

ANSWERS = frozenset({AttemptAction.DELIVERED, AttemptAction.FAILED, AttemptAction.SLOW_DOWN, AttemptAction.GONE})


class Progress:
    """The deliveries of one partition that were read, in order, and which of them are done."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self._open: deque[int] = deque()
        self._done: set[int] = set()
        self._next: int | None = None
        self._told: int | None = None

    def read(self, offset: int) -> None:
        """The next record was read."""
        self._open.append(offset)
        self._next = offset + 1

    def done(self, offset: int) -> None:
        """A record is answered, and the answer is on its topic."""
        self._done.add(offset)
        while self._open and self._open[0] in self._done:
            self._done.discard(self._open.popleft())

    @property
    def held(self) -> int:
        """Records that are not done."""
        return len(self._open) - len(self._done)

    def to_commit(self) -> int | None:
        """The offset to be committed now; None: nothing new since the last one."""
        offset = self._open[0] if self._open else self._next
        if offset is None or offset == self._told:
            return None
        self._told = offset
        return offset


class Answered:
    """The numbers of an endpoint's deliveries that were answered; they rise, so few have to be remembered one by one."""

    def __init__(self) -> None:
        self._below = 1
        self._above: set[int] = set()

    def add(self, number: int) -> None:
        """A number was answered."""
        if number >= self._below:
            self._above.add(number)
        while self._below in self._above:
            self._above.discard(self._below)
            self._below += 1

    def __contains__(self, number: int) -> bool:
        return number < self._below or number in self._above


def first_unanswered(cluster: ClusterConfig, partitions: Iterable[int]) -> list[TopicPartition]:
    """Where to begin on partitions whose committed offsets are not there (any more): at the first unanswered delivery.

    Kafka forgets a group's offsets a week after its last member left; without this, all that was ever
    delivered would be sent again. Reads both topics once.
    """
    with Reader(cluster) as reader:
        ends = reader.ends([ATTEMPTS.name, DELIVERIES.name])
        return [
            TopicPartition(cluster.prefix + DELIVERIES.name, partition, _first(reader, partition, ends))
            for partition in partitions
        ]


def _first(reader: Reader, partition: int, ends: dict[tuple[str, int], int]) -> int:
    answered: dict[str, Answered] = {}
    here = {name: {(name, partition): ends[name, partition]} for name in (ATTEMPTS.name, DELIVERIES.name)}
    for _, attempt in readable(reader, ATTEMPTS, here[ATTEMPTS.name]):
        if attempt.action in ANSWERS:
            answered.setdefault(attempt.endpoint, Answered()).add(attempt.number)
    nothing = Answered()
    for raw, delivery in readable(reader, DELIVERIES, here[DELIVERIES.name]):
        if delivery.state == DeliveryState.DUE and delivery.number not in answered.get(delivery.endpoint, nothing):
            return raw.offset
    return ends[DELIVERIES.name, partition]


def readable(source: Source, topic: Topic, ends: Mapping[Place, int]) -> Iterator[tuple[Raw, Any]]:
    """The records of a topic below `ends`, where they stand and what they say; what can't be read is left out."""
    decode = codec.decoder(topic.subject)
    for raw in source.read(topic.name, ends):
        try:
            yield raw, decode(raw.value)
        except codec.Undecodable:
            continue
