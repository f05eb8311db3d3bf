"""A simulated Kafka: topics, transactions, one consumer group. One thread, virtual time, no chance of its own."""

from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import KafkaError

from topologies.engine.memory.coordinator import Coordinator, Refused, Transactional
from topologies.engine.memory.log import PartitionLog, Place, Record
from topologies.engine.memory.members import Committed, GroupCoordinator, GroupMetadata
from topologies.engine.memory.reconciling import ReconcilingGroup
from topologies.engine.memory.timeline import Timeline

SESSION_S = 1.5
"""How long the consumer protocol waits for a heartbeat (`group.consumer.session.timeout.ms`)."""
TICK_S = 0.25
"""How often sessions and transaction timeouts are looked at."""


class Broker:
    """The cluster. Every method is one request, answered at once or `Refused`; topic names carry the prefix."""

    cluster_id = "memory"

    def __init__(
        self, timeline: Timeline, topics: Mapping[str, int], marker_delay: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.timeline = timeline
        self.topics = dict(topics)
        """Partition count by topic."""
        self.logs = {(topic, p): PartitionLog() for topic, count in topics.items() for p in range(count)}
        self.coordinator = Coordinator(timeline, self._mark, marker_delay)
        self._held: dict[int, list[tuple[int, Callable[[], None]]]] = {}
        self.groups: dict[str, GroupCoordinator | ReconcilingGroup] = {}
        self._tick()

    def _tick(self) -> None:
        self.coordinator.expire()
        for group in self.groups.values():
            group.tick()
        self.timeline.later(TICK_S, self._tick)

    def group(self, name: str) -> GroupCoordinator | ReconcilingGroup:
        """The group of this name; of the classic protocol if nobody has asked for the other one before."""
        if name not in self.groups:
            self.groups[name] = GroupCoordinator(self.timeline, self.topics.__getitem__)
        return self.groups[name]

    def classic(self, name: str) -> GroupCoordinator:
        """The group of this name, for a member of the classic protocol."""
        group = self.group(name)
        assert isinstance(group, GroupCoordinator), f"{name} has members of the consumer protocol"
        return group

    def reconciling(self, name: str) -> ReconcilingGroup:
        """The group of this name, for a member of the consumer protocol."""
        group = self.groups.get(name)
        if group is None:
            group = self.groups[name] = ReconcilingGroup(self.timeline, self.topics.__getitem__, SESSION_S)
        assert isinstance(group, ReconcilingGroup), f"{name} has members of the classic protocol"
        return group

    def produce(self, producer: int, epoch: int, place: Place, batch: int, records: Sequence[Record]) -> int:
        """Appends a batch to the producer's transaction; its first offset, -1 where it was there already."""
        log = self.logs[place]
        if epoch < log.epochs.get(producer, -1):
            raise Refused(KafkaError.INVALID_PRODUCER_EPOCH)
        if not log.is_open(producer):
            self.coordinator.verify(producer, epoch, place)
        log.accept(producer, epoch)
        first = log.append_batch(producer, batch, records)
        self._release(producer)
        return first

    def hold(self, producer: int, requests: int, act: Callable[[], None]) -> None:
        """Keeps a request back until this producer has sent so many others."""
        self._held.setdefault(producer, []).append((requests, act))

    def _release(self, producer: int) -> None:
        held = self._held.pop(producer, None)
        if held is None:
            return
        self._held[producer] = [(requests - 1, act) for requests, act in held if requests > 1]
        for requests, act in held:
            if requests <= 1:
                act()

    def promise_offsets(
        self, producer: int, epoch: int, shown: GroupMetadata, offsets: Mapping[Place, Committed]
    ) -> None:
        """TxnOffsetCommit."""
        self.coordinator.verify(producer, epoch, shown.group)
        group = self.group(shown.group)
        group.check(shown)
        group.promise(producer, dict(offsets))
        self._release(producer)

    def _mark(self, txn: Transactional, where: Place | str, commit: bool) -> None:  # noqa: FBT001
        if isinstance(where, str):
            self.group(where).mark(txn.producer, committed=commit)
        else:
            self.logs[where].mark(txn.producer, txn.epoch, committed=commit)
