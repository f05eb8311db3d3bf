"""A group of the classic protocol: members, generations, assignments, committed and pending offsets.

After apache/kafka `ClassicGroup` with static members and the range assignor.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import KafkaError

from topologies.engine.memory.coordinator import Refused
from topologies.engine.memory.log import Place
from topologies.engine.memory.timeline import Timeline

Committed = tuple[int, str | None]
"""(offset, metadata)."""
REBALANCE_S = 60.0
"""How long a rebalance waits for members that are alive but do not join again."""


class GroupMetadata(NamedTuple):
    """What a consumer shows of its membership."""

    group: str
    generation: int
    member: str
    instance: str | None


def ranges(topics: Mapping[str, Sequence[str]], partitions: Callable[[str], int]) -> dict[str, list[Place]]:
    """Kafka's range assignor: each topic is cut into runs, one for each member that wants it, in their order."""
    found: dict[str, list[Place]] = {name: [] for name in topics}
    for topic in sorted({topic for wanted in topics.values() for topic in wanted}):
        names = sorted(name for name, wanted in topics.items() if topic in wanted)
        few, more = divmod(partitions(topic), len(names))
        for index, name in enumerate(names):
            first = few * index + min(index, more)
            found[name] += [(topic, p) for p in range(first, first + few + (index < more))]
    return found


class Member:
    """One member as the coordinator knows it."""

    def __init__(self, name: str, topics: Sequence[str], session: float, alive: Callable[[], bool]) -> None:
        self.name = name
        self.topics = topics
        self.session = session
        self.alive = alive
        self.seen = 0.0
        self.joined = False
        self.assigned: list[Place] = []


class Offsets:
    """What a group has committed, and what open transactions will commit or not."""

    def __init__(self) -> None:
        self.offsets: dict[Place, Committed] = {}
        self._pending: dict[int, dict[Place, Committed]] = {}

    def promise(self, producer: int, offsets: dict[Place, Committed]) -> None:
        """TxnOffsetCommit: offsets that a transaction's marker will make true or void."""
        self._pending.setdefault(producer, {}).update(offsets)

    def mark(self, producer: int, *, committed: bool) -> None:
        """A transaction's marker arrived at the offsets topic."""
        found = self._pending.pop(producer, {})
        if committed:
            self.offsets.update(found)

    def promised(self, producer: int) -> dict[Place, Committed]:
        """What an open transaction will commit."""
        return self._pending.get(producer, {})

    def unstable(self, place: Place) -> bool:
        """Whether an open transaction holds an offset of this partition."""
        return any(place in offsets for offsets in self._pending.values())


class GroupCoordinator(Offsets):
    """One consumer group of static members. `partitions` gives the partition count of a topic."""

    def __init__(self, timeline: Timeline, partitions: Callable[[str], int]) -> None:
        super().__init__()
        self.generation = 0
        self.members: dict[str, Member] = {}
        """By instance id."""
        self.rebalances = 0
        self._timeline = timeline
        self._partitions = partitions
        self._preparing: float | None = None
        self._number = 0

    # -- members ---------------------------------------------------------------------------------

    def join(self, instance: str, name: str, topics: Sequence[str], session: float, alive: Callable[[], bool]) -> str:
        """JoinGroup; the member's name. A static member that comes back fences its former self."""
        member = self.members.get(instance)
        if name:
            self._known(instance, name)
        elif member is None:
            member = self.members[instance] = Member(self._name(instance), topics, session, alive)
            self._prepare()
        else:
            member.name, member.alive = self._name(instance), alive
        assert member is not None
        member.seen, member.joined = self._timeline.now, True
        self._complete()
        return member.name

    def _name(self, instance: str) -> str:
        self._number += 1
        return f"{instance}#{self._number}"

    def _known(self, instance: str | None, name: str) -> Member:
        member = self.members.get(instance or "")
        if member is None:
            raise Refused(KafkaError.UNKNOWN_MEMBER_ID)
        if member.name != name:
            raise Refused(KafkaError.FENCED_INSTANCE_ID)
        return member

    def _prepare(self) -> None:
        if self._preparing is None:
            for member in self.members.values():
                member.joined = False
        self._preparing = self._timeline.now + REBALANCE_S

    def _complete(self) -> None:
        if self._preparing is None or not all(member.joined for member in self.members.values()):
            return
        self._preparing = None
        self.generation += 1
        self.rebalances += 1
        shares = ranges({name: member.topics for name, member in self.members.items()}, self._partitions)
        for instance, member in self.members.items():
            member.assigned = shares[instance]

    def sync(self, instance: str, name: str) -> tuple[int, list[Place]] | None:
        """SyncGroup: generation and assignment, None while the group still waits for others."""
        member = self._known(instance, name)
        if not member.joined:
            raise Refused(KafkaError.REBALANCE_IN_PROGRESS)
        return None if self._preparing is not None else (self.generation, member.assigned)

    def heartbeat(self, instance: str, name: str, generation: int) -> None:
        """Refused with what the member has to know."""
        self._known(instance, name)
        if self._preparing is not None:
            raise Refused(KafkaError.REBALANCE_IN_PROGRESS)
        if generation != self.generation:
            raise Refused(KafkaError.ILLEGAL_GENERATION)

    def tick(self) -> None:
        """Notes heartbeats; ends sessions that have none, and those who hold up a rebalance."""
        now = self._timeline.now
        gone = []
        for instance, member in self.members.items():
            if member.alive():
                member.seen = now
            late = self._preparing is not None and now > self._preparing and not member.joined
            if now - member.seen > member.session or late:
                gone.append(instance)
        for instance in gone:
            del self.members[instance]
        if not gone:
            return
        if self.members:
            self._prepare()
            self._complete()
        else:
            self._preparing = None
            self.generation += 1

    def check(self, shown: GroupMetadata) -> None:
        """`ClassicGroup.validateOffsetCommit`: weak metadata passes, as it does in Kafka."""
        if shown.generation < 0 and not self.members:
            return
        if shown.generation >= 0 or shown.member or shown.instance is not None:
            self._known(shown.instance, shown.member)
            if shown.generation != self.generation:
                raise Refused(KafkaError.ILLEGAL_GENERATION)
