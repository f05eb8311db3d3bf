"""The two consumer group protocols: what they ask of a consumer when partitions come and go.

`CLASSIC` hands over all partitions at once. `CONSUMER` (KIP-848) adds and removes single topics' partitions while the
rest goes on, and keeps the session's length on the broker (`group.consumer.session.timeout.ms`).
"""

from collections.abc import Iterable
from typing import Protocol

from confluent_kafka import Consumer, TopicPartition

from topologies.engine.limits import Limits
from topologies.engine.offsets import Where

CLASSIC, CONSUMER = "classic", "consumer"


class Membership(Protocol):
    """How partitions are taken, fetched and given back. Nothing is fetched before `fetch` has said from where."""

    owned: set[Where]
    moves_at_once: bool
    """Whether all topics of a partition move together."""

    def given(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """The group gave these."""

    def taken(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """The group took these away."""

    def fetch(self, consumer: Consumer, starts: list[TopicPartition]) -> None:
        """Fetches these from their offsets, and no others."""


class Classic:
    """The classic protocol with the `range` assignor."""

    moves_at_once = True

    def __init__(self) -> None:
        self.owned: set[Where] = set()

    def given(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """All that this member has from now on."""
        consumer.assign([])
        self.owned = set(_wheres(partitions))

    def taken(self, consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        """Everything goes."""
        consumer.unassign()
        self.owned = set()

    @staticmethod
    def fetch(consumer: Consumer, starts: list[TopicPartition]) -> None:
        """An assignment with offsets starts the fetching, unless a pause of an earlier one is still there."""
        consumer.assign(starts)
        if starts:
            consumer.resume(starts)


class Incremental:
    """KIP-848: what is assigned stays paused until its offset is known."""

    moves_at_once = False

    def __init__(self) -> None:
        self.owned: set[Where] = set()

    def given(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """More than before."""
        if not partitions:
            return
        consumer.incremental_assign([TopicPartition(tp.topic, tp.partition, 0) for tp in partitions])
        consumer.pause(partitions)
        self.owned |= set(_wheres(partitions))

    def taken(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Less than before."""
        consumer.incremental_unassign(partitions)
        self.owned -= set(_wheres(partitions))

    def fetch(self, consumer: Consumer, starts: list[TopicPartition]) -> None:
        """Seeks and resumes; all else pauses."""
        running = set(_wheres(starts))
        if waiting := [TopicPartition(*where) for where in sorted(self.owned - running)]:
            consumer.pause(waiting)
        for start in starts:
            consumer.seek(start)
        if starts:
            consumer.resume([TopicPartition(*where) for where in sorted(running)])


def options(protocol: str, limits: Limits) -> dict[str, object]:
    """The consumer's options for a protocol."""
    if protocol == CONSUMER:
        return {"group.protocol": CONSUMER, "group.remote.assignor": "range"}
    return {
        "partition.assignment.strategy": "range",
        "session.timeout.ms": limits.session_ms,
        "heartbeat.interval.ms": limits.heartbeat_ms,
    }


def membership(protocol: str) -> Membership:
    """A new member's side of a protocol, by its name."""
    return Incremental() if protocol == CONSUMER else Classic()


def whole(owned: Iterable[Where], topics: Iterable[str]) -> tuple[tuple[int, ...], dict[str, list[int]]]:
    """Partitions owned of every topic, and those owned by topic where the topics differ (else empty)."""
    by_topic = {topic: {p for t, p in owned if t == topic} for topic in topics}
    sets = list(by_topic.values())
    common = set.intersection(*sets)
    odd = {} if all(found == common for found in sets) else {topic: sorted(found) for topic, found in by_topic.items()}
    return tuple(sorted(common)), odd


def _wheres(partitions: Iterable[TopicPartition]) -> list[Where]:
    return [(tp.topic, tp.partition) for tp in partitions]
