"""A group of the consumer protocol (KIP-848): each member is brought to its target by heartbeats, partition by partition.

After apache/kafka `ConsumerGroup` with static members and the range assignor.
"""

from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError

from topologies.engine.memory.coordinator import Refused
from topologies.engine.memory.log import Place
from topologies.engine.memory.members import GroupMetadata, Offsets, ranges
from topologies.engine.memory.timeline import Timeline

AT_ONCE = 3
"""Partitions that one heartbeat hands over at most: topics move apart from each other."""


class Reconciled:
    """One member as the coordinator knows it."""

    def __init__(self, name: str, topics: Sequence[str], alive: Callable[[], bool]) -> None:
        self.name = name
        self.topics = topics
        self.alive = alive
        self.epoch = 0
        self.seen = 0.0
        self.left = False
        """It said that it will come back."""
        self.held: set[Place] = set()
        """What it was given and has not given back."""


class ReconcilingGroup(Offsets):
    """One group; the session's length, s, is the broker's."""

    def __init__(self, timeline: Timeline, partitions: Callable[[str], int], session: float) -> None:
        super().__init__()
        self.epoch = 0
        self.rebalances = 0
        self.members: dict[str, Reconciled] = {}
        """By instance id."""
        self._timeline = timeline
        self._partitions = partitions
        self._session = session
        self._number = 0
        self._targets: dict[str, set[Place]] = {}

    def join(self, instance: str, topics: Sequence[str], alive: Callable[[], bool]) -> str:
        """The member's name. A static member that did not leave blocks its successor."""
        former = self.members.get(instance)
        if former is not None and not former.left:
            raise Refused(KafkaError.UNRELEASED_INSTANCE_ID)
        self._number += 1
        member = self.members[instance] = Reconciled(f"{instance}#{self._number}", topics, alive)
        member.seen = self._timeline.now
        if former is None:
            self._aim()
        return member.name

    def leave(self, instance: str, name: str) -> None:
        """A static member goes for a while: its share stays its own until its session ends."""
        member = self.members.get(instance)
        if member is not None and member.name == name:
            member.left, member.held = True, set()

    def _aim(self) -> None:
        self.epoch += 1
        self.rebalances += 1
        shares = ranges({name: member.topics for name, member in self.members.items()}, self._partitions)
        self._targets = {name: set(places) for name, places in shares.items()}

    def _known(self, instance: str | None, name: str) -> Reconciled:
        member = self.members.get(instance or "")
        if member is None or member.name != name or member.left:
            raise Refused(KafkaError.UNKNOWN_MEMBER_ID)
        return member

    def heartbeat(self, instance: str, name: str, held: set[Place]) -> tuple[int, set[Place]]:
        """The member tells what it holds, and hears its epoch and what it should hold by now."""
        member = self._known(instance, name)
        target = self._targets[instance]
        member.held &= held
        if member.held - target:
            return member.epoch, member.held & target
        taken = {place for other in self.members.values() if other is not member for place in other.held}
        free = sorted(target - member.held - taken)
        member.held |= set(free[:AT_ONCE])
        member.epoch = self.epoch
        return member.epoch, set(member.held)

    def tick(self) -> None:
        """Ends the sessions of members that are not heard of."""
        now = self._timeline.now
        for member in self.members.values():
            if member.alive() and not member.left:
                member.seen = now
        gone = [name for name, member in self.members.items() if now - member.seen > self._session]
        for name in gone:
            del self.members[name]
        if gone:
            self._aim()

    def check(self, shown: GroupMetadata) -> None:
        """A transaction's offsets must show a member and its latest epoch, unless nobody is a member."""
        if shown.generation < 0 and not self.members:
            return
        if self._known(shown.instance, shown.member).epoch != shown.generation:
            raise Refused(KafkaError.STALE_MEMBER_EPOCH)
